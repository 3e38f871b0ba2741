"""The optimizers, each in a module of its own that is imported when its name is first used.

`RandomOptimizer` and `GridOptimizer` need no other library. Each of the others needs the extra of
its module's name: `crystallize_opt.adapters.optuna` needs `crystallize-opt[optuna]`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import MissingExtraError

if TYPE_CHECKING:
    from crystallize_opt.adapters.grid import GridOptimizer
    from crystallize_opt.adapters.optuna import OptunaOptimizer
    from crystallize_opt.adapters.random import RandomOptimizer

__all__ = ["GridOptimizer", "OptunaOptimizer", "RandomOptimizer"]

# Name of the class -> module here, and the libraries its extra installs.
_OPTIMIZERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "GridOptimizer": ("grid", ()),
    "OptunaOptimizer": ("optuna", ("optuna",)),
    "RandomOptimizer": ("random", ()),
}


def __getattr__(name: str) -> Any:
    if name not in _OPTIMIZERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, libraries = _OPTIMIZERS[name]
    try:
        loaded = importlib.import_module(f"{__name__}.{module}")
    except ModuleNotFoundError as error:
        if error.name not in libraries:  # A broken installation of the library: show its cause.
            raise
        raise MissingExtraError(
            f"{name} needs {error.name}, which is not installed. Run: "
            f'pip install "crystallize-opt[{module}]"',
            name=error.name,
        ) from error
    return getattr(loaded, name)


def __dir__() -> list[str]:
    return __all__
