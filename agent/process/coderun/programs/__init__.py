"""Programs that run in the interpreters of the sandbox, started by their paths."""
