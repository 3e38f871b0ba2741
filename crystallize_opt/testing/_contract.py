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
    """Tests of every promise of an optimizer. Subclass this class and supply `make_optimizer`.

    Class attributes declare known gaps, and limit how much the tests cost. Name the subclass
    `Test...` and define it at the top level of a module, because one test builds it in another
    process.

    Attributes:
        known_gaps: The name of a test to the reason why this optimizer fails it. The test becomes a
            strict xfail: remove the entry once it passes. `"test_x[case]"` names one case of a
            test.
        asks_per_test: How many suggestions most tests ask for. If possible, choose more than the
            optimizer's initial design.
        most_pending: The largest number of treatments that are pending at once.
        uses_seed: Whether different seeds give different suggestions. A grid has no randomness.
        trap_trials: The number of trials in the search of which half of the space fails; 0 skips
            that test.
        trap_seeds: The seeds with which that search is run.
        trap_share: The share of the last half of its trials that must be outside of the failing
            half, on average. A search that learns nothing has about 0.5: choose less for it.
    """
