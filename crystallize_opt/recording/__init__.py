"""An optimizer that writes down what happens, and continues where it ended."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.recording.recorder import RecordedOptimizer

__all__ = ["RecordedOptimizer"]

# Not at once: SQLite and JSON take longer to import than all of this package.
__getattr__ = lazy_names(__name__, {"RecordedOptimizer": "crystallize_opt.recording.recorder"})
