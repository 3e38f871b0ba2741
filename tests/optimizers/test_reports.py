"""Points that are reported by hand: what is kept of them, and what is refused."""

from __future__ import annotations

import copy

import pytest

from crystallize_opt import Objective, Observation, Status
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.errors import NoCompletedTrialError, ObjectiveError, TellError, UsageError

LOSS = Objective("loss", "minimize")


def test_several_metrics_may_be_reported_at_once() -> None:
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
    (treatment,) = optimizer.ask()
    optimizer.report(treatment, 0, {"loss": 0.5, "accuracy": 0.25})
    optimizer.report(treatment, 3, 0.25)
    optimizer.report(treatment, 3, 9.0)  # The step is known.
    optimizer.tell({"loss": 0.125})

    (told,) = optimizer.observations
    assert dict(told) == {"loss": 0.125}
    assert told.replicates[0].curves == {
        "loss": ((0, 0.5), (3, 0.25)),
        "accuracy": ((0, 0.25),),
    }


def test_a_pruned_trial_takes_the_values_at_its_highest_steps() -> None:
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
    (treatment,) = optimizer.ask()
    for step, loss in ((5, 0.5), (2, 0.25)):
        optimizer.report(treatment, step, {"loss": loss, "lag": float("inf")})
    optimizer.tell(Observation(treatment, status=Status.PRUNED))

    assert dict(optimizer.observations[0]) == {"loss": 0.5}


def test_an_abandoned_trial_keeps_its_curve_for_a_late_outcome() -> None:
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
    (treatment,) = optimizer.ask()
    optimizer.report(treatment, 0, 0.5)
    optimizer.abandon(treatment)
    assert optimizer.observations[0].replicates == ()
    assert optimizer.report(treatment, 1, 0.25) is False
    optimizer.tell(Observation(treatment, {"loss": 0.125}))

    (late,) = optimizer.observations
    assert late.replicates[0].curves == {"loss": ((0, 0.5), (1, 0.25))}


def test_a_copy_knows_what_was_reported() -> None:
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
    (treatment,) = optimizer.ask()
    optimizer.report(treatment, 0, 0.5)
    other = copy.deepcopy(optimizer)
    for each in (optimizer, other):
        each.tell({"loss": 0.125})

    assert other.observations[0].replicates[0].curves == {"loss": ((0, 0.5),)}


def test_what_is_no_point_is_refused() -> None:
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
    (treatment,) = optimizer.ask()
    with pytest.raises(UsageError, match="step of 'loss' is a whole number"):
        optimizer.report(treatment, 0.5, 1.0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'loss' is a number, not"):
        optimizer.report(treatment, 0, "low")  # type: ignore[arg-type]
    optimizer.tell({"loss": 1.0})
    with pytest.raises(TellError, match="already been told"):
        optimizer.report(treatment, 0, 1.0)
    assert optimizer.observations[0].replicates == ()


def test_several_objectives_take_a_mapping() -> None:
    optimizer = RandomOptimizer(
        {"x": (0.0, 1.0)}, [LOSS, Objective("accuracy", "maximize")], seed=0
    )
    (treatment,) = optimizer.ask()
    with pytest.raises(ObjectiveError, match="takes a mapping"):
        optimizer.report(treatment, 0, 1.0)
    assert optimizer.report(treatment, 0, {"accuracy": 0.5}) is False
    optimizer.tell({"loss": 1.0, "accuracy": 0.75})

    assert optimizer.observations[0].replicates[0].curves == {"accuracy": ((0, 0.5),)}


def test_without_an_error_the_message_names_only_the_status() -> None:
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=0)
    (treatment,) = optimizer.ask()
    optimizer.tell(Observation(treatment, status=Status.PRUNED))

    with pytest.raises(NoCompletedTrialError, match=r"The last, 'trial_0', is pruned\.$"):
        optimizer.get_best_treatment()
