"""What the best assignments are, and in which order an observation has its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:The .data field:RuntimeWarning")

PARAMETERS = [{"name": "x", "type": "double", "bounds": {"min": 0, "max": 1}}]


def experiment_of(conn: Any, thresholds: tuple[float | None, float | None]) -> Any:
    metrics = [
        {"name": "speed", "objective": "maximize", "threshold": thresholds[0]},
        {"name": "cost", "objective": "minimize", "threshold": thresholds[1]},
    ]
    return conn.experiments().create(
        name="front", parameters=PARAMETERS, metrics=metrics, observation_budget=9
    )


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ((None, None), [3.0, 2.0, 1.0]),
        ((2.0, None), [3.0, 2.0]),
        ((None, 2.0), [2.0, 1.0]),
        ((2.0, 2.0), [2.0]),
        ((4.0, None), []),
    ],
)
def test_the_best_of_two_metrics_reach_the_thresholds(
    connect: Callable[..., Any],
    thresholds: tuple[float | None, float | None],
    expected: list[float],
) -> None:
    conn = connect()
    experiment = experiment_of(conn, thresholds)
    for value in (1.0, 2.0, 3.0):
        conn.experiments(experiment.id).observations().create(
            assignments={"x": value / 4},
            values=[{"name": "cost", "value": value}, {"name": "speed", "value": value}],
        )
    conn.experiments(experiment.id).observations().create(assignments={"x": 0.9}, failed=True)

    best = conn.experiments(experiment.id).best_assignments().fetch().data
    assert [each.values[0].value for each in best] == expected


def test_values_are_in_the_order_of_the_metrics(connect: Callable[..., Any]) -> None:
    conn = connect()
    experiment = experiment_of(conn, (None, None))
    observation = (
        conn.experiments(experiment.id)
        .observations()
        .create(
            assignments={"x": 0.5},
            values=[{"name": "cost", "value": 1.0}, {"name": "speed", "value": 2.0}],
        )
    )

    assert [each.name for each in observation.values] == ["speed", "cost"]


def test_the_driver_names_an_experiment_that_has_no_name(connect: Callable[..., Any]) -> None:
    experiment = connect().experiments().create(parameters=PARAMETERS)

    assert experiment.name == "experiment"


@pytest.mark.parametrize(
    ("count", "expected"), [(3, [0.1, 0.5, 0.9]), (5, [0.1, 0.5, 0.9, 0.9, 0.9])]
)
def test_solutions_are_distinct_first_and_as_many_as_wanted(
    connect: Callable[..., Any], count: int, expected: list[float]
) -> None:
    conn = connect()
    experiment = conn.experiments().create(
        name="solutions", parameters=PARAMETERS, num_solutions=count, observation_budget=9
    )
    for x, value in ((0.1, 5.0), (0.9, 1.0), (0.9, 1.0), (0.5, 3.0), (0.9, 1.0)):
        conn.experiments(experiment.id).observations().create(
            assignments={"x": x}, values=[{"value": value}]
        )

    best = conn.experiments(experiment.id).best_assignments().fetch().data
    assert [each.assignments["x"] for each in best] == expected
