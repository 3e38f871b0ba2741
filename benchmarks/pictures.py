"""Draws the pictures of docs/pictures.md and of the README: `python benchmarks/pictures.py`.

The quickstart's picture is of its own run; the others are of a search that imitates training:
some trials fail, some are pruned, and a trial takes longer with more layers.
"""

from __future__ import annotations

import runpy
import time
from pathlib import Path
from typing import Any

import optuna

from crystallize_opt import (
    Categorical,
    Experiment,
    Float,
    FrozenContext,
    Integer,
    Objective,
    Pruned,
    Workers,
)
from crystallize_opt.adapters import OptunaOptimizer

ROOT = Path(__file__).parent.parent
DPI = 140
EPOCHS = 15


def train(
    ctx: FrozenContext,
    lr: Float(1e-4, 1.0, log=True) = 0.003,  # type: ignore[valid-type]
    layers: Integer(1, 8) = 2,  # type: ignore[valid-type]
    opt: Categorical(["sgd", "adam", None]) = "sgd",  # type: ignore[valid-type]
    momentum: Float(0.0, 0.99).when(opt="sgd") = 0.5,  # type: ignore[valid-type]
) -> dict[str, float]:
    """Return a loss that falls with each epoch, and the seconds that training would take."""
    if lr > 0.6 or (opt is None and layers > 6):
        raise ValueError("the loss diverges")
    distance = abs(lr / 0.01 - 1) ** 0.5 if lr > 0.01 else abs(0.01 / lr - 1) ** 0.5
    end = 0.05 + 0.1 * distance + 0.04 * abs(layers - 4) + 0.05 * (opt != "sgd") + 0.1 * momentum
    loss = end
    for epoch in range(EPOCHS):
        time.sleep(0.001 * layers)
        loss = end + 2.0 * 0.7**epoch
        if ctx.report("loss", loss, step=epoch):
            raise Pruned
    return {"loss": loss, "seconds": 0.4 + layers}


def save(figure: Any, name: str, width: float, height: float) -> None:
    figure.set_size_inches(width, height)
    figure.savefig(ROOT / "docs" / "images" / f"{name}.png", dpi=DPI)


def main() -> None:
    experiment = Experiment.of(train, seed=0)
    space, loss = experiment.search_space(), Objective("loss", "minimize")
    pruner = optuna.pruners.MedianPruner(n_startup_trials=8)
    optimizer = OptunaOptimizer(space, loss, seed=0, pruner=pruner)
    workers = Workers("threads", 4)
    experiment.optimize(optimizer, 60, baseline=True, workers=workers, progress=False)
    history = optimizer.history
    save(history.plot(), "run", 8, 3.4)
    save(history.plot_parameters(), "parameters", 8, 4.6)
    save(history.plot_parameters("parallel"), "parallel", 8, 3.8)
    save(history.plot_importance(), "importance", 7, 2.0)
    save(history.plot_curves(), "curves", 8, 3.4)
    save(history.plot_timeline(), "timeline", 8, 2.6)

    goals = [
        Objective("loss", "minimize", threshold=1.0),
        Objective("seconds", "minimize", threshold=8.0),
    ]
    two = OptunaOptimizer(space, goals, seed=0)
    experiment.optimize(two, 60, progress=False)
    save(two.history.plot_pareto(), "pareto", 6, 4)

    quickstart = runpy.run_path(str(ROOT / "examples" / "quickstart.py"))
    search = quickstart["optimizer"]
    quickstart["experiment"].optimize(search, 30, 3, baseline=True, progress=False)
    save(search.history.plot(), "quickstart", 7.2, 2.6)


if __name__ == "__main__":
    main()
