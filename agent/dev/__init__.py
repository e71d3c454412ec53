"""A local stand-in of the control plane, for development only."""
