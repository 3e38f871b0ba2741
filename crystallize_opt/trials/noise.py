"""What follows from seeds that trials share: for standard errors, and for repeated points."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

from crystallize_opt.trials.observation import Observation, Status


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

    def told(self, observation: Observation) -> Observation:
        """Return an observation as a backend learns it: without standard errors of shared noise.

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
        return dataclasses.replace(observation, sem={}) if is_shared else observation


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
