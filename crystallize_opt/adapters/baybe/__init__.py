"""BayBE (extra `baybe`)."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.adapters.baybe.optimizer import BayBEOptimizer

__all__ = ["BayBEOptimizer"]

__getattr__ = lazy_names(
    __name__,
    {"BayBEOptimizer": "crystallize_opt.adapters.baybe.optimizer"},
    extra="baybe",
    libraries=("baybe",),
)
