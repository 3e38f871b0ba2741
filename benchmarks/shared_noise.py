"""How well Ax searches with replicates, by what it is told of their noise.

The loss is (x - 0.3)^2 plus normal noise. In most rows, replicate r has the same seed in every
trial (common random numbers), as in `Experiment.optimize`. The regret is that of the best trial's
true loss and, in the last column, the mean over the last six of 14 trials. Run:

    python benchmarks/shared_noise.py --seeds 10
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
from collections.abc import Callable

from crystallize_opt import Objective, Observation, Treatment
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.trials.replicate import Replicate

TRIALS, LATE, NOISE, OPTIMUM = 14, 6, 0.6, 0.3


def regret(treatment: Treatment) -> float:
    return float((treatment.params["x"] - OPTIMUM) ** 2)


def outcome(treatment: Treatment, seeds: list[int]) -> Observation:
    replicates = [
        Replicate(index, seed, {"loss": regret(treatment) + random.Random(seed).gauss(0, NOISE)})
        for index, seed in enumerate(seeds)
    ]
    return Observation.of_replicates(treatment, replicates)


def shared(count: int) -> Callable[[Treatment, int, int], Observation]:
    def observed(treatment: Treatment, trial: int, seed: int) -> Observation:
        return outcome(treatment, [1000 * seed + r for r in range(count)])

    return observed


def own(treatment: Treatment, trial: int, seed: int) -> Observation:
    return outcome(treatment, [1000 * seed + 3 * trial + r for r in range(3)])


def shared_but_told_as_own(treatment: Treatment, trial: int, seed: int) -> Observation:
    """What was told before standard errors of shared noise were held back."""
    observation = shared(3)(treatment, trial, seed)
    return dataclasses.replace(observation, replicates=())


KINDS: dict[str, Callable[[Treatment, int, int], Observation]] = {
    "one replicate, shared seeds": shared(1),
    "three replicates, shared seeds": shared(3),
    "three replicates, own seeds": own,
    "three, shared, but told as own": shared_but_told_as_own,
}


def search(kind: str, seed: int) -> tuple[float, float]:
    optimizer = AxOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=seed)
    for trial in range(TRIALS):
        (treatment,) = optimizer.ask()
        optimizer.tell(KINDS[kind](treatment, trial, seed))
    late = [regret(each.treatment) for each in optimizer.observations[-LATE:]]
    return regret(optimizer.get_best_treatment()), statistics.fmean(late)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    print(f"{'':32} | best: median (mean) regret | late trials: median (mean) regret")
    for kind in KINDS:
        found = [search(kind, seed) for seed in range(seeds)]
        shown = [
            f"{statistics.median(column):9.5f} ({statistics.fmean(column):.5f})"
            for column in zip(*found, strict=True)
        ]
        print(f"{kind:32} | {shown[0]:26} | {shown[1]}", flush=True)


if __name__ == "__main__":
    main()
