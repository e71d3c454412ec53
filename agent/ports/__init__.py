"""Who listens in the sandbox, and the way to them."""
