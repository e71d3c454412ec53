"""Programs that git runs for us; each stands alone."""
