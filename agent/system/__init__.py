"""What the agent is and runs on: version, directories, health, metrics, environment."""
