"""Repositories: local work and remotes, by the git program behind guards."""
