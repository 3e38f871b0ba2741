"""Tests of paired differences: is the mean (or the centre) of the differences zero?

The null hypothesis of the permutation test and of the sequential test is that the differences are
symmetric about zero, which holds if candidate and baseline have the same distribution on common
seeds. That of the t-test is that they are normal about zero.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from crystallize_opt.errors import UsageError
from crystallize_opt.runtime.checks import finite_number
from crystallize_opt.runtime.extras import needs

Test = Literal["auto", "t", "wilcoxon", "permutation", "sequential"]
"""How the paired differences are tested."""

_RESAMPLES = 9999
_BETS = (0.25, 0.5, 1.0, 2.0)  # In units of the differences' size so far.
_CENTRES = 50  # How many of the differences the search for an interval tries as its beginning.


@dataclass(frozen=True)
class Tested:
    """What a test found: the p-value, before any correction, and the interval of the effect."""

    p_value: float
    interval: tuple[float, float]


def checked_alpha(alpha: Any) -> float:
    """Return an error rate.

    Raises:
        UsageError: It is no number between 0 and 1.
    """
    rate = finite_number("alpha", alpha, above=0)
    if rate >= 1:
        raise UsageError(f"alpha is an error rate between 0 and 1, such as 0.05, not {alpha!r}.")
    return rate


def checked_test(test: str) -> Test:
    """Return the name of a test.

    Raises:
        UsageError: There is no such test.
    """
    if test not in get_args(Test):
        raise UsageError(f"test= is one of {', '.join(map(repr, get_args(Test)))}, not {test!r}.")
    return test  # type: ignore[return-value]


def chosen_test(test: Test, pairs: int, alpha: float, comparisons: int) -> Test:
    """Return the test that "auto" means.

    The choice depends on the numbers of pairs and comparisons only, never on the data: the
    permutation test, whose smallest p-value is 2 / 2**pairs, if that reaches alpha / comparisons;
    else the t-test.
    """
    if test != "auto":
        return test
    return "permutation" if 2.0 ** (1 - pairs) <= alpha / comparisons else "t"


def paired_test(differences: Sequence[float], test: Test, level: float) -> Tested:
    """Test whether differences are zero on average, on both sides.

    Args:
        differences: One for each pair; at least two.
        test: The test; not "auto".
        level: The error rate of the interval: 0.05 for a 95 % interval.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    if test == "sequential":
        return Tested(1 / _largest_evidence(differences), _confidence_sequence(differences, level))
    first = differences[0]
    if all(each == first for each in differences):  # SciPy would warn, and return nan.
        p_value = 1.0 if first == 0 else 0.0 if test == "t" else 2.0 ** (1 - len(differences))
        return Tested(p_value, (first, first))
    with needs("Tests of paired differences need", "scipy", "numpy", extra="analysis"):
        import numpy as np
        import scipy.stats  # noqa: F401  (`_tested` uses it)
    # Scaled by a power of 2, which changes no digit, because squares may overflow or vanish.
    unit = math.ldexp(1.0, math.frexp(max(map(abs, differences)))[1] - 1)
    # SciPy warns where differences are equal but for rounding.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        found = _tested(np.asarray(differences) / unit, test, level)
    low, high = found.interval
    return Tested(found.p_value, (low * unit, high * unit))


def _tested(differences: Any, test: Test, level: float) -> Tested:
    import numpy as np
    from scipy import stats

    if test == "t":
        result = stats.ttest_1samp(differences, 0.0)
        low, high = result.confidence_interval(1 - level)
        return Tested(float(result.pvalue), (float(low), float(high)))
    if test == "wilcoxon":
        p_value = float(stats.wilcoxon(differences).pvalue)
    else:
        p_value = float(
            stats.permutation_test(
                (differences, np.zeros(len(differences))),
                _difference_of_means,
                permutation_type="samples",
                vectorized=True,
                n_resamples=_RESAMPLES,
                rng=np.random.default_rng(0),  # The same data give the same p-value.
            ).pvalue
        )
    low = high = math.nan
    for method in ("BCa", "percentile"):
        found = stats.bootstrap(
            (differences,),
            np.mean,
            confidence_level=1 - level,
            method=method,
            n_resamples=_RESAMPLES,
            rng=np.random.default_rng(0),
        ).confidence_interval
        low, high = float(found.low), float(found.high)
        # BCa divides by the spread of the differences, which rounding alone may be.
        if not (math.isnan(low) or math.isnan(high)):
            break
    return Tested(p_value, (low, high))


