"""Other tools: experiment trackers."""
