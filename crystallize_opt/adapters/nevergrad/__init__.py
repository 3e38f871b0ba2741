"""Nevergrad (extra `nevergrad`)."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.adapters.nevergrad.optimizer import NevergradOptimizer

__all__ = ["NevergradOptimizer"]

__getattr__ = lazy_names(
    __name__,
    {"NevergradOptimizer": "crystallize_opt.adapters.nevergrad.optimizer"},
    extra="nevergrad",
    libraries=("nevergrad",),
)
