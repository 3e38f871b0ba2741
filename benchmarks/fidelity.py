"""How many trials of a fidelity are enough, and how many epochs do checkpoints save?

Searches with SMAC's Hyperband on the Branin function, whose value after few epochs is too high by
an amount that depends on the point, and noisy. Prints the true regret (with all epochs) of the
point that is called the best, by how many trials count as enough; and the epochs of one search, and
how many of them are trained if a step continues from `ctx.checkpoint`.

Run with: python benchmarks/fidelity.py [searches]
"""

from __future__ import annotations

import math
import random
import sys
from statistics import mean
from typing import Any

from crystallize_opt import (
    Experiment,
    FrozenContext,
    Integer,
    Objective,
    Pipeline,
    SearchSpace,
    Treatment,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import SMACOptimizer
from crystallize_opt.trials import best as rule

SPACE = SearchSpace({"x": (0.0, 1.0), "y": (0.0, 1.0), "epochs": Integer(1, 27, fidelity=True)})
ENOUGH = (1, 2, 3, 5)
STOPS = (13, 22, 30, 40, 60)


def branin(x: float, y: float) -> float:
    """The Branin function over its minimum, about 1 on average."""
    x, y = 15 * x - 5, 15 * y
    value = (y - 5.1 * x**2 / (4 * math.pi**2) + 5 * x / math.pi - 6) ** 2
    return (value + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.397887) / 50


def loss(treatment: Treatment, noise: random.Random, spread: float) -> float:
    x, y, epochs = (float(treatment.params[name]) for name in ("x", "y", "epochs"))
    too_high = (0.5 + abs(math.sin(7 * x + 5 * y))) / epochs
    return branin(x, y) + too_high + noise.gauss(0, spread)


def regrets(seed: int, spread: float, *, enqueues: bool) -> dict[tuple[int, int], float]:
    """Return the true regret of the best, by the number that is enough and by trials so far."""
    from smac import HyperbandFacade

    optimizer = SMACOptimizer(
        SPACE, Objective("loss", "minimize"), seed=seed, facade=HyperbandFacade
    )
    noise = random.Random(seed)
    if enqueues:
        optimizer.enqueue({"x": noise.random(), "y": noise.random(), "epochs": 27})
    found = {}
    for number in range(1, max(STOPS) + 1):
        (treatment,) = optimizer.ask()
        optimizer.tell({"loss": loss(treatment, noise, spread)})
        for enough in ENOUGH if number in STOPS else ():
            rule.ENOUGH = enough
            best: Any = optimizer.criterion.best(optimizer.observations)
            found[enough, number] = branin(best.params["x"], best.params["y"])
    return found


@data_source
def nothing(ctx: FrozenContext) -> None:
    return None


@pipeline_step()
def train(data: None, ctx: FrozenContext, *, x: float, y: float, epochs: int) -> None:
    file = ctx.checkpoint / "epochs"
    done = int(file.read_text()) if file.exists() else 0
    file.write_text(str(epochs))
    ctx.metrics.add("loss", branin(x, y) + 1 / epochs)
    ctx.metrics.add("trained", epochs - done)


def epochs_of(trials: int) -> tuple[int, int]:
    """Return the epochs of all trials of a search, and those that were trained."""
    from smac import HyperbandFacade

    optimizer = SMACOptimizer(SPACE, Objective("loss", "minimize"), seed=0, facade=HyperbandFacade)
    experiment = Experiment(nothing(), Pipeline([train()]), seed=0)
    experiment.optimize(optimizer, trials, progress=False)
    told = optimizer.observations
    return sum(o.params["epochs"] for o in told), int(sum(o["trained"] for o in told))


def main() -> None:
    searches = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    SMACOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"))  # Imports SMAC quietly.
    for trials in (40, 69):  # One bracket of Hyperband, and all four.
        epochs, trained = epochs_of(trials)
        print(f"{trials} trials: {epochs} epochs, {trained} trained from checkpoints")
    print(f"mean true regret of the best in {searches} searches, after {STOPS} trials")
    for enqueues in (False, True):
        for spread in (0.1, 0.3):
            every = [regrets(seed, spread, enqueues=enqueues) for seed in range(searches)]
            first = "a random point with all epochs first" if enqueues else "nothing enqueued"
            print(f"{first}, noise {spread}")
            for enough in ENOUGH:
                means = [mean(found[enough, stop] for found in every) for stop in STOPS]
                shown = "  ".join(f"{each:.3f}" for each in means)
                print(f"  enough {enough}:  {shown}  all {mean(means):.3f}", flush=True)


if __name__ == "__main__":
    main()
