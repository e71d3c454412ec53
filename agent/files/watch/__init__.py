"""Tells of changes below a directory as they happen."""
