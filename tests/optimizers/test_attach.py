"""Trials that an optimizer did not ask for: all or none, each under a name of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import (
    Constraint,
    Float,
    Objective,
    Observation,
    SpaceOptimizer,
    Status,
    Treatment,
)
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import InvalidParametersError, UnknownMetricError

Optimizer = SpaceOptimizer[Any]
LOSS = Objective("loss", "minimize")
STEPPED = {"x": Float(1 / 3, 1 / 3 + 1, step=0.1)}
KINDS: list[Any] = [RandomOptimizer, GridOptimizer, OptunaOptimizer]


def seen(name: str, x: float, status: Status = Status.COMPLETED, **metrics: float) -> Observation:
    return Observation(Treatment(name, {"x": x}), metrics or {"loss": x}, status)


@pytest.mark.parametrize("kind", KINDS)
def test_an_attached_trial_takes_no_name_of_another(kind: Any) -> None:
    optimizer: Optimizer = kind({"x": (0.0, 1.0)}, LOSS, seed=0)
    (asked,) = optimizer.ask()

    optimizer.attach([seen("trial_0", 0.9), seen("own", 0.25), seen("own", 0.75)])
    optimizer.tell(Observation(asked, {"loss": 5.0}))
    optimizer.attach(seen("trial_0", 0.125))

    names = ["trial_0 (attached)", "own", "own (attached)", "trial_0", "trial_0 (attached 2)"]
    assert [o.treatment.name for o in optimizer.observations] == names
    assert optimizer.get_best_treatment().name == "trial_0 (attached 2)"
    again: Optimizer = kind({"x": (0.0, 1.0)}, LOSS, seed=0)
    again.replay(optimizer.events)
    assert [o.treatment.name for o in again.observations] == names
    assert again.ask()[0] == optimizer.ask()[0] or again.pending[0].name == "trial_5"


@pytest.mark.parametrize("kind", KINDS)
def test_an_observation_without_the_objective_is_refused(kind: Any) -> None:
    constraints = [Constraint("size", "<=", 1)]
    optimizer: Optimizer = kind({"x": (0.0, 1.0)}, LOSS, constraints=constraints)
    good = seen("good", 0.5, loss=1.0, size=1.0)
    failed = seen("failed", 0.25, Status.FAILED, cost=1.0)
    for bad in (seen("bad", 0.75, cost=1.0), seen("bad", 0.75, loss=1.0)):
        with pytest.raises(UnknownMetricError, match=r"'bad': It has no metric '(loss|size)'"):
            optimizer.attach([good, failed, bad])
    assert optimizer.observations == []

    assert optimizer.attach([good, failed, bad], skip_outside=True) == 1
    assert [o.treatment.name for o in optimizer.observations] == ["good", "failed"]
    assert [o.treatment.name for o in optimizer.history.left_out] == ["bad"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_with_fewer_digits_is_attached(kind: Any, tmp_path: Path) -> None:
    def fresh() -> Optimizer:
        found: Optimizer = kind(STEPPED, LOSS, seed=1)
        return found

    drawn = RandomOptimizer(STEPPED, LOSS, seed=0)
    drawn.enqueue({"x": 1 / 3})
    for treatment in drawn.ask(5):
        drawn.tell(Observation(treatment, {"loss": treatment.params["x"]}))
    frame = drawn.history.to_frame()
    path = tmp_path / "rounded.csv"
    frame.to_csv(path, index=False, float_format="%.8f")

    for table in (path, frame.round(8)):
        optimizer = fresh()
        optimizer.attach(table)
        assert [o.treatment.params for o in optimizer.observations] == [
            o.treatment.params for o in drawn.observations
        ]
    optimizer = fresh()
    with pytest.raises(InvalidParametersError, match="Cannot attach 'b'"):
        optimizer.attach([seen("a", 1 / 3), seen("b", 0.4)])
    assert (optimizer.observations, optimizer.events) == ([], [])


def test_a_table_whose_numbers_leave_the_range_by_a_rounding_is_attached(tmp_path: Path) -> None:
    space = {"x": (1 / 3, 2 / 3), "rate": Float(1e-5 / 3, 1.0, log=True)}
    path = tmp_path / "rounded.csv"
    path.write_text("x,rate,loss\n0.33333333,3.333333e-06,1\n0.66666667,1,1\n", encoding="utf-8")
    optimizer = RandomOptimizer(space, LOSS)

    optimizer.attach(path)
    assert [o.treatment.params for o in optimizer.observations] == [
        {"x": 1 / 3, "rate": 1e-5 / 3},
        {"x": 2 / 3, "rate": 1.0},
    ]
    path.write_text("x,rate,loss\n0.5,0.0,1\n", encoding="utf-8")
    with pytest.raises(InvalidParametersError, match="rate"):
        optimizer.attach(path)
