"""The adapter imports BayBE, and drops the warnings of the import, before any test does."""

from crystallize_opt import Objective
from crystallize_opt.adapters import BayBEOptimizer

BayBEOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"))
