"""What Nevergrad is told of trials without a value."""

from __future__ import annotations

from typing import Any

import pytest

from crystallize_opt import Constraint, Objective, Observation, Status
from crystallize_opt.adapters import NevergradOptimizer
from tests.adapters.nevergrad.native import LOSS, SQUARE


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], Any, Any]]:
    """Every tell that Nevergrad got: the point, the loss and the violations."""
    from nevergrad.optimization.base import Optimizer

    heard: list[tuple[dict[str, Any], Any, Any]] = []
    tell = Optimizer.tell

    def listen(native: Any, candidate: Any, loss: Any, constraint_violation: Any = None) -> None:
        if native.name == "OnePlusOne" and candidate.uid in uids:
            heard.append((dict(candidate.value), loss, constraint_violation))
        tell(native, candidate, loss, constraint_violation)

    uids: set[str] = set()
    ask = Optimizer.ask

    def remember(native: Any) -> Any:
        candidate = ask(native)
        uids.add(candidate.uid)
        return candidate

    monkeypatch.setattr(Optimizer, "tell", listen)
    monkeypatch.setattr(Optimizer, "ask", remember)
    return heard


def one_plus_one(objective: Any = LOSS, **arguments: Any) -> NevergradOptimizer:
    return NevergradOptimizer(SQUARE, objective, seed=0, optimizer="OnePlusOne", **arguments)


def test_failures_are_told_as_the_worst_value_once_there_is_one(told: list[Any]) -> None:
    optimizer = one_plus_one()
    told.clear()  # of the rehearsal
    statuses = [Status.FAILED, Status.TIMED_OUT, Status.COMPLETED, Status.COMPLETED]
    for number, status in enumerate([*statuses, Status.INVALID, Status.ABANDONED, Status.PRUNED]):
        (treatment,) = optimizer.ask()
        optimizer.tell(Observation(treatment, {"loss": float(number)}, status))
    losses = [loss for _, loss, _ in told]

    # The first two failures follow the first value; nothing is told of the abandoned trial.
    assert losses == [2.0, 2.0, 2.0, 3.0, 3.0, 3.0]
    points = [dict(each.treatment.params) for each in optimizer.observations]
    order = [points[number] for number in (2, 0, 1, 3, 4, 6)]
    assert [point for point, _, _ in told] == order


def test_a_late_outcome_is_that_of_the_same_candidate(told: list[Any]) -> None:
    optimizer = one_plus_one()
    told.clear()
    (treatment,) = optimizer.ask()
    optimizer.abandon(treatment)
    optimizer.tell(Observation(treatment, {"loss": 5.0}))

    assert told == [(dict(treatment.params), 5.0, None)]
    assert optimizer.native is not None
    assert optimizer.native.num_tell_not_asked == 0


def test_violations_are_told_and_a_failure_violates_most(told: list[Any]) -> None:
    objectives = [Objective("loss", "minimize"), Objective("gain", "maximize")]
    optimizer = one_plus_one(
        objectives, constraints=[Constraint("area", "<=", 1.0), Constraint("area", ">=", 0.0)]
    )
    told.clear()
    for area in (3.0, -2.0, None):
        (treatment,) = optimizer.ask()
        metrics = {} if area is None else {"loss": 1.0, "gain": area, "area": area}
        status = Status.FAILED if area is None else Status.COMPLETED
        optimizer.tell(Observation(treatment, metrics, status))

    assert [(list(loss), list(violations)) for _, loss, violations in told] == [
        ([1.0, -3.0], [2.0, -3.0]),
        ([1.0, 2.0], [-3.0, 2.0]),
        ([1.0, 2.0], [2.0, -3.0]),
    ]


def test_huge_values_are_clipped_on_both_sides(told: list[Any]) -> None:
    optimizer = one_plus_one()
    told.clear()
    for loss in (1e300, -1e300, 3.0):
        optimizer.ask()
        optimizer.tell({"loss": loss})

    assert [loss for _, loss, _ in told] == [5e20, -5e20, 3.0]
