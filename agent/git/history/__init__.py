"""Looks at what changed: differences, commits, and who wrote a line."""
