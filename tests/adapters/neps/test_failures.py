"""What NePS is told of failed, abandoned and attached trials."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("neps", reason="it has an environment of its own: see .ci/run")

from crystallize_opt import Objective, Observation, Status, Treatment
from crystallize_opt.adapters import NePSOptimizer
from crystallize_opt.errors import UsageError

LOSS = Objective("loss", "minimize")
SPACE = {"x": (0.0, 1.0), "k": ["a", "b"]}
QUICK = {"initial_design_size": 2, "num_restarts": 2, "n_initial_start_points": 16}


def values_of(optimizer: NePSOptimizer) -> list[Any]:
    reports = [trial.report for trial in optimizer.neps.trials.values()]
    return [report and report.objective_to_minimize for report in reports]


def test_a_failed_trial_has_the_worst_value_and_an_abandoned_one_is_forgotten() -> None:
    optimizer = NePSOptimizer(SPACE, LOSS, seed=0, algorithm_options=QUICK)
    for status in (Status.FAILED, Status.ABANDONED, Status.INVALID):
        (treatment,) = optimizer.ask()
        optimizer.tell(Observation(treatment, {"loss": 1.0}, status))
    assert values_of(optimizer) == [0.0, 0.0]
    for loss in (2.0, 7.0):
        optimizer.ask()
        optimizer.tell({"loss": loss})

    assert sorted(values_of(optimizer)) == [2.0, 7.0, 7.0, 7.0]


def test_with_several_objectives_a_failed_trial_has_the_worst_values() -> None:
    goals = [LOSS, Objective("size", "maximize")]
    optimizer = NePSOptimizer(SPACE, goals, seed=0, algorithm_options=QUICK)
    (treatment,) = optimizer.ask()
    optimizer.tell(Observation(treatment, status=Status.FAILED))
    assert values_of(optimizer) == [[0.0, 0.0]]

    for loss, size in ((1.0, 5.0), (3.0, 7.0)):
        (treatment,) = optimizer.ask()
        optimizer.tell({"loss": loss, "size": size})
    (treatment,) = optimizer.ask()
    optimizer.tell(Observation(treatment, status=Status.TIMED_OUT))

    expected = [[1.0, -5.0], [3.0, -7.0], [3.0, -5.0], [3.0, -5.0]]
    assert sorted(values_of(optimizer)) == sorted(expected)
    assert optimizer.ask()[0].params["k"] in ("a", "b")  # NePS itself would raise TypeError here.


def test_attached_and_suggested_trials_have_numbers_in_one_row() -> None:
    optimizer = NePSOptimizer(SPACE, LOSS, seed=0, algorithm_options=QUICK)
    optimizer.ask()
    optimizer.attach(Observation(Treatment("mine", {"x": 0.5, "k": "b"}), {"loss": 1.0}))
    optimizer.ask()

    assert list(optimizer.neps.trials) == ["1", "2", "3"]
    assert optimizer.neps.trials["2"].config == {"x": 0.5, "k": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithm": "hyperband"}, "'bayesian_optimization' or 'random_search'"),
        ({"algorithm_options": {"no_such": 1}}, "no_such"),
        ({"algorithm_options": {"initial_design_size": 0}}, "initial_design_size"),
        ({"timeout": 3.0}, "python="),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NePSOptimizer(SPACE, LOSS, **options)
