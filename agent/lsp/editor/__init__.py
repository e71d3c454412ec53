"""What editors ask language servers, beyond the published API; all of it is our own."""
