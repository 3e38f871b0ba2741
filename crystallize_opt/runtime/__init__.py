"""This process: event loops, signals, random state, arguments, optional libraries. Not public."""
