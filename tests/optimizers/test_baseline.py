"""Constraints relative to a baseline: by hand, with every optimizer, and when replayed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from optuna.pruners import HyperbandPruner

from crystallize_opt import (
    Constraint,
    Float,
    History,
    Integer,
    Objective,
    Observation,
    SearchSpace,
    SpaceOptimizer,
    Status,
    Treatment,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import NoCompletedTrialError, ObjectiveError, UsageError
from crystallize_opt.trials.calls import BaselineSet
from tests.adapters.parity import exactly

LOSS = Objective("loss", "minimize")
FASTER = Constraint("seconds", "<=", -10, relative_to_baseline=True)
ABSOLUTE = Constraint("seconds", "<=", 9.0)
SPACE = SearchSpace({"x": Float(0.0, 1.0, default=0.5)})
USUAL = Observation(Treatment("usual", {"x": 0.5}), {"loss": 1.0, "seconds": 10.0})

MAKERS: dict[str, Callable[..., SpaceOptimizer[Any]]] = {
    "random": RandomOptimizer,
    "TPE": OptunaOptimizer,
}


def run(optimizer: SpaceOptimizer[Any], trials: int = 15) -> list[dict[str, Any]]:
    suggested = []
    for _ in range(trials):
        (treatment,) = optimizer.ask()
        x = treatment.params["x"]
        suggested.append(dict(treatment.params))
        optimizer.tell({"loss": x, "seconds": 11.0 - 4.0 * x})
    return suggested


@pytest.mark.parametrize("name", MAKERS)
def test_a_relative_constraint_is_the_absolute_one_that_the_baseline_makes_of_it(name: str) -> None:
    optimizer = MAKERS[name](SPACE, LOSS, constraints=[FASTER], seed=0)
    absolute = MAKERS[name](SPACE, LOSS, constraints=[ABSOLUTE], seed=0)
    optimizer.set_baseline(USUAL)

    assert exactly(run(optimizer)) == exactly(run(absolute))
    best = optimizer.history.best
    assert best is not None
    assert best["seconds"] <= 9.0
    assert best.treatment is optimizer.get_best_treatment()
    assert best.params == absolute.get_best_treatment().params
    assert optimizer.history.baseline is USUAL
    assert len(optimizer.observations) == 15


def test_the_study_has_the_constraints_of_the_absolute_bound() -> None:
    optimizer = OptunaOptimizer(SPACE, LOSS, constraints=[FASTER], seed=0)
    optimizer.set_baseline(USUAL)
    run(optimizer, 5)

    told = [trial.constraints for trial in optimizer.study.trials]
    assert told == [
        {"seconds <= baseline - 10 %": o["seconds"] - 9.0} for o in optimizer.observations
    ]


def test_without_a_baseline_it_is_refused_at_once() -> None:
    optimizer = RandomOptimizer(SPACE, LOSS, constraints=[ABSOLUTE, FASTER], seed=0)

    advice = r"'seconds <= baseline - 10 %' is relative.*baseline=True.*set_baseline"
    with pytest.raises(UsageError, match=advice):
        optimizer.ask()
    with pytest.raises(UsageError, match=advice):
        optimizer.attach([USUAL])
    with pytest.raises(UsageError, match=advice):
        _ = History([USUAL], [LOSS], [FASTER]).best
    assert optimizer.calls == []
    optimizer.enqueue({"x": 0.25})  # Needs no baseline.
    optimizer.set_baseline({"loss": 1.0, "seconds": 10.0})
    assert run(optimizer, 1) == [{"x": 0.25}]


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ({"loss": 1.0}, "'seconds' was not recorded"),
        ({"loss": float("nan"), "seconds": 1.0}, "'loss' is nan"),
        (Observation(Treatment("b"), status=Status.FAILED, error="boom"), "failed.*boom"),
        (3.0, "takes an Observation, or a mapping"),
    ],
)
def test_what_is_no_baseline_is_refused(baseline: Any, message: str) -> None:
    optimizer = RandomOptimizer(SPACE, LOSS, constraints=[FASTER], seed=0)
    with pytest.raises(UsageError, match=message):
        optimizer.set_baseline(baseline)
    with pytest.raises(ObjectiveError, match="mean of 'seconds' is 0"):
        optimizer.set_baseline({"loss": 1.0, "seconds": 0.0})
    assert (optimizer.calls, optimizer.baseline) == ([], None)


def test_another_baseline_than_the_trials_were_judged_by_is_refused() -> None:
    optimizer = RandomOptimizer(SPACE, LOSS, constraints=[FASTER], seed=0)
    optimizer.set_baseline(USUAL)
    run(optimizer, 2)

    optimizer.set_baseline(copy.copy(USUAL))  # The same one.
    with pytest.raises(UsageError, match="judged by another baseline"):
        optimizer.set_baseline({"loss": 1.0, "seconds": 11.0})
    assert [type(each) for each in optimizer.calls].count(BaselineSet) == 1
    other = RandomOptimizer(SPACE, LOSS, seed=0)  # Nothing is judged by its baseline.
    for loss in (1.0, 2.0):
        other.set_baseline({"loss": loss})
    assert other.history.baseline is not None
    assert other.history.baseline["loss"] == 2.0


@pytest.mark.parametrize("name", MAKERS)
def test_a_replay_knows_the_baseline(name: str) -> None:
    optimizer = MAKERS[name](SPACE, LOSS, constraints=[FASTER], seed=0)
    optimizer.set_baseline(USUAL)
    run(optimizer, 5)
    again = MAKERS[name](SPACE, LOSS, constraints=[FASTER], seed=0)
    again.replay(optimizer.events)

    assert again.baseline is USUAL
    assert again.events[0] == optimizer.events[0] == BaselineSet(USUAL, {"x": 0.5})
    assert again.get_best_treatment().params == optimizer.get_best_treatment().params
    assert exactly(run(again, 1)) == exactly(run(optimizer, 1))


def test_the_error_without_a_feasible_trial_says_by_how_much_of_what() -> None:
    optimizer = RandomOptimizer(SPACE, LOSS, constraints=[FASTER], seed=0)
    optimizer.set_baseline(USUAL)
    optimizer.ask()
    optimizer.tell({"loss": 0.0, "seconds": 9.5})

    with pytest.raises(NoCompletedTrialError, match=r"violates seconds <= baseline - 10 % by 0\.5"):
        optimizer.get_best_treatment()


@pytest.mark.parametrize("fidelity", [False, True])
def test_pictures_and_fidelities_know_the_baseline(fidelity: bool) -> None:
    space = {"x": Float(0.0, 1.0, default=0.5), "epochs": Integer(1, 9, fidelity=fidelity)}
    pruner = HyperbandPruner(min_resource=1, max_resource=9) if fidelity else None
    optimizer = OptunaOptimizer(space, LOSS, constraints=[FASTER], seed=0, pruner=pruner)
    optimizer.set_baseline({"loss": 1.0, "seconds": 10.0})
    run(optimizer)
    history = optimizer.history

    slow = [each["seconds"] > 9.0 for each in optimizer.observations]
    assert any(slow)
    assert not all(slow)
    best = history.best
    assert best is not None
    assert best["seconds"] <= 9.0
    lines = {line.get_label(): line for line in history.plot().axes[0].lines}
    assert len(lines["violates a constraint"].get_xdata()) == sum(slow)  # type: ignore[arg-type]
