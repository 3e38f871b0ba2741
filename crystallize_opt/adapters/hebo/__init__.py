"""HEBO (extra `hebo`), which needs an environment of its own: see `adapters/environments.py`."""

from crystallize_opt.adapters.hebo.optimizer import HEBOOptimizer

__all__ = ["HEBOOptimizer"]
