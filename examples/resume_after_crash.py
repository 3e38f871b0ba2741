"""A search that is killed in the middle, and goes on where it ended.

Run it twice: the first run kills itself with SIGKILL in its eighth trial, the second one finishes.
Nothing is lost, and the suggestions are those of a search that was never interrupted. Needs
`pip install "crystallize-opt[optuna]"`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from crystallize_opt import Experiment, Float, History, Objective
from crystallize_opt.adapters import OptunaOptimizer

FILE = Path("resumed.db")


def loss(x: Float(-5.0, 5.0), y: Float(-5.0, 5.0)) -> float:  # type: ignore[valid-type]
    """Return the loss; the first time that seven trials are stored, die."""
    marker = Path("has-died")
    if not marker.exists() and len(History.load(FILE)) == 7:
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return float((x - 1) ** 2 + (y + 2) ** 2)


def main() -> None:
    experiment = Experiment.of(loss, seed=0)
    optimizer = OptunaOptimizer(experiment.search_space(), Objective("loss", "minimize"), seed=0)
    best = experiment.optimize(optimizer, num_trials=20, storage=FILE)

    print(f"{len(optimizer.history)} trials, the best is {best.name}")


if __name__ == "__main__":
    main()
