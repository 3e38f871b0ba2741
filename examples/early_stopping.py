"""Hopeless trials end early: epochs spent with a pruner and without one, at the same score.

Install `pip install "crystallize-opt[optuna]" scikit-learn`, and run this file; with torch
installed, also `python examples/early_stopping.py torch`.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from typing import Annotated, Any

import optuna
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from crystallize_opt import (
    Experiment,
    Float,
    Integer,
    Objective,
    Pipeline,
    Pruned,
    SeedPlugin,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import OptunaOptimizer

Rate = Annotated[float, Float(1e-5, 1e-1, log=True)]
Decay = Annotated[float, Float(1e-6, 1e-1, log=True)]
Width = Annotated[int, Integer(4, 64, log=True)]


@data_source
def digits(ctx: Any) -> dict[str, Any]:
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype("float32")
    rest, x_test, y_rest, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    x_train, x_val, y_train, y_val = train_test_split(rest, y_rest, test_size=0.33, random_state=0)
    return {"train": (x_train, y_train), "val": (x_val, y_val), "test": (x_test, y_test)}


@pipeline_step()
def train(
    data: dict[str, Any],
    ctx: Any,
    *,
    rate: Rate = 1e-3,
    decay: Decay = 1e-4,
    width: Width = 16,
) -> None:
    """Train a network of scikit-learn by `partial_fit`, one pass over the data at a time."""
    model = MLPClassifier((width,), learning_rate_init=rate, alpha=decay, random_state=0)
    accuracy = 0.0
    for epoch in range(ctx["epochs"]):
        model.partial_fit(*data["train"], classes=range(10))
        accuracy = model.score(*data["val"])
        if ctx.report("accuracy", accuracy, step=epoch):  # the optimizer would end the trial here
            raise Pruned
    ctx.metrics.add("accuracy", accuracy)
    ctx.metrics.add("test_accuracy", model.score(*data["test"]))


@pipeline_step()
def train_torch(
    data: dict[str, Any],
    ctx: Any,
    *,
    rate: Rate = 1e-3,
    decay: Decay = 1e-4,
    width: Width = 16,
) -> None:
    """The same with torch."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    sets = {name: (torch.tensor(x), torch.tensor(y)) for name, (x, y) in data.items()}
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)

    def score(name: str) -> float:
        x, y = sets[name]
        with torch.no_grad():
            return float((model(x).argmax(1) == y).float().mean())

    accuracy = 0.0
    for epoch in range(ctx["epochs"]):
        x, y = sets["train"]
        for batch in torch.split(torch.randperm(len(x)), 64):
            optimizer.zero_grad()
            loss: Any = nn.functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
        accuracy = score("val")
        if ctx.report("accuracy", accuracy, step=epoch):
            raise Pruned
    ctx.metrics.add("accuracy", accuracy)
    ctx.metrics.add("test_accuracy", score("test"))


def search(
    step: Any, *, prune: bool, trials: int, epochs: int, seed: int = 0
) -> tuple[int, float, float]:
    """Search once; return the epochs spent, and the winner's accuracy in validation and test."""
    pruner = optuna.pruners.MedianPruner(n_warmup_steps=2) if prune else None
    experiment = Experiment(
        digits(), Pipeline([step()]), [SeedPlugin(seed)], initial_ctx={"epochs": epochs}
    )
    optimizer = OptunaOptimizer(
        experiment.search_space(), Objective("accuracy", "maximize"), seed=seed, pruner=pruner
    )
    experiment.optimize(optimizer, trials, progress=False)
    best = optimizer.history.best
    if best is None:
        raise RuntimeError("No trial completed.")
    spent = sum(len(each.replicates[0].curves["accuracy"]) for each in optimizer.observations)
    return spent, best["accuracy"], best["test_accuracy"]


def main(step: Any = train, trials: int = 40, epochs: int = 20) -> None:
    """Print the epochs that one search spends with and without a pruner."""
    for prune in (False, True):
        spent, validation, test = search(step, prune=prune, trials=trials, epochs=epochs)
        print(
            f"{'with' if prune else 'without'} a pruner: {spent} of {trials * epochs} epochs; "
            f"the winner's accuracy is {validation:.3f}, on test data {test:.3f}"
        )


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="sklearn")
    if sys.argv[1:] != ["torch"]:
        main()
    elif importlib.util.find_spec("torch") is None:
        print("torch is not installed: pip install torch")
    else:
        main(train_torch)
