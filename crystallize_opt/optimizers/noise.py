"""Which standard errors an optimizer learns: those of a trial's own noise, and no others."""

from __future__ import annotations

import dataclasses

from crystallize_opt.trials.observation import Observation


class SharedSeeds:
    """Decides whether the scatter of a trial's replicates is noise of that trial alone.

    With common random numbers, replicate r has the same seed in every trial. The noise of the
    replicates then moves all trials up or down together: their differences, which a search looks
    at, are known much better than the scatter within a trial suggests. A model that is told the
    scatter as an independent standard error of each trial takes real differences for noise (see
    `benchmarks/shared_noise.py`). Then no standard error is told, and the model estimates the noise
    that is left.

    Seeds are compared with those of all earlier trials. Replicates without a seed, and standard
    errors that were given by hand, without replicates, are a trial's own.
    """

    def __init__(self) -> None:
        self._seeds: set[int] = set()

    def told(self, observation: Observation) -> Observation:
        """Return an observation as a backend learns it: without standard errors of shared noise.

        The first trial keeps its standard errors, because it has nobody to share seeds with yet. As
        later trials then have none, a backend that needs them for every trial ignores them.
        """
        replicates = observation.replicates
        if len(replicates) < 2:
            return observation
        seeds = {each.seed for each in replicates if each.seed is not None}
        # A trial whose replicates all have one seed repeats one run: its scatter is no noise of it.
        is_shared = not seeds.isdisjoint(self._seeds) or 0 < len(seeds) < len(replicates)
        self._seeds |= seeds
        return dataclasses.replace(observation, sem={}) if is_shared else observation
