"""A noisy metric: adaptive replicates, a baseline, and the winner tested on fresh seeds.

Needs `pip install "crystallize-opt[optuna,analysis]"`; takes a few seconds.
"""

from __future__ import annotations

import random

from crystallize_opt import Adaptive, Experiment, Float, Objective, Treatment
from crystallize_opt.adapters import OptunaOptimizer


def conversion(
    discount: Float(0.0, 0.5),  # type: ignore[valid-type]
    reminder_days: Float(1.0, 30.0, log=True),  # type: ignore[valid-type]
) -> float:
    """Return the simulated share of 500 customers who buy; the global generator is seeded."""
    chance = 0.1 + 0.2 * discount * (1 - discount) - 0.002 * abs(reminder_days - 7)
    return float(sum(random.random() < chance for _ in range(500)) / 500)


TODAY = Treatment("today", {"discount": 0.1, "reminder_days": 14.0})


def main(num_trials: int = 40, replicates: int = 30) -> None:
    experiment = Experiment.of(conversion, seed=0)
    optimizer = OptunaOptimizer(
        experiment.search_space(), Objective("conversion", "maximize"), seed=0
    )
    # Each trial runs twice, and up to ten times if it could still be the best.
    best = experiment.optimize(optimizer, num_trials, Adaptive(2, 10), baseline=TODAY)
    history = optimizer.history

    print(f"{sum(len(each.replicates) for each in history)} replicates in {len(history)} trials")
    # The best of many noisy trials looks better than it is. On seeds that no search has used:
    confirmation = experiment.confirm(best, replicates=replicates)
    print(confirmation)
    if confirmation.winner is None:
        print("Keep what you have.")


if __name__ == "__main__":
    main()
