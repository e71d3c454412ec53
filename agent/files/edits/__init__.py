"""Edits of several files at once: all or nothing, with an undo."""
