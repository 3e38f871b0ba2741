"""Tools for this process: event loops, signals, random state, optional libraries. Not public."""
