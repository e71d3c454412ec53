"""The agent in numbers, for Prometheus."""
