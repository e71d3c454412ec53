"""The HTTP kit: typed route tables, guard, errors, server, websockets and OpenAPI."""
