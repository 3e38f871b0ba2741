"""Nevergrad, imported without side effects; the other modules get it from here.

Its import draws from numpy's global generator, the settings of some optimizers of its registry
among others. They are drawn from a seed, so that they are the same in every process.
"""

from __future__ import annotations

from crystallize_opt.runtime.quiet_import import quiet_import
from crystallize_opt.runtime.random_state import CallersRandomState, seed_global_random_state

with quiet_import("Nevergrad", "nevergrad"), CallersRandomState():
    seed_global_random_state(0)
    import nevergrad as ng  # Before numpy: if it is missing, the error must name Nevergrad.
    import numpy as np
    from nevergrad.common.errors import TellNotAskedNotSupportedError
    from nevergrad.optimization import metamodel
    from nevergrad.optimization.base import ConfiguredOptimizer, Optimizer

__all__ = [
    "ConfiguredOptimizer",
    "Optimizer",
    "TellNotAskedNotSupportedError",
    "metamodel",
    "ng",
    "np",
]
