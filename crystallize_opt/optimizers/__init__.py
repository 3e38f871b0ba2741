"""The ask/tell protocol, and the base of every optimizer over a search space."""
