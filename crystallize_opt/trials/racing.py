"""Decides whether a trial could still be the best, from the replicates it shares with the best.

The rule is that of irace with its paired t-test, and of F-race: after each replicate, candidates
that are significantly worse than the best one on the same seeds are given up.

- M. Birattari, T. Stützle, L. Paquete, K. Varrentrapp: A racing algorithm for configuring
  metaheuristics. GECCO 2002, pp. 11-18.
- M. López-Ibáñez, J. Dubois-Lacoste, L. Pérez Cáceres, M. Birattari, T. Stützle: The irace package:
  iterated racing for automatic algorithm configuration. Operations Research Perspectives 3 (2016),
  pp. 43-58, section 2.1.

As there, p-values are not corrected for the number of tests. With several objectives, a trial is
given up if one trial of the Pareto front is significantly better in every objective (an
intersection-union test: R. L. Berger, Technometrics 24 (1982), pp. 295-300).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.best_so_far import BestSoFar
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.trials.values import mean_of


class Race:
    """The trials of a search that has begun further replicates only for some of them.

    Replicates are paired by their number. A replicate has the same seed in every trial, so that
    noise which comes with the seed cancels. (Pairs are also valid, only weaker, if each trial has
    seeds of its own.)

    Args:
        criterion: What makes a trial the best.
        alpha: A trial is given up if the one-sided p-value of a test is below it.

    Example:
        >>> from crystallize_opt.trials.objective import Objective
        >>> from crystallize_opt.trials.treatment import Treatment
        >>> race = Race(Criterion((Objective("loss", "minimize"),)), alpha=0.05)
        >>> def runs(*losses):
        ...     return [Replicate(i, i, {"loss": loss}) for i, loss in enumerate(losses)]
        >>> race.add(Observation.of_replicates(Treatment("trial_0"), runs(1.0, 3.0, 2.0)))
        >>> race.beaten_by(Treatment("trial_1"), runs(2.0, 4.1))
        'trial_0'
    """

    def __init__(self, criterion: Criterion, alpha: float) -> None:
        self._criterion = criterion
        self._alpha = alpha
        self._best: dict[Any, BestSoFar] = {}

    def add(self, observation: Observation) -> None:
        """Let later trials compete with a finished one."""
        self._best_like(observation.treatment).add(observation)

    def beaten_by(self, treatment: Treatment, replicates: Sequence[Replicate]) -> str | None:
        """Return the name of a trial that is significantly better; None if there is none.

        Args:
            treatment: The trial's treatment: only trials of the same fidelity are compared.
            replicates: The trial's replicates so far.
        """
        costs = self._costs_of(replicates)
        for rival in self._best_like(treatment).front:
            others = self._costs_of(rival.replicates)
            shared = [index for index in costs if index in others]
            if len(shared) > 1 and all(
                is_above_zero([costs[i][each] - others[i][each] for i in shared], self._alpha)
                for each in range(len(self._criterion.objectives))
            ):
                return rival.treatment.name
        return None

    def is_infeasible(self, replicates: Sequence[Replicate]) -> bool:
        """Whether a trial violates an outcome constraint significantly."""
        completed = [each for each in replicates if each.status is Status.COMPLETED]
        return any(
            is_above_zero([each.violation(run[each.metric]) for run in completed], self._alpha)
            for each in self._criterion.limits.values()
        )

    def _best_like(self, treatment: Treatment) -> BestSoFar:
        """Return the best of the trials with which one may be compared."""
        fidelity = self._criterion.fidelity
        level = None if fidelity is None else treatment.params[fidelity]
        if level not in self._best:
            self._best[level] = BestSoFar(self._criterion.changed(fidelity=None))
        return self._best[level]

    def _costs_of(self, replicates: Sequence[Replicate]) -> Mapping[int, list[float]]:
        objectives = self._criterion.objectives
        return {
            run.index: [each.sign * run[each.metric] for each in objectives]
            for run in replicates
            if run.status is Status.COMPLETED
        }


def is_above_zero(differences: Sequence[float], alpha: float) -> bool:
    """Whether the mean of differences is significantly above zero, by a one-sided t-test.

    Example:
        >>> is_above_zero([0.5, 0.6, 0.4], 0.05), is_above_zero([0.5, -0.6, 0.4], 0.05)
        (True, False)
    """
    count = len(differences)
    if count < 2:
        return False
    mean = mean_of(differences)
    if not (math.isfinite(mean) and mean > 0):
        return False
    # `hypot` takes the root of the sum of squares without an overflow of the squares.
    deviation = math.hypot(*(each - mean for each in differences))
    if deviation == 0:
        return True
    t = mean / deviation * math.sqrt(count * (count - 1))
    return upper_tail(t, count - 1) < alpha


def upper_tail(t: float, freedom: int) -> float:
    """Return the probability that Student's t exceeds a value that is not negative.

    The finite series of M. Abramowitz, I. A. Stegun: Handbook of Mathematical Functions, 26.7.3 and
    26.7.4.

    Args:
        t: The value.
        freedom: The degrees of freedom, a whole number of at least 1.

    Example:
        >>> round(upper_tail(6.3138, 1), 5), round(upper_tail(1.8331, 9), 5)
        (0.05, 0.05)
    """
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    total, term = 0.0, cosine if odd else 1.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= (power + 1) / (power + 2) * cosine * cosine
    within = (angle + sine * total) * 2 / math.pi if odd else sine * total
    return (1 - within) / 2
