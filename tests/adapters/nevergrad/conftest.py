"""The adapter imports Nevergrad, and drops the warnings of the import, before any test does."""

from crystallize_opt.adapters import NevergradOptimizer

__all__ = ["NevergradOptimizer"]
