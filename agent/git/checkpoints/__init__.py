"""Snapshots of directories, kept in a private store outside them."""