def _difference_of_means(x: Any, y: Any, axis: int = -1) -> Any:
    return x.mean(axis=axis) - y.mean(axis=axis)


# The sequential test ------------------------------------------------------------------------------


def evidence(differences: Sequence[float]) -> list[float]:
    """Return the evidence against symmetry about zero after each difference: an e-process.

    The sign of a difference that is symmetric about zero is a fair coin, whatever its size. So
    1 + tanh(c |d| / s) sign(d), with a size s computed from the absolute values so far, has the
    expectation 1, and its products are a nonnegative martingale; so is the mean over several bets
    c, positive and negative. By Ville's inequality the probability that it ever reaches 1 / alpha
    is at most alpha, whenever one stops. (A. Ramdas, J. Ruf, M. Larsson, W. Koolen: Admissible
    anytime-valid sequential inference must rely on nonnegative martingales, arXiv:2009.03167, 2020,
    of which the test of symmetry is the main example.)
    """
    bets = [sign * bet for bet in _BETS for sign in (1, -1)]
    logs = [0.0] * len(bets)
    found: list[float] = []
    largest = squares = 0.0
    for count, difference in enumerate(differences, 1):
        # Scaled by the largest absolute value, because squares may overflow or vanish.
        size = abs(difference)
        if size > largest:
            squares, largest = squares * (largest / size) ** 2, size
        if largest > 0:
            squares += (size / largest) ** 2
            unit = (difference / largest) / math.sqrt(squares / count)
            won = [_log_1_plus_tanh(c * unit) for c in bets]
            logs = [log + gain for log, gain in zip(logs, won, strict=True)]
        top = max(logs)
        found.append(math.exp(min(top, 700.0)) * math.fsum(math.exp(log - top) for log in logs))
        found[-1] /= len(bets)
    return found


def _largest_evidence(differences: Sequence[float]) -> float:
    return max(1.0, *evidence(differences))


def _log_1_plus_tanh(z: float) -> float:
    """Return log(1 + tanh(z)), also where `math.tanh` is -1."""
    return math.log(2) + min(0.0, 2 * z) - math.log1p(math.exp(-2 * abs(z)))


def _confidence_sequence(differences: Sequence[float], level: float) -> tuple[float, float]:
    """Return the mean and the centres that the evidence never rejected, with all between them.

    The centres are valid whenever one stops, so more of them are valid as well. The search for the
    ends begins at centres that are not rejected. Where many differences are equal, that may be
    their value alone: the mean then need not be such a centre.

    Without any, the differences are symmetric about nothing, and the interval has no ends.
    """
    mean = math.fsum(each / len(differences) for each in differences)
    span = max(abs(each - mean) for each in differences) or abs(mean) or 1.0

    def rejected(centre: float) -> bool:
        return _largest_evidence([each - centre for each in differences]) >= 1 / level

    ordered = sorted(differences)
    often = [each for each, times in Counter(ordered).most_common(_CENTRES) if times > 1]
    spread = ordered[:: math.ceil(len(ordered) / _CENTRES)]
    kept = [each for each in {0.0, mean, *often, *spread} if not rejected(each)]
    if not kept:
        return -math.inf, math.inf

    def end(start: float, sign: int) -> float:
        inside, outside = 0.0, 1.0
        while not rejected(start + sign * outside * span):
            inside, outside = outside, outside * 2
            if outside > 1e6:
                return sign * math.inf
        for _ in range(50):
            middle = (inside + outside) / 2
            if rejected(start + sign * middle * span):
                outside = middle
            else:
                inside = middle
        return start + sign * outside * span

    return min(mean, end(min(kept), -1)), max(mean, end(max(kept), 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's method, in the order given.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
