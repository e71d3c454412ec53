"""The dev command's preview listener: ports of the sandbox, each an origin of its own."""
