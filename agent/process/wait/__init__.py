"""One request that waits for things to happen."""
