"""The adapter imports BayBE, and drops the warnings of the import, before any test does."""

import gc

from crystallize_opt import Objective
from crystallize_opt.adapters import BayBEOptimizer

# Each of BayBE's modules has all garbage collected when it is imported, which takes a third of a
# second if it looks through the other tests, too.
gc.freeze()
BayBEOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"))
