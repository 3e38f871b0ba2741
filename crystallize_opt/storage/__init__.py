"""Stored runs: where a search is written, and how a stored run is read."""

from crystallize_opt.storage.settings import Storage

__all__ = ["Storage"]
