"""Small rooms for the tests of opening rooms."""

EVENTS: list[str] = []
"""What the rooms did, in order."""
