"""What follows from seeds that trials share: for standard errors, and for repeated points."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status


class SharedSeeds:
    """Decides whether the scatter of a trial's replicates is noise of that trial alone.

    With common random numbers, replicate r has the same seed in every trial. The noise of the
    replicates then moves all trials up or down together: their differences, which a search looks
    at, are known much better than the scatter within a trial suggests. A model that is told the
    scatter as an independent standard error of each trial takes real differences for noise (see
    `benchmarks/shared_noise.py`). Then no standard error is told, and the model estimates the noise
    that is left.

    Seeds are compared with those of all earlier trials. Replicates without a seed, and standard
    errors that were given by hand, without replicates, are a trial's own, unless the observation
    says that its noise is shared, as one from a table may (`shared_in` decides what a table says).
    """

    def __init__(self) -> None:
        self._seeds: set[int] = set()
        self._effects = SeedEffects()

    def told(self, observation: Observation) -> Observation:
        """Return an observation as a backend learns it: without standard errors of shared noise.

        A mean over fewer of the shared seeds than other trials have becomes comparable with theirs:
        see `SeedEffects`. The recorded mean stays as it is.

        The first trial keeps its standard errors, because it has nobody to share seeds with yet. As
        later trials then have none, a backend that needs them for every trial ignores them.
        """
        if observation.shared_noise:
            return dataclasses.replace(observation, sem={})
        replicates = observation.replicates
        if len(replicates) < 2:
            return observation
        seeds = _seeds_of(observation)
        is_shared = not seeds.isdisjoint(self._seeds) or _repeats(observation, seeds)
        self._seeds |= seeds
        if not is_shared:
            self._effects.add(observation)
            return observation
        told = self._effects.left_out_of(dataclasses.replace(observation, sem={}))
        self._effects.add(observation)
        return told


class SeedEffects:
    """How much each seed moves all trials up or down, by the trials with the most seeds.

    If trials have different numbers of replicates, a mean over the first two seeds differs from one
    over ten also by what these two seeds have in common in all trials. This is left out: the mean
    over the seeds of a trial, minus the mean of their effects. The effect of a seed is the mean,
    over the trials that have all seeds, of the difference between the value with this seed and the
    trial's own mean. These are the least-squares estimates of a two-way layout (trial + seed) in
    which some trials lack seeds (F. Yates: The analysis of replicated experiments when the field
    results are incomplete. Empire Journal of Experimental Agriculture 1 (1933), pp. 129-142), but
    for the trials that lack seeds, from which no effects are estimated.
    """

    def __init__(self) -> None:
        self._most: frozenset[int] = frozenset()
        self._trials = 0
        self._sums: dict[str, dict[int, float]] = {}  # Metric and seed -> the sum of differences.

    def add(self, observation: Observation) -> None:
        """Estimate the effects from one more trial."""
        values = _by_seed(observation)
        seeds = frozenset(values)
        if len(seeds) > len(self._most):
            self._most, self._trials, self._sums = seeds, 0, {}
        if not seeds or seeds != self._most:
            return
        self._trials += 1
        for metric, mean in observation.metrics.items():
            sums = self._sums.setdefault(metric, dict.fromkeys(seeds, 0.0))
            for seed, metrics in values.items():
                sums[seed] += metrics.get(metric, mean) - mean

    def left_out_of(self, observation: Observation) -> Observation:
        """Return a trial with the means that it would have with all seeds."""
        seeds = _by_seed(observation).keys()
        if not seeds or not seeds < self._most:  # A pruned trial has no mean to compare.
            return observation
        metrics = dict(observation.metrics)
        for metric, sums in self._sums.items():
            if metric in metrics:
                effects = math.fsum(sums[seed] for seed in seeds) / self._trials
                metrics[metric] -= effects / len(seeds)
        return dataclasses.replace(observation, metrics=metrics)


def _by_seed(observation: Observation) -> dict[int, Mapping[str, float]]:
    """Return the metrics of the completed replicates of a completed trial."""
    if observation.status is not Status.COMPLETED:
        return {}
    return {
        each.seed: each.metrics
        for each in observation.replicates
        if each.status is Status.COMPLETED and each.seed is not None
    }


def is_known(observation: Observation, seed_of: Callable[[int], int]) -> bool:
    """Whether another trial of the same point would have this outcome.

    That is so if the trial completed and its replicates had the seeds that every trial gets. Seeds
    that a plugin chose for this trial alone are others: to try the point again then teaches more.

    Args:
        observation: The outcome of a trial that ran.
        seed_of: Returns the seed of a replicate in every trial: see `SeedPlugin.seed_of`.
    """
    if observation.status is not Status.COMPLETED or observation.repeats is not None:
        return False
    for each in observation.replicates:  # noqa: SIM110  (`all` with a generator takes twice the time)
        if each.seed != seed_of(each.index):
            return False
    return True


def shared_in(observations: Sequence[Observation]) -> list[bool]:
    """Return for each trial whether its replicates' noise is not its own, as all trials show it.

    Unlike `SharedSeeds`, which hears of trials one by one, this knows later trials, too.
    """
    seeds = [_seeds_of(each) for each in observations]
    trials_with = Counter(seed for each in seeds for seed in each)
    return [
        observation.shared_noise
        or _repeats(observation, own)
        or any(trials_with[seed] > 1 for seed in own)
        for observation, own in zip(observations, seeds, strict=True)
    ]


def _seeds_of(observation: Observation) -> set[int]:
    return {each.seed for each in observation.replicates if each.seed is not None}


def _repeats(observation: Observation, seeds: set[int]) -> bool:
    """Whether replicates of a trial have one seed: they repeat one run, and are no noise of it."""
    return 0 < len(seeds) < len(observation.replicates)
