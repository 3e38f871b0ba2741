"""The optimizers, each in a module of its own that is imported when its name is first used.

`RandomOptimizer` and `GridOptimizer` need no other library. Each of the others needs the extra of
its module's name: `crystallize_opt.adapters.optuna.optimizer` needs `crystallize-opt[optuna]`.

`available_optimizers()` says which are installed, what is missing and why, and which optimizers
other packages register. `python -m crystallize_opt.adapters` prints it.
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
    from crystallize_opt.adapters.grid import GridOptimizer
    from crystallize_opt.adapters.optuna.optimizer import OptunaOptimizer
    from crystallize_opt.adapters.random import RandomOptimizer
    from crystallize_opt.adapters.smac.optimizer import SMACOptimizer

__all__ = [
    "AvailableOptimizer",
    "AxOptimizer",
    "GridOptimizer",
    "OptunaOptimizer",
    "RandomOptimizer",
    "SMACOptimizer",
    "available_optimizers",
]


def __getattr__(name: str) -> Any:
    # Not the plug-ins: no type checker could see them, and every misspelt name would have to be
    # looked for in all installed distributions.
    if name not in OPTIMIZERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load_ours(name)


def __dir__() -> list[str]:
    return __all__
