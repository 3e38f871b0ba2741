"""NePS (extra `neps`), which needs an environment of its own: see `adapters/environments.py`."""

from crystallize_opt.adapters.neps.optimizer import NePSOptimizer

__all__ = ["NePSOptimizer"]
