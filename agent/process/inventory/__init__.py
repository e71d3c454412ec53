"""What the agent runs, and the end of any part of it."""
