"""Stored searches of the small experiment, for the tests of the storage and their processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crystallize_opt import Experiment, Objective
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.storage.settings import Storage
from tests.toy import toy_experiment

SUM = Objective("sum", "minimize")


def optimizer(seed: int = 0) -> RandomOptimizer:
    return RandomOptimizer({"delta": (0.0, 1.0)}, SUM, seed=seed)


def search(
    path: Path | Storage,
    trials: int = 5,
    experiment: Experiment | None = None,
    **options: Any,
) -> Any:
    found = optimizer()
    (experiment or toy_experiment(seed=0)).optimize(found, trials, storage=path, **options)
    return found


def parts(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())
