"""Optimizers, sequences of calls that a search may make, and a record of the calls to compare."""

from __future__ import annotations

import math
from typing import Any

import optuna

from crystallize_opt import (
    Categorical,
    Float,
    Integer,
    Objective,
    Observation,
    Ordinal,
    SearchSpace,
    SpaceOptimizer,
    Status,
    Treatment,
)
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer
from crystallize_opt.trials.calls import Asked, Attached, Reported, Told

Optimizer = SpaceOptimizer[Any]

LOSS = Objective("loss", "minimize")
SPACE = SearchSpace(
    {
        "x": Float(-5.0, 5.0),
        "rate": Float(1e-4, 1.0, log=True),
        "step": Float(0.0, 1.0, step=0.1),
        "n": Integer(1, 9),
        "kind": Categorical([None, True, 1, (1, 2)]),
        "size": Ordinal(["s", "m", "l"]),
        "child": Float(0.0, 1.0).when(kind=True),
    }
)


def tpe(seed: int = 0, space: SearchSpace = SPACE, **options: Any) -> OptunaOptimizer:
    # Five trials at random instead of ten, so that the search learns early.
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=5, multivariate=True, constant_liar=True, seed=seed
    )
    return OptunaOptimizer(space, LOSS, seed=seed, sampler=sampler, **options)


def make(name: str, seed: int = 0, space: SearchSpace = SPACE) -> Optimizer:
    if name == "TPE":
        return tpe(seed, space)
    if name == "Grid":
        levels = {n: 3 for n, p in space.items() if p.size == math.inf}
        return GridOptimizer(space, LOSS, seed=seed, levels=levels)
    return RandomOptimizer(space, LOSS, seed=seed)


def loss_of(treatment: Treatment) -> float:
    return sum(math.sin(len(repr(v)) + i) for i, v in enumerate(treatment.params.values()))


def completed(treatment: Treatment) -> Observation:
    return Observation(treatment, {"loss": loss_of(treatment)})


def one_by_one(optimizer: Optimizer) -> None:
    for _ in range(12):
        optimizer.ask()
        optimizer.tell({"loss": loss_of(optimizer.pending[0])})


def several_pending(optimizer: Optimizer) -> None:
    for number in range(12):
        optimizer.ask()
        if number % 4 == 3:
            for treatment in [*optimizer.pending[1::2], *optimizer.pending[-2::-2]]:
                optimizer.tell(completed(treatment))
    optimizer.ask()
    optimizer.ask()


def batches(optimizer: Optimizer) -> None:
    for size in (5, 1, 4):
        for treatment in reversed(optimizer.ask(size)):
            optimizer.tell(completed(treatment))


def failures(optimizer: Optimizer) -> None:
    for status in [*Status, *Status]:
        (treatment,) = optimizer.ask()
        optimizer.tell(Observation(treatment, {"loss": loss_of(treatment)}, status, error="boom"))
    (treatment,) = optimizer.ask()
    optimizer.tell(Observation(treatment, {"loss": math.nan}))
    optimizer.ask()


def late_outcomes(optimizer: Optimizer) -> None:
    for status in Status:
        late, lost = optimizer.ask(2)
        optimizer.abandon(lost)
        optimizer.abandon(late.name)
        (treatment,) = optimizer.ask()
        optimizer.tell(completed(treatment))
        if status is not Status.ABANDONED:
            optimizer.tell(Observation(late, {"loss": loss_of(late)}, status, error="late"))


def attached_trials(optimizer: Optimizer) -> None:
    for number in range(9):
        point = SPACE.sample(number)
        status = Status.FAILED if number % 3 == 2 else Status.COMPLETED
        trial = Treatment(f"old_{number}", point)
        optimizer.attach(Observation(trial, {"loss": number / 10}, status))
        (treatment,) = optimizer.ask()
        optimizer.tell(completed(treatment))


def exactly(treatment: Treatment) -> tuple[str, list[tuple[str, type, str]]]:
    return treatment.name, [(n, type(v), repr(v)) for n, v in treatment.params.items()]


def record(optimizer: Optimizer) -> list[Any]:
    """Return all events as data, to be compared."""
    found: list[Any] = []
    for event in optimizer.events:
        match event:
            case Asked(treatments):
                found.append(["asked", *map(exactly, treatments)])
            case Reported(name, replicate, metrics, prune):
                found.append(["reported", name, replicate, dict(metrics), prune])
            case Told(o) | Attached(o):
                kind = type(event).__name__
                found.append([kind, exactly(o.treatment), repr(dict(o)), o.status, o.error])
    return found
