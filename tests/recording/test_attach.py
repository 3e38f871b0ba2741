"""A run goes on from its data with other settings: what fits is kept, the rest is counted."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constant,
    Constraint,
    Float,
    FrozenContext,
    History,
    Objective,
    Observation,
    Search,
    SpaceOptimizer,
    Status,
    Storage,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from tests.toy import experiment_of

Optimizer = SpaceOptimizer[Any]
LOSS = Objective("loss", "minimize")
SPEED = Objective("speed", "maximize")


def one(data: Any, ctx: FrozenContext) -> Any:
    known = [ctx.get(name) for name in ("x", "y", "z", "kind")]  # Reads every parameter there is.
    return data, {"loss": known[1] if known[0] is None else known[0]}


def two(data: Any, ctx: FrozenContext) -> Any:
    loss = ctx.get("x", 0.5)
    return data, {"loss": loss, "speed": math.nan if loss > 0.8 else 1 - loss}


def go(
    path: Path, step: Any, optimizer: Optimizer, trials: int, resume: Any = "attach"
) -> Optimizer:
    storage = Storage(path, resume=resume)
    Search(experiment_of(step, seed=0), optimizer, trials, storage=storage, progress=False).run()
    return optimizer


def rand(space: Any, objective: Any = LOSS, **options: Any) -> Optimizer:
    return RandomOptimizer(space, objective, seed=1, **options)


X = {"x": (0.0, 1.0)}


def every(x: float) -> bool:
    return x == x


def none(x: float) -> bool:
    return x != x


def low(x: float) -> bool:
    return x <= 0.5


@pytest.mark.parametrize(
    ("space", "fits"),
    [
        ({"x": (0.0, 0.5)}, low),
        ({"x": (-1.0, 2.0)}, every),
        ({"x": (0.0, 1.0), "z": Float(0.0, 1.0, default=0.25)}, every),
        ({"x": (0.0, 1.0), "z": Constant("a")}, every),
        ({"x": (0.0, 1.0), "z": (0.0, 1.0)}, none),
        ({"y": (0.0, 1.0)}, none),
        ({"y": Float(0.0, 1.0, default=0.5)}, none),
        ({"x": Categorical([0.5, 0.25, 0.75, 0.125])}, none),
    ],
    ids=["narrow", "wide", "more", "constant", "no default", "renamed", "default", "other"],
)
def test_a_trial_that_fits_another_space_is_kept(
    space: Any, fits: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.db"
    before = go(path, one, rand(X), 6).observations
    kept = [o.treatment.params["x"] for o in before if fits(o.treatment.params["x"])]

    with caplog.at_level(logging.WARNING):
        found = go(path, one, rand(space), 9)

    assert len(found.observations) == len(kept) + 3
    assert [o.treatment.params["x"] for o in found.observations[: len(kept)]] == kept
    assert all(found.space.validate(o.treatment.params) for o in found.observations)
    for history in (found.history, History.load(path)):
        assert [dict(o.treatment.params) for o in history] == [
            dict(o.treatment.params) for o in found.observations
        ]
        assert len(history.left_out) == 6 - len(kept)
        assert history.best is not None
    said = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert [f"{6 - len(kept)} of its 6 earlier" in text for text in said] == [True] * (
        len(kept) < 6
    )

    # From there it goes on exactly, in a fresh optimizer and in the same one.
    again = go(path, one, rand(space), 10, "exact")
    assert len(again.observations) == len(kept) + 4
    assert len(again.history.left_out) == 6 - len(kept)
    go(path, one, again, 10, "exact")
    assert len(again.history.left_out) == 6 - len(kept)


def test_a_removed_parameter_may_have_had_its_default(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    space = {"x": (0.0, 1.0), "kind": Categorical(["a", "b"], default="a")}
    before = go(path, one, rand(space), 8).observations
    kept = [o.treatment.name for o in before if o.treatment.params["kind"] == "a"]

    found = go(path, one, rand(X), 9)

    assert [o.treatment.name for o in found.observations[:-1]] == kept
    assert 0 < len(kept) < 8


GOALS: list[tuple[Any, tuple[Constraint, ...]]] = [
    (LOSS, ()),
    (SPEED, ()),
    (Objective("speed", "minimize"), ()),
    ([LOSS, SPEED], ()),
    (LOSS, (Constraint("speed", ">=", 0.5),)),
    (LOSS, (Constraint("loss", ">=", 0.25),)),
]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.tuples(st.sampled_from(GOALS), st.sampled_from([one, two])), max_size=3))
def test_trials_are_judged_under_the_objectives_of_today(parts: list[Any], tmp_path: Path) -> None:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
    parts = [(goal, step) for goal, step in parts if step is two or "speed" not in repr(goal)]
    trials = 0
    for (objective, constraints), step in [((LOSS, ()), one), *parts]:
        trials += 3
        optimizer = go(path, step, rand(X, objective, constraints=constraints), trials)
        same = rand(X, objective, constraints=constraints)
        go(path, step, same, trials, "exact")
        history = History.load(path)
        needed = optimizer.required_metrics
        for found in (optimizer.history, same.history, history):
            assert [(o.treatment.name, o.status) for o in found] == [
                (o.treatment.name, o.status) for o in history
            ]
            assert len(found) + len(found.left_out) == trials
            for o in found:
                finite = all(math.isfinite(o.metrics.get(m, math.nan)) for m in needed)
                assert o.status is (Status.COMPLETED if finite else Status.INVALID)
            assert found.best is None or math.isfinite(found.best[needed[0]])
            assert len(found.pareto_front) >= (found.best is not None)
        for o in history.left_out:
            assert not set(needed) <= set(o)


def test_what_fails_today_may_have_been_invalid_before(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    first = go(path, two, rand(X, SPEED), 12)
    assert {o.status for o in first.observations} == {Status.COMPLETED, Status.INVALID}

    found = go(path, two, rand(X, LOSS), 13)
    assert {o.status for o in found.observations} == {Status.COMPLETED}
    assert len(found.observations) == 13


@pytest.mark.parametrize(
    ("before", "now", "fits"),
    [("last", "last", 4), ("last", "min", 0), (None, "min", 4), ("min", None, 4)],
)
def test_a_metric_that_was_reduced_otherwise_is_another_metric(
    before: Any, now: Any, fits: int, tmp_path: Path
) -> None:
    """The values that were reduced are not stored, so another one cannot be taken from them."""

    def several(data: Any, ctx: FrozenContext) -> Any:
        for value in (3.0, ctx["x"], 2.0):
            ctx.metrics.add("loss", value)

    path, steps = tmp_path / "a.db", {True: one, False: several}
    go(path, steps[before is None], rand(X, Objective("loss", "minimize", reduce=before)), 4)
    found = go(path, steps[now is None], rand(X, Objective("loss", "minimize", reduce=now)), 5)

    assert len(found.observations) == fits + 1
    assert len(found.history.left_out) == 4 - fits
    assert len(History.load(path)) == fits + 1


def test_another_backend_learns_what_fits(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    go(path, one, rand(X), 6)
    found = OptunaOptimizer({"x": (0.0, 0.7)}, LOSS, seed=0)
    go(path, two, found, 8)

    assert len(found.study.trials) == len(found.observations)
    assert len(found.observations) + len(found.history.left_out) == 8


def test_an_observation_without_the_objective_fits_none() -> None:
    loss = rand(X)
    loss.tell({"loss": loss.ask()[0].params["x"]})
    other = rand(X, SPEED)

    assert other.attach(loss.history, skip_outside=True) == 1
    assert [dict(o) for o in other.history.left_out] == [dict(o) for o in loss.history]
    kept: list[Observation] = other.observations
    assert kept == []
