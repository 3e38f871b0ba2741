"""Runs on disk."""

from crystallize_opt.storage.settings import Storage

__all__ = ["Storage"]
