"""Terminals: interactive shells that outlive their clients."""
