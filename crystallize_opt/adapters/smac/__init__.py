"""SMAC (extra `smac`)."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.adapters.smac.history import history_from_smac
    from crystallize_opt.adapters.smac.optimizer import SMACOptimizer

__all__ = ["SMACOptimizer", "history_from_smac"]

__getattr__ = lazy_names(
    __name__,
    {
        "SMACOptimizer": "crystallize_opt.adapters.smac.optimizer",
        "history_from_smac": "crystallize_opt.adapters.smac.history",
    },
    extra="smac",
    libraries=(
        "smac",
        "ConfigSpace",
    ),
)
