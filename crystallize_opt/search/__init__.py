"""The loop of a search, its settings, and what watches it."""
