"""This process: event loops, signals, random state, checks of arguments, optional libraries."""
