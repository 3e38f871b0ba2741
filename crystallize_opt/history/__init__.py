"""The trials of a run, as a sequence and as a table: `History`."""

from crystallize_opt.history.history import History

__all__ = ["History"]
