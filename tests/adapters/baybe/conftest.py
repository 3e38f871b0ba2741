"""The adapter imports BayBE, and drops the warnings of the import, before any test does."""

import gc

from crystallize_opt import Objective, adapters

# At the import of each of its modules, BayBE has all garbage collected, which takes a third of a
# second among a million objects of other tests.
gc.freeze()
adapters.BayBEOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"))
