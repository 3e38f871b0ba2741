"""An optimizer that stores every call, and resumes where a stored run ended."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.recording.recorder import RecordedOptimizer

__all__ = ["RecordedOptimizer"]

# Imported on first use: SQLite and JSON take longer to import than the rest of the package.
__getattr__ = lazy_names(__name__, {"RecordedOptimizer": "crystallize_opt.recording.recorder"})
