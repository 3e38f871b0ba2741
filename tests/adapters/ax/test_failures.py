"""What Ax is told of trials that did not complete, and what it suggests then."""

from __future__ import annotations

import math

import pytest

from crystallize_opt import Constraint, Objective, Observation, Status
from crystallize_opt.adapters import AxOptimizer
from tests.adapters.ax.native import (
    LOSS,
    SQUARE,
    by_hand,
    quick_strategy,
    run,
    sobol_strategy,
    statuses,
    tell,
    told_data,
    trials_of,
)

FAILURES = [s for s in Status if s not in (Status.COMPLETED, Status.ABANDONED)]


def test_an_abandoned_trial_that_completes_is_a_completed_one() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
    run(optimizer, 1)
    late, failed = optimizer.ask(2)
    optimizer.abandon(late)
    optimizer.abandon(failed.name)
    assert statuses(optimizer) == ["COMPLETED", "ABANDONED", "ABANDONED"]
    assert set(told_data(optimizer)) == {0}
    tell(optimizer, late, Status.COMPLETED, loss=-3.0)
    tell(optimizer, failed, Status.FAILED)
    run(optimizer, 1)

    assert statuses(optimizer) == ["COMPLETED", "COMPLETED", "ABANDONED", "COMPLETED"]
    assert told_data(optimizer)[1][0] == -3.0
    assert 2 in told_data(optimizer), "a failed trial has the worst value"
    with by_hand():
        native = optimizer.client.get_best_parameterization(use_model_predictions=False)
    assert native[2] == 1
    assert [t.run_metadata.get("status") for t in trials_of(optimizer).values()] == [
        *(None, None, "failed", None)
    ]


@pytest.mark.parametrize("status", FAILURES, ids=str)
def test_a_failure_is_abandoned_with_the_worst_value_so_far(status: Status) -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=sobol_strategy())
    early, good, bad, failed, worse = optimizer.ask(5)
    tell(optimizer, early, status)
    assert told_data(optimizer) == {}, "something was told before anything was known"
    optimizer.tell(Observation(good, {"loss": 1.0}))
    optimizer.tell(Observation(bad, {"loss": 3.0}))
    tell(optimizer, failed, status)

    means = {index: mean for index, (mean, _) in told_data(optimizer).items()}
    assert means == {0: 3.0, 1: 1.0, 2: 3.0, 3: 3.0}
    optimizer.tell(Observation(worse, {"loss": 5.0}))
    means = {index: mean for index, (mean, _) in told_data(optimizer).items()}
    assert means == {0: 5.0, 1: 1.0, 2: 3.0, 3: 5.0, 4: 5.0}
    assert statuses(optimizer) == [
        "ABANDONED",
        "COMPLETED",
        "COMPLETED",
        "ABANDONED",
        "COMPLETED",
    ]
    assert optimizer.get_best_treatment() is good


def test_the_worst_value_is_the_lowest_where_the_objective_is_maximized() -> None:
    optimizer = AxOptimizer(
        SQUARE,
        [Objective("gain", "maximize"), LOSS],
        constraints=[Constraint("area", "<=", 1.0), Constraint("area", ">=", 0.0)],
        seed=0,
        generation_strategy=sobol_strategy(),
    )
    one, other, failed = optimizer.ask(3)
    optimizer.tell(Observation(one, {"gain": 1.0, "loss": 7.0, "area": 1.5}))
    optimizer.tell(Observation(other, {"gain": 2.0, "loss": 5.0, "area": -0.2}))
    tell(optimizer, failed, Status.FAILED)

    area, gain, loss = (told_data(optimizer, metric)[2][0] for metric in ("m0", "m1", "m2"))
    assert (gain, loss, area) == (1.0, 7.0, 1.5)


def test_an_abandoned_trial_is_told_without_data() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=sobol_strategy())
    known, abandoned = optimizer.ask(2)
    optimizer.tell(Observation(known, {"loss": 1.0}))
    tell(optimizer, abandoned, Status.ABANDONED)

    assert statuses(optimizer) == ["COMPLETED", "ABANDONED"]
    assert list(told_data(optimizer)) == [0]


def test_a_pruned_trial_is_stopped_early_with_its_means() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=sobol_strategy())
    known, pruned = optimizer.ask(2)
    optimizer.tell(Observation(known, {"loss": 1.0}, sem={"loss": 0.5}))
    optimizer.tell(Observation(pruned, {"loss": 2.0}, Status.PRUNED, sem={"loss": 0.25}))

    assert statuses(optimizer) == ["COMPLETED", "EARLY_STOPPED"]
    assert told_data(optimizer) == {0: (1.0, 0.5), 1: (2.0, 0.25)}


# Failures do not trap -----------------------------------------------------------------------------


def test_after_ten_failures_there_are_new_suggestions() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0)
    suggested = []
    for _ in range(12):
        (treatment,) = optimizer.ask()
        suggested.append(tuple(treatment.params.values()))
        tell(optimizer, treatment, Status.FAILED)

    assert len(set(suggested)) == 12


def test_a_failure_in_the_model_phase_is_not_suggested_again() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
    run(optimizer, 3)
    suggested = []
    for _ in range(4):
        (treatment,) = optimizer.ask()
        suggested.append((treatment.params["x"], treatment.params["y"]))
        tell(optimizer, treatment, Status.FAILED)

    distances = [
        math.dist(one, other) for i, one in enumerate(suggested) for other in suggested[:i]
    ]
    assert min(distances) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("failing_first", [0, 8])
def test_a_region_that_always_fails_does_not_trap(failing_first: int) -> None:
    """The left half fails, and holds the best point without failures; see docs/ax.md."""
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy(0, 5))
    outside = []
    for number in range(60):
        (treatment,) = optimizer.ask()
        x, y = treatment.params["x"], treatment.params["y"]
        outside.append(x >= 0.5)
        if x < 0.5 or number < failing_first:
            tell(optimizer, treatment, Status.FAILED)
        else:
            optimizer.tell({"loss": (x - 0.2) ** 2 + (y - 0.5) ** 2})

    assert sum(outside[-30:]) >= 15
    best = optimizer.get_best_treatment().params
    assert abs(best["x"] - 0.5) < 0.1
    assert abs(best["y"] - 0.5) < 0.1
