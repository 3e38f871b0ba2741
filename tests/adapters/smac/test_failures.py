"""What SMAC is told of trials: costs, failures, extreme values."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from smac import AlgorithmConfigurationFacade, BlackBoxFacade, HyperparameterOptimizationFacade
from smac.runhistory import StatusType
from smac.runhistory.encoder import RunHistoryLogScaledEncoder

from crystallize_opt import Objective, Observation, Status
from crystallize_opt.adapters import SMACOptimizer
from crystallize_opt.errors import NoCompletedTrialError
from tests.adapters.parity import search
from tests.adapters.smac.native import (
    FEW_CANDIDATES,
    LOSS,
    SQUARE,
    fail,
    rows_of_the_model,
    told,
)


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.COMPLETED])
def test_a_failed_trial_is_told_as_a_little_worse_than_the_worst(status: Status) -> None:
    optimizer = SMACOptimizer(SQUARE, Objective("gain", "maximize"), seed=0)
    for gain in (5.0, 1.0):
        optimizer.ask()
        optimizer.tell({"gain": gain})
    fail(optimizer, status)

    assert told(optimizer) == [
        (-5.0, StatusType.SUCCESS),
        (-1.0, StatusType.SUCCESS),
        (pytest.approx(-0.6), StatusType.CRASHED),
    ]
    # A new worst one, and the failure is told again.
    optimizer.ask()
    optimizer.tell({"gain": -5.0})
    assert told(optimizer)[2] == (pytest.approx(6.0), StatusType.CRASHED)
    assert optimizer.get_best_treatment().name == "trial_0"
    infos = [value.additional_info for value in optimizer.facade.runhistory.values()]
    assert [info["status"] for info in infos] == ["completed", "completed", status, "completed"]


def test_an_abandoned_trial_that_completes_is_a_completed_one() -> None:
    optimizer = SMACOptimizer(SQUARE, LOSS, seed=0)
    optimizer.ask()
    optimizer.tell({"loss": 1.0})
    late, failed = optimizer.ask(2)
    optimizer.abandon(late)
    optimizer.abandon(failed)
    assert rows_of_the_model(optimizer) == 1
    optimizer.tell(Observation(late, {"loss": -3.0}))
    optimizer.tell(Observation(failed, status=Status.FAILED))
    optimizer.ask()
    optimizer.tell({"loss": 5.0})  # A new worst one: only the failure is told again.

    assert told(optimizer) == [
        (1.0, StatusType.SUCCESS),
        (-3.0, StatusType.SUCCESS),
        (pytest.approx(5.8), StatusType.CRASHED),
        (5.0, StatusType.SUCCESS),
    ]
    assert rows_of_the_model(optimizer) == 4
    assert optimizer.facade.runhistory.running == 0


def test_after_ten_failures_it_still_suggests_and_nothing_runs() -> None:
    optimizer = SMACOptimizer(SQUARE, LOSS, seed=0, n_init=4, facade_options=FEW_CANDIDATES)
    failed = [dict(fail(optimizer).params) for _ in range(10)]

    assert len({repr(point) for point in failed}) == 10
    assert optimizer.facade.runhistory.running == 0
    assert all(math.isfinite(cost) for cost, _ in told(optimizer))
    with pytest.raises(NoCompletedTrialError):
        optimizer.get_best_treatment()
    # Nothing is known: the model must not have learned that all ten are equally good.
    assert rows_of_the_model(optimizer) == 0
    optimizer.ask()
    optimizer.tell({"loss": 3.0})
    assert rows_of_the_model(optimizer) == 11
    assert {cost for cost, status in told(optimizer) if status is StatusType.CRASHED} == {3.3}
    search(optimizer, 2)


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.COMPLETED])
def test_the_model_learns_from_every_failure_but_abandoned_trials(status: Status) -> None:
    optimizer = SMACOptimizer(SQUARE, LOSS, seed=0)
    search(optimizer, 2)
    fail(optimizer, status)

    assert rows_of_the_model(optimizer) == (2 if status is Status.ABANDONED else 3)
    assert optimizer.facade.runhistory.running == 0


def test_huge_and_equal_values_do_not_stop_the_search() -> None:
    huge = [1e308, -1e308, 0.0, 5e-324, 1e300]
    cases: list[tuple[list[float], dict[str, Any]]] = [
        (huge, {"facade_options": FEW_CANDIDATES}),
        ([0.0] * 5, {"facade": AlgorithmConfigurationFacade}),
    ]
    for losses, options in cases:
        optimizer = SMACOptimizer(SQUARE, LOSS, seed=0, n_trials=12, **options)
        for loss in losses:
            optimizer.ask()
            optimizer.tell({"loss": loss})
        fail(optimizer)
        assert all(math.isfinite(cost) for cost, _ in told(optimizer))
        search(optimizer, 1)


def test_several_objectives() -> None:
    objectives = [Objective("cost", "minimize"), Objective("gain", "maximize")]
    optimizer = SMACOptimizer(SQUARE, objectives, seed=0, n_init=4, facade_options=FEW_CANDIDATES)
    for number in range(7):
        (treatment,) = optimizer.ask()
        x, y = treatment.params["x"], treatment.params["y"]
        if number == 2:
            optimizer.tell(Observation(treatment, {"cost": 0.0}, Status.FAILED))
        else:
            optimizer.tell({"cost": x, "gain": x - y})

    costs = [o.metrics for o in optimizer.observations]
    known = [cost for cost, status in told(optimizer) if status is StatusType.SUCCESS]
    assert known == [[m["cost"], -m["gain"]] for i, m in enumerate(costs) if i != 2]
    penalty = told(optimizer)[2][0]
    for own, column in zip(penalty, zip(*known, strict=True), strict=True):
        assert own == pytest.approx(max(column) + 0.1 * (max(column) - min(column)))
    assert optimizer.facade.scenario.objectives == ["cost", "gain"]
    assert optimizer.get_best_treatment() in [o.treatment for o in optimizer.pareto_front()]


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 12])
def test_a_region_that_always_fails_is_no_trap(first: int) -> None:
    """Half of the square fails, and holds the optimum; in the beginning perhaps all of it."""
    outside = []
    for seed in range(2):
        optimizer = SMACOptimizer(SQUARE, LOSS, seed=seed)
        for number in range(60):
            (treatment,) = optimizer.ask()
            x, y = treatment.params["x"], treatment.params["y"]
            if x < 0.5 or number < first:
                optimizer.tell(Observation(treatment, status=Status.FAILED))
            else:
                optimizer.tell({"loss": (x - 0.25) ** 2 + (y - 0.5) ** 2})
        last = optimizer.observations[-30:]
        outside.append(sum(o.treatment.params["x"] >= 0.5 for o in last))
    assert min(outside) >= 15


@functools.cache
def the_encoder() -> Any:
    return SMACOptimizer(SQUARE, LOSS, seed=0).facade._runhistory_encoder


@given(
    scale=st.sampled_from([1e-9, 1.0, 1e7, 1e12, 1e100]),
    shift=st.sampled_from([0.0, 1e3, -1e9, 1e16]),
    steps=st.lists(st.integers(0, 3), min_size=1, max_size=12),
)
def test_the_model_gets_finite_costs_in_their_order(
    scale: float, shift: float, steps: list[int]
) -> None:
    """Also of large costs with ties, of which SMAC's own logarithm is infinite."""
    costs = np.array([[scale * step + shift] for step in steps])
    encoder = the_encoder()
    encoder._min_y, encoder._max_y = costs.min(axis=0), costs.max(axis=0)
    encoder._percentile = np.percentile(costs, encoder._scale_percentage, axis=0)
    scaled = encoder.transform_response_values(costs)

    assert np.isfinite(scaled).all()
    assert (np.argsort(scaled[:, 0], kind="stable") == np.argsort(costs[:, 0], kind="stable")).all()
    own = RunHistoryLogScaledEncoder.transform_response_values(encoder, costs)
    assert not np.isfinite(own).all() or np.array_equal(scaled, own)
    assert np.array_equal(encoder._min_y, costs.min(axis=0))


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: 1e7 * (1 + int(4 * x)),
        lambda x: 1e100 * (1 + int(4 * x)),
        lambda x: 10 ** (200 * x - 100),
        lambda _: 1.0,
    ],
    ids=["large ties", "larger ties", "all magnitudes", "a plateau"],
)
@pytest.mark.parametrize(
    "kind",
    [HyperparameterOptimizationFacade, pytest.param(BlackBoxFacade, marks=pytest.mark.slow)],
)
def test_no_costs_stop_the_search_or_cause_a_warning(
    kind: Any, loss: Callable[[float], float], capfd: pytest.CaptureFixture[str]
) -> None:
    optimizer = SMACOptimizer(
        {"x": (0.0, 1.0)}, LOSS, seed=0, n_init=6, facade=kind, facade_options=FEW_CANDIDATES
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(8):
            (treatment,) = optimizer.ask()
            optimizer.tell({"loss": loss(treatment.params["x"])})

    assert list(map(str, caught)) == []
    assert capfd.readouterr() == ("", "")
