"""Stored runs: the journal, what is written in it, and going on from it."""
