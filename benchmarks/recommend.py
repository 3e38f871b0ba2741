"""Which trial of a noisy search to use: by its mean, by the model, or the best ones run again.

The loss is Branin's function plus normal noise of its own in each trial. A search of 30 trials ends
with a choice: the best observed mean (`optimizer.recommend()`), the model's choice (Ax,
`recommend("model")`), or the best of its five best trials after they have run again on fresh seeds
(`experiment.confirm(history.top(5), 4).best`). That costs 24 further runs, with those of the
baseline; so the last column shows the best mean of a search of 54 trials. The figure is the regret:
the loss without noise, minus the least one. Differences are paired by seed. Run:

    python benchmarks/recommend.py --seeds 30 --ax-seeds 10
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from typing import Any

from optuna.samplers import GPSampler

from crystallize_opt import (
    Experiment,
    Objective,
    Pipeline,
    SpaceOptimizer,
    Treatment,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import AxOptimizer, OptunaOptimizer, RandomOptimizer

TRIALS, AGAIN, REPLICATES, LEAST = 30, 5, 4, 0.397887
MORE = (AGAIN + 1) * REPLICATES
SPACE = {"x": (-5.0, 10.0), "y": (0.0, 15.0)}
LOSS = Objective("loss", "minimize")
MIDDLE = Treatment("middle", {"x": 2.5, "y": 7.5})
CHOICES = ("mean", "model", "run again", "mean of more")


def branin(x: float, y: float) -> float:
    inner = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return float(inner**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


@data_source
def nothing(ctx: Any) -> None:
    return None


@pipeline_step()
def noisy(data: Any, ctx: Any, *, x: float, y: float, deviation: float) -> Any:
    noise = random.Random(f"{ctx['seed_used']} {x} {y}").gauss(0, deviation)
    return data, {"loss": branin(x, y) + noise}


def optimizer_of(name: str, seed: int) -> SpaceOptimizer[Any]:
    if name == "Ax":
        return AxOptimizer(SPACE, LOSS, seed=seed)
    if name == "random":
        return RandomOptimizer(SPACE, LOSS, seed=seed)
    sampler = GPSampler(seed=seed, deterministic_objective=False) if name == "GP" else None
    return OptunaOptimizer(SPACE, LOSS, seed=seed, sampler=sampler)


def regrets(name: str, seed: int, deviation: float) -> dict[str, float]:
    experiment = Experiment(
        nothing(), Pipeline([noisy()]), initial_ctx={"deviation": deviation}, seed=seed
    )
    optimizer = optimizer_of(name, seed)
    experiment.optimize(optimizer, TRIALS, progress=False)
    chosen = {"mean": optimizer.recommend()}
    if optimizer.capabilities.recommends:
        chosen["model"] = optimizer.recommend("model")
    best = experiment.confirm(optimizer.history.top(AGAIN), REPLICATES, baseline=MIDDLE).best
    assert best is not None
    chosen["run again"] = best
    experiment.optimize(optimizer, MORE, progress=False)
    chosen["mean of more"] = optimizer.recommend()
    return {choice: branin(**each.params) - LEAST for choice, each in chosen.items()}


def interval(values: list[float]) -> str:
    """The mean and its 95 % interval (t-distribution, by its quantile for many values)."""
    from scipy.stats import t

    margin = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values)
    return f"{statistics.fmean(values):6.2f} ± {margin / math.sqrt(len(values)):4.2f}"


def show(head: str, found: list[dict[str, float]], *, end: str) -> None:
    shown, less = [], []
    for choice in CHOICES:
        known = choice in found[0]
        shown.append(interval([each[choice] for each in found]) if known else "-")
        pairs = [each[choice] - each["mean"] for each in found] if known else []
        less.append(f"({interval(pairs)})" if pairs and choice != "mean" else "")
    cells = (f"{mean:>14} {change:>16}" for mean, change in zip(shown, less, strict=True))
    print(f"{head:26} {' '.join(cells)}", end=end, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--ax-seeds", type=int, default=10)
    parser.add_argument("--optimizers", nargs="+", default=["random", "TPE", "GP", "Ax"])
    parser.add_argument("--noise", type=float, nargs="+", default=[2.0, 10.0])
    options = parser.parse_args()
    end = "\r" if sys.stdout.isatty() else "\n"
    print("Mean regret ± 95 % margin, and the difference from 'mean', paired by seed.")
    print(f"{'':26} {' '.join(f'{choice:>14} {chr(32) * 16}' for choice in CHOICES)}")
    for name in options.optimizers:
        seeds = options.ax_seeds if name == "Ax" else options.seeds
        for deviation in options.noise:
            found: list[dict[str, float]] = []
            for seed in range(seeds):
                found.append(regrets(name, seed, deviation))
                if seed:  # The last one is the result.
                    show(f"{name}, noise {deviation:g}, {seed + 1} seeds", found, end=end)
            print()


if __name__ == "__main__":
    main()
