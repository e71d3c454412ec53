"""The agent's version, the one place that has it."""

VERSION = "0.1.0"
