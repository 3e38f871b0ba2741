"""The optimizers. Each one's module is imported when its name is first used.

`RandomOptimizer` and `GridOptimizer` need no other library. Every other optimizer needs the extra
with the name of its package: `crystallize_opt.adapters.optuna` needs `crystallize-opt[optuna]`.

`available_optimizers()` lists the optimizers of this package and of plug-ins, and says which are
installed and what is missing. `python -m crystallize_opt.adapters` prints the list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crystallize_opt.adapters.registry import (
    OPTIMIZERS,
    AvailableOptimizer,
    available_optimizers,
    load_ours,
)

if TYPE_CHECKING:
    from crystallize_opt.adapters.ax.optimizer import AxOptimizer
    from crystallize_opt.adapters.baybe.optimizer import BayBEOptimizer
    from crystallize_opt.adapters.grid import GridOptimizer
    from crystallize_opt.adapters.hebo.optimizer import HEBOOptimizer
    from crystallize_opt.adapters.neps.optimizer import NePSOptimizer
    from crystallize_opt.adapters.nevergrad.optimizer import NevergradOptimizer
    from crystallize_opt.adapters.optuna.optimizer import OptunaOptimizer
    from crystallize_opt.adapters.random import RandomOptimizer
    from crystallize_opt.adapters.remote.optimizer import RemoteOptimizer
    from crystallize_opt.adapters.smac.optimizer import SMACOptimizer

__all__ = [
    "AvailableOptimizer",
    "AxOptimizer",
    "BayBEOptimizer",
    "GridOptimizer",
    "HEBOOptimizer",
    "NePSOptimizer",
    "NevergradOptimizer",
    "OptunaOptimizer",
    "RandomOptimizer",
    "RemoteOptimizer",
    "SMACOptimizer",
    "available_optimizers",
]


def __getattr__(name: str) -> Any:
    # Plug-ins are no attributes here: type checkers could not see them, and every misspelt name
    # would cause a search of all installed distributions.
    if name == "RemoteOptimizer":  # It runs the others, so it is not listed beside them.
        from crystallize_opt.adapters.remote import RemoteOptimizer

        return RemoteOptimizer
    if name not in OPTIMIZERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load_ours(name)


def __dir__() -> list[str]:
    return __all__
