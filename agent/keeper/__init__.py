"""The process that owns the socket and everything that outlives a request."""
