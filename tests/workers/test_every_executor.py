"""What a step does means the same on every executor: names, numbers, data, tear-down."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from crystallize_opt import (
    Experiment,
    FrozenContext,
    Observation,
    Pipeline,
    PipelineStep,
    Status,
    data_source,
)
from crystallize_opt.workers.workers import Workers
from tests.workers.pools import grid, loky_pool, spawn_pool

HOMES = [
    "in process",
    "asynchronous",
    "threads",
    "processes",
    "spawn",
    "dask",
    pytest.param("loky", marks=pytest.mark.slow),
]


class Names(enum.StrEnum):
    LOSS = "loss"


class Config(dict[str, Any]):
    """Has every attribute, as the configurations of many libraries do."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)


class Awaitable:
    """Its objects are awaitable; the class itself is data."""

    def __await__(self) -> Any:
        raise AssertionError


@data_source
def configuration(ctx: FrozenContext) -> Any:
    return Config(rate=0.5)


class Case(PipelineStep):
    """Does what its parameter says. Its `teardown` always fails."""

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        assert isinstance(data, Config)
        return CASES[ctx["x"]](ctx)

    def teardown(self, ctx: FrozenContext) -> None:
        raise OSError("the folder is gone already")


class AsynchronousCase(Case):
    async def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        return super().__call__(data, ctx)


class Pass(PipelineStep):
    """Gets the data of the step before."""

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        return data


CASES: dict[str, Callable[[FrozenContext], Any]] = {
    "a class as data": lambda _: (Awaitable, {"loss": 1.0}),
    "a subclass of str": lambda ctx: ctx.metrics.add(Names.LOSS, 1.0),
    "a subclass of str, returned": lambda _: (Config(), {Names.LOSS: 1.0}),
    "a tuple": lambda ctx: ctx.metrics.add(("train", "loss"), 1.0),  # type: ignore[arg-type]
    "an integer, returned": lambda _: (Config(), {0: 1.0}),
    "an array": lambda ctx: ctx.metrics.add("loss", np.array([0.5])),
    "a masked number": lambda ctx: ctx.metrics.add("loss", np.ma.array([1.0], mask=True).mean()),
    "a number, returned": lambda _: 0.25,
    "data and a number, returned": lambda ctx: (ctx, 0.25),
}

RIGHT = {
    "a class as data": (Status.COMPLETED, ""),
    "a subclass of str": (Status.COMPLETED, ""),
    "a subclass of str, returned": (Status.COMPLETED, ""),
    "a tuple": (Status.FAILED, "UsageError: The name of a metric is a text, not ('train', 'loss')"),
    "an integer, returned": (Status.FAILED, "The name of a metric is a text, not 0 (int)"),
    "an array": (Status.INVALID, "Recorded as 'loss': array([0.5]) (numpy.ndarray)"),
    "a masked number": (Status.INVALID, "Recorded as 'loss': masked (numpy.ma"),
    "a number, returned": (
        Status.INVALID,
        "The last step returned 0.25 (float): record it with ctx.metrics.add('loss', value)",
    ),
    "data and a number, returned": (Status.INVALID, "The last step returned 0.25 (float)"),
}


class Outcome(NamedTuple):
    observations: list[Observation]
    error: BaseException


@pytest.fixture(scope="module", params=HOMES)
def outcome(request: pytest.FixtureRequest) -> Outcome:
    home = request.param
    kinds: dict[str, Any] = {"in process": None, "spawn": spawn_pool, "loky": loky_pool}
    kind = kinds.get(home, home)
    if home == "asynchronous":
        kind = None
    elif home == "dask":
        kind = request.getfixturevalue("dask_pool")
    workers = Workers(kind, 1 if home == "in process" else 2)
    step = (AsynchronousCase if home == "asynchronous" else Case)()
    optimizer = grid(list(CASES))
    experiment = Experiment(configuration(), Pipeline([step, Pass()]), seed=0)
    with pytest.raises(Exception, match="the folder is gone already") as caught:
        experiment.optimize(optimizer, len(CASES), workers=workers)
    return Outcome(optimizer.observations, caught.value)


@pytest.mark.parametrize("case", CASES)
def test_a_step_means_the_same(outcome: Outcome, case: str) -> None:
    (observation,) = [o for o in outcome.observations if o.treatment.params["x"] == case]
    status, error = RIGHT[case]

    assert observation.status is status
    assert error in str(observation.error)
    if status is Status.COMPLETED:
        assert dict(observation) == {"loss": 1.0}
        assert {type(name) for name in observation} == {str}


def test_the_error_of_a_teardown_is_raised_once(outcome: Outcome) -> None:
    """It is raised when every trial has been reported, which keeps what was measured."""
    assert len(outcome.observations) == len(CASES)
    assert "the folder is gone already" in str(outcome.error)
    assert outcome.error.__context__ is None
    assert "teardown" in str(outcome.error.__notes__)
