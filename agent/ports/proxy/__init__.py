"""The reverse proxy to what listens in the sandbox."""
