"""Stored searches for the tests that resume them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from crystallize_opt import (
    Experiment,
    Failures,
    FrozenContext,
    Pipeline,
    SpaceOptimizer,
    Storage,
    pipeline_step,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from tests.recording.killed_runs import LOSS, SPACE, exactly
from tests.toy import experiment_of, numbers

Optimizer = SpaceOptimizer[Any]


def loss(data: Any, ctx: FrozenContext, *, x: float, rate: float) -> Any:
    ctx.as_dict()  # The other parameters of the space have no effect.
    return data, {"loss": x * x + rate + ctx["seed_used"] % 3, "drawn": random.random()}


def tpe(seed: int | None = 1, **options: Any) -> OptunaOptimizer:
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
    return OptunaOptimizer(SPACE, LOSS, seed=seed, sampler=sampler, **options)


def search(
    path: Path,
    optimizer: Any = None,
    trials: int = 8,
    experiment: Any = None,
    *,
    resume: Any = "exact",
    **options: Any,
) -> Any:
    optimizer = optimizer if optimizer is not None else tpe()
    experiment = experiment or experiment_of(loss, seed=3)
    storage = Storage(path, resume=resume)
    options.setdefault("failures", Failures(unread="ignore"))  # The steps read only x and rate.
    experiment.optimize(optimizer, trials, storage=storage, progress=False, **options)
    return optimizer


def told(optimizer: Optimizer) -> list[list[str]]:
    return [exactly(observation) for observation in optimizer.observations]


def interrupted_after(trials: int) -> Callable[..., Any]:
    """Return a step that raises KeyboardInterrupt in the trial after so many."""
    count = 0

    def step(data: Any, ctx: FrozenContext, *, x: float, rate: float) -> Any:
        nonlocal count
        count += 1
        if count > trials:
            raise KeyboardInterrupt
        return loss(data, ctx, x=x, rate=rate)

    return step


def named(function: Any) -> Any:
    """Let steps of other code pass for the same."""

    def step(data: Any, ctx: FrozenContext, *, x: float, rate: float) -> Any:
        return function(data, ctx, x=x, rate=rate)

    return step


@pipeline_step()
def one(data: Any, ctx: FrozenContext, *, x: float, rate: float, power: int = 2) -> Any:
    return data, {"loss": x**power + rate}


@pipeline_step()
def another(data: Any, ctx: FrozenContext, *, x: float, rate: float, power: int = 2) -> Any:
    return data, {"loss": x**power - rate}


def piped(*steps: Any, **options: Any) -> Experiment:
    return Experiment(numbers(), Pipeline(list(steps)), **{"seed": 3, **options})


FLOAT = {"x": (0.0, 1.0), "rate": (0.0, 1.0)}


def rand(
    space: Any = FLOAT, objective: Any = LOSS, seed: int | None = 0, **options: Any
) -> Optimizer:
    return RandomOptimizer(space, objective, seed=seed, **options)
