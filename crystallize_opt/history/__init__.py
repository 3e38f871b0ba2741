"""The trials of a run, as a sequence and as a table."""
