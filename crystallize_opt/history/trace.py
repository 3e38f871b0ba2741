"""The trace of an optimization as numbers: what a picture of it shows, however it is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.best_so_far import BestSoFar
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status

LARGEST = 1e300
"""The largest number in a picture: the range of an axis must not overflow."""

TRIAL, VIOLATES, PRUNED = "trial", "violates a constraint", "pruned"


def drawable(value: float) -> float:
    """Return a number as pictures show it: the largest floats have no place on an axis."""
    return max(-LARGEST, min(LARGEST, value)) if math.isfinite(value) else value


@dataclass(frozen=True)
class Trace:
    """The values of one objective over the trials, which count from 1.

    Attributes:
        objective: The objective.
        count: The number of trials.
        points: The trials with a value, as number and value: `TRIAL`, `VIOLATES` and `PRUNED`.
        best: The best value up to each trial; nan before the first.
        failed: The numbers of the trials that failed.
        baseline: The value of the baseline, or None.
    """

    objective: Objective
    count: int
    points: dict[str, list[tuple[int, float]]]
    best: list[float]
    failed: list[int]
    baseline: float | None

    @property
    def cut(self) -> Cut | None:
        """Where the picture ends, so that its worst values do not squeeze all others."""
        values = [value for kind in (TRIAL, VIOLATES) for _, value in self.points[kind]]
        pruned = [value for _, value in self.points[PRUNED]]
        return cut_off(values, self.objective.sign, pruned)


@dataclass(frozen=True)
class Cut:
    """The range of values that a picture shows, and how many trials lie beyond it."""

    low: float
    high: float
    beyond: int


def traces(
    trials: Sequence[Observation], criterion: Criterion, baseline: Observation | None
) -> list[Trace]:
    """Return the trace of each objective."""
    return [_trace(trials, criterion, objective, baseline) for objective in criterion.objectives]


def _trace(
    trials: Sequence[Observation],
    criterion: Criterion,
    objective: Objective,
    baseline: Observation | None,
) -> Trace:
    own = criterion.changed(objectives=(objective,))
    points: dict[str, list[tuple[int, float]]] = {TRIAL: [], VIOLATES: [], PRUNED: []}
    so_far, best, metric = BestSoFar(own), [], objective.metric
    for number, each in enumerate(trials, 1):
        so_far.add(each)
        best.append(math.nan if so_far.best is None else drawable(so_far.best[metric]))
        if each.status.has_value and metric in each.metrics:
            kind = PRUNED if each.status is Status.PRUNED else VIOLATES
            kind = TRIAL if own.is_candidate(each) else kind
            points[kind].append((number, drawable(each[metric])))
    against = None if baseline is None else baseline.metrics.get(metric)
    return Trace(
        objective,
        len(trials),
        points,
        best,
        [number for number, each in enumerate(trials, 1) if each.status.has_failed],
        None if against is None else drawable(against),
    )


def cut_off(values: Sequence[float], sign: int, others: Sequence[float] = ()) -> Cut | None:
    """Return the range to show where the worst values would squeeze all others, else None.

    Args:
        values: The values of completed trials.
        sign: 1 if low values are good, -1 if high ones are.
        others: Values that may be cut off in any case, such as those of pruned trials.
    """
    costs = sorted(sign * value for value in values)
    if not costs:
        return None
    edge = costs[-1]
    if len(costs) >= 10:
        high = costs[int(0.9 * (len(costs) - 1))]
        if costs[-1] - costs[0] > 5 * (high - costs[0]):
            edge = high + 0.5 * (high - costs[0])
    beyond = sum(sign * value > edge for value in (*values, *others))
    if not beyond or edge == costs[0]:
        return None
    margin = 0.05 * (edge - costs[0])
    low, high = sorted((sign * (costs[0] - margin), sign * (edge + margin)))
    return Cut(low, high, beyond)
