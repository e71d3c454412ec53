"""Entries of the file system: listing, transfer and removal."""
