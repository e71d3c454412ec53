"""Shells that keep their state: sessions, their commands, logs and input."""
