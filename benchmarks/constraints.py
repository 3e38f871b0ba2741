"""How well optimizers search regions that random points hardly ever hit.

Two tasks, each the squared distance from a point drawn in the region: a mixture of six parts, and a
chain a <= b <= ... of eight numbers (1/40 320 of all points). The regret after `--trials` trials is
divided by that of random search in the region. Run:

    python benchmarks/constraints.py --seeds 10
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from optuna.samplers import GPSampler

from crystallize_opt import Objective, SearchSpace, SpaceOptimizer
from crystallize_opt.adapters import AxOptimizer, OptunaOptimizer, RandomOptimizer, SMACOptimizer

LOSS = Objective("loss", "minimize")
TASKS = {
    "mixture": SearchSpace(dict.fromkeys("abcdef", (0.0, 1.0)), ["a + b + c + d + e + f == 1"]),
    "chain": SearchSpace(
        dict.fromkeys("abcdefgh", (0.0, 1.0)), ["a <= b <= c <= d <= e <= f <= g <= h"]
    ),
}
OPTIMIZERS: dict[str, Callable[[SearchSpace, int], SpaceOptimizer[Any]]] = {
    "random": lambda space, seed: RandomOptimizer(space, LOSS, seed=seed),
    "optuna (tpe)": lambda space, seed: OptunaOptimizer(space, LOSS, seed=seed),
    "smac": lambda space, seed: SMACOptimizer(space, LOSS, seed=seed, n_trials=60),
    "optuna (gp)": lambda space, seed: OptunaOptimizer(
        space, LOSS, seed=seed, sampler=GPSampler(seed=seed)
    ),
    "ax": lambda space, seed: AxOptimizer(space, LOSS, seed=seed),
}


def regret(task: str, optimizer: SpaceOptimizer[Any], seed: int, trials: int) -> float:
    best = TASKS[task].sample(1_000 + seed)
    found = float("inf")
    for _ in range(trials):
        (treatment,) = optimizer.ask()
        point = TASKS[task].validate(treatment.params)
        loss = sum((point[name] - best[name]) ** 2 for name in best)
        optimizer.tell({"loss": loss})
        found = min(found, loss)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--optimizers", nargs="*", default=list(OPTIMIZERS))
    given = parser.parse_args()
    for task in TASKS:
        baseline: list[float] = []
        for name in given.optimizers:
            began = time.process_time()
            found = [
                regret(task, OPTIMIZERS[name](TASKS[task], seed), seed, given.trials)
                for seed in range(given.seeds)
            ]
            baseline = baseline or found
            normalised = statistics.median(
                each / other for each, other in zip(found, baseline, strict=True)
            )
            seconds = (time.process_time() - began) / given.seeds
            print(
                f"{task:8} {name:13} median regret {statistics.median(found):.5f}, of random's "
                f"{normalised:.2f}, {seconds:.1f} s CPU a search",
                flush=True,
            )


if __name__ == "__main__":
    main()
