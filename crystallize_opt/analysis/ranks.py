"""Tests of several optimizers on the same blocks: Friedman's, and Wilcoxon's for each pair.

A block is one experiment with one seed. The procedure is that of J. Demšar, Statistical comparisons
of classifiers over multiple data sets, Journal of Machine Learning Research 7, 2006, with blocks in
the place of data sets; the pairs are tested by Wilcoxon's signed-rank test, and corrected by Holm's
method, as S. García and F. Herrera recommend in the same journal, volume 9, 2008.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from crystallize_opt.analysis.paired import holm
from crystallize_opt.runtime.extras import needs

Costs = Mapping[str, Sequence[float]]
"""For each optimizer its cost in every block; infinite where it has no result. Lower is better."""


@dataclass(frozen=True)
class Pair:
    """The comparison of two optimizers over all blocks.

    Attributes:
        one: The name of the first.
        other: The name of the second.
        better: The name of the better one, if the corrected p-value is at most alpha; else None.
        p_value: The two-sided p-value, corrected by Holm's method for the number of pairs.
        raw_p_value: The p-value before that.
    """

    one: str
    other: str
    better: str | None
    p_value: float
    raw_p_value: float


def mean_ranks(costs: Costs) -> dict[str, float]:
    """Return the mean rank of each optimizer over the blocks; 1 is the best, ties share a rank.

    Example:
        >>> mean_ranks({"a": [0.1, 0.2], "b": [0.3, 0.2]})
        {'a': 1.25, 'b': 1.75}
    """
    totals = dict.fromkeys(costs, 0.0)
    blocks = list(zip(*costs.values(), strict=True))
    for block in blocks:
        for name, cost in zip(costs, block, strict=True):
            below = sum(other < cost for other in block)
            totals[name] += below + (block.count(cost) + 1) / 2
    return {name: total / len(blocks) for name, total in totals.items()}


def friedman(costs: Costs) -> float | None:
    """Return the p-value of Friedman's test that all optimizers rank alike; None for fewer than 3.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    with needs("Tests of a comparison need", "scipy", extra="analysis"):
        from scipy import stats
    values = [_finite(each, costs) for each in costs.values()]
    if len(values) < 3:
        return None
    if all(len(set(block)) == 1 for block in zip(*values, strict=True)):
        return 1.0  # SciPy would divide by zero.
    return float(stats.friedmanchisquare(*values).pvalue)


def pairs(costs: Costs, alpha: float) -> list[Pair]:
    """Test every pair of optimizers.

    Args:
        costs: The costs, in units that can be compared between blocks.
        alpha: The probability of at most this is an error among all pairs.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    with needs("Tests of a comparison need", "scipy", extra="analysis"):
        from scipy import stats
    found: list[tuple[str, str, float, float]] = []
    for one, other in combinations(costs, 2):
        sides = (_finite(costs[one], costs), _finite(costs[other], costs))
        differences = [ours - theirs for ours, theirs in zip(*sides, strict=True)]
        p_value = float(stats.wilcoxon(differences).pvalue) if any(differences) else 1.0
        found.append((one, other, p_value, _centre(differences)))
    corrected = holm([p_value for _, _, p_value, _ in found])
    return [
        Pair(
            one,
            other,
            (one if centre < 0 else other) if adjusted <= alpha and centre != 0 else None,
            adjusted,
            p_value,
        )
        for (one, other, p_value, centre), adjusted in zip(found, corrected, strict=True)
    ]


def _finite(costs: Sequence[float], all_costs: Costs) -> list[float]:
    """Replace infinite costs by one that is worse than all others."""
    known = [each for own in all_costs.values() for each in own if math.isfinite(each)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    worst = high + (high - low or 1.0)
    return [each if math.isfinite(each) else worst for each in costs]


def _centre(differences: Sequence[float]) -> float:
    """Return the difference of the signed ranks: its sign says which side is better."""
    order = sorted((each for each in differences if each), key=abs)
    ranks: dict[float, float] = {}
    for size in {abs(each) for each in order}:
        places = [place for place, each in enumerate(order, 1) if abs(each) == size]
        ranks[size] = math.fsum(places) / len(places)
    return math.fsum(math.copysign(ranks[abs(each)], each) for each in order)
