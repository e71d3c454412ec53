"""The timeline of the sandbox, for whoever wants to follow it."""
