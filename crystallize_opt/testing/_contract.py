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
from crystallize_opt.testing._warm_start import WarmStart


class OptimizerContract(
    Values, Tells, Failures, Results, FiniteSpaces, EnqueuedPoints, Repeats, WarmStart, SideEffects
):
    """Tests for every rule that an optimizer must keep. Subclass it and define `make_optimizer`.

    Class attributes declare known gaps and limit the cost of the tests. Name the subclass
    `Test...` and define it at the top level of a module, because one test builds it in another
    process.

    Attributes:
        known_gaps: A mapping from the name of a test to the reason why this optimizer fails the
            test, which becomes a strict xfail: remove the entry once the test passes.
            `"test_x[case]"` names one case of a test.
        asks_per_test: How many suggestions most tests ask for. If possible, choose more than the
            optimizer's initial design has.
        most_pending: The largest number of treatments that are pending at once.
        warm_asks: How many suggestions after a warm start are compared with those of a cold one.
        uses_seed: Whether different seeds give different suggestions. A grid has no randomness.
        trap_trials: How many trials to run in the test in which half of the space fails; 0 skips
            the test.
        trap_seeds: The seeds of the searches in that test.
        trap_share: The share of trials, in the second half of each search, that must lie outside
            of the failing half, on average. Random search has about 0.5: choose less for it.
    """
