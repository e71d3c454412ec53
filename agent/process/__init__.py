"""Commands that run to completion."""
