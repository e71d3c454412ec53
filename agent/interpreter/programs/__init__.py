"""Programs that run inside the sandbox's own interpreters, started by their paths."""
