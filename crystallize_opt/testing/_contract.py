"""The contract: all of its parts in one class."""

from __future__ import annotations

from crystallize_opt.testing._enqueued import EnqueuedPoints
from crystallize_opt.testing._failures import Failures
from crystallize_opt.testing._finite import FiniteSpaces
from crystallize_opt.testing._repeats import Repeats
from crystallize_opt.testing._results import Results
from crystallize_opt.testing._side_effects import SideEffects
from crystallize_opt.testing._tells import Tells
from crystallize_opt.testing._values import Values


class OptimizerContract(
    Values, Tells, Failures, Results, FiniteSpaces, EnqueuedPoints, Repeats, SideEffects
):
    """Every promise of an optimizer, as tests. Subclass it and supply `make_optimizer`.

    Class attributes say what is known to be missing, and how much the tests may cost. Name the
    subclass `Test...`, at the top level of a module: one test builds it in another process.

    Attributes:
        known_gaps: Name of a test to the reason why this optimizer fails it, which becomes a strict
            xfail: the day it passes, the entry must go. `"test_x[case]"` names one case of a test.
        asks_per_test: How many suggestions most tests ask for. More than the optimizer's initial
            design, where that is affordable.
        most_pending: How many treatments are pending at once, at most.
        uses_seed: Whether different seeds give different suggestions. A grid has no randomness.
        trap_trials: How long the search is in which half of the space fails; 0 skips that test.
        trap_seeds: With which seeds it is run.
        trap_share: Which share of the last half of its trials must be outside of the failing half,
            on average. A search that learns nothing has 0.5 by luck only: give it less.
    """
