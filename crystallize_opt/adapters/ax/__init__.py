"""Ax (extra `ax`)."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.adapters.ax.history import history_from_ax
    from crystallize_opt.adapters.ax.optimizer import AxOptimizer

__all__ = ["AxOptimizer", "history_from_ax"]

__getattr__ = lazy_names(
    __name__,
    {
        "AxOptimizer": "crystallize_opt.adapters.ax.optimizer",
        "history_from_ax": "crystallize_opt.adapters.ax.history",
    },
    extra="ax",
    libraries=("ax",),
)
