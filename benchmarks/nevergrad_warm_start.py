"""How much Nevergrad's optimizers learn from attached trials, as the conformance suite measures it.

    python benchmarks/nevergrad_warm_start.py

For each optimizer and seed: the median loss of 20 suggestions after 40 attached points of a bowl,
divided by that of a cold start.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from statistics import median
from typing import Any

from crystallize_opt import Objective, Observation, Treatment
from crystallize_opt.adapters import NevergradOptimizer

BOWL = {"x": (-5.0, 5.0), "y": (-5.0, 5.0)}
NAMES = ("NGOpt", "OnePlusOne", "DiscreteOnePlusOne", "CMA", "TwoPointsDE", "PSO", "TBPSA")


def loss(params: Mapping[str, Any]) -> float:
    return float((params["x"] - 3.0) ** 2 + (params["y"] - 3.0) ** 2)


def median_loss(name: str, seed: int, attached: int) -> float:
    optimizer = NevergradOptimizer(BOWL, Objective("loss", "minimize"), seed=seed, optimizer=name)
    rng = random.Random(0)
    points = [{key: rng.uniform(-5.0, 5.0) for key in BOWL} for _ in range(attached)]
    optimizer.attach(
        Observation(Treatment(f"attached_{number}", point), {"loss": loss(point)})
        for number, point in enumerate(points)
    )
    found = []
    for _ in range(20):
        (treatment,) = optimizer.ask()
        found.append(loss(treatment.params))
        optimizer.tell({"loss": found[-1]})
    return median(found)


def main() -> None:
    for name in NAMES:
        ratios = [median_loss(name, seed, 40) / median_loss(name, seed, 0) for seed in range(4)]
        print(f"{name:20}", *(f"{ratio:.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
