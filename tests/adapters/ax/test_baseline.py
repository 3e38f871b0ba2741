"""The baseline as Ax's status quo, and outcome constraints relative to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import (
    Constraint,
    Float,
    History,
    Objective,
    Observation,
    SearchSpace,
    Treatment,
)
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.errors import UsageError
from crystallize_opt.interchange import history_from_ax
from tests.adapters.ax.native import (
    LOSS,
    SQUARE,
    generators_of,
    native_suggestions,
    quick_strategy,
    run,
    sobol_strategy,
    told_data,
)
from tests.adapters.parity import exactly
from tests.toy import experiment_of

MIDDLE = {"x": 0.5, "y": 0.5}
GAIN = Objective("gain", "maximize")


def evaluate(params: Mapping[str, Any]) -> dict[str, float]:
    x, y = params["x"], params["y"]
    return {"loss": (x - 1) ** 2 + y, "gain": x - y, "area": 2 * x + 0.25 * y}


def relative(metric: str, comparison: Any, percent: float) -> Constraint:
    return Constraint(metric, comparison, percent, relative_to_baseline=True)


def with_baseline(
    point: Mapping[str, Any] | None, *args: Any, strategy: Any = None, **options: Any
) -> AxOptimizer:
    strategy = strategy or quick_strategy()
    optimizer = AxOptimizer(SQUARE, *args, seed=0, generation_strategy=strategy, **options)
    metrics = {m: v for m, v in evaluate(MIDDLE).items() if m in optimizer.required_metrics}
    optimizer.set_baseline(Observation(Treatment("baseline", point), metrics))
    return optimizer


CASES: dict[str, tuple[Any, str, list[Constraint], list[str]]] = {
    "no constraint": (LOSS, "-loss", [], []),
    "one objective": (LOSS, "-loss", [relative("area", "<=", 5)], ["area <= 1.05 * baseline"]),
    "two sides": (
        LOSS,
        "-loss",
        [relative("area", "<=", 5), relative("area", ">=", -25), relative("area", "<=", 7)],
        ["area <= 1.05 * baseline", "area >= 0.75 * baseline"],
    ),
    "several objectives": (
        [LOSS, GAIN],
        "-loss, gain",
        [relative("area", "<=", 5)],
        ["area <= 1.05 * baseline"],
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        each if each == "one objective" else pytest.param(each, marks=pytest.mark.slow)
        for each in CASES
    ],
)
def test_suggestions_are_those_of_the_loop_with_a_status_quo(name: str) -> None:
    objectives, objective, constraints, native_constraints = CASES[name]
    optimizer = with_baseline(MIDDLE, objectives, constraints=constraints)
    metrics = set(optimizer.required_metrics)

    def told(params: Mapping[str, Any]) -> dict[str, float]:
        return {m: value for m, value in evaluate(params).items() if m in metrics}

    native = native_suggestions(
        SearchSpace(SQUARE),
        4,
        seed=0,
        strategy=quick_strategy(),
        objective=objective,
        constraints=native_constraints,
        evaluate=told,
        baseline=MIDDLE,
    )
    assert exactly(run(optimizer, 4, told)) == exactly(native)
    assert generators_of(optimizer)[-1] == "BoTorch"
    assert optimizer.client._experiment.status_quo is not None


@pytest.mark.parametrize(
    ("point", "constraints", "expected"),
    [
        (None, [relative("area", "<=", 100)], [Constraint("area", "<=", 2.25)]),
        (
            MIDDLE,
            [relative("area", "<=", 100), Constraint("area", ">=", 0.5)],
            [Constraint("area", "<=", 2.25), Constraint("area", ">=", 0.5)],
        ),
    ],
)
def test_where_ax_cannot_take_it_as_relative_the_bound_is_absolute(
    point: Any, constraints: list[Constraint], expected: list[Constraint]
) -> None:
    optimizer = with_baseline(point, LOSS, constraints=constraints, strategy=sobol_strategy())
    plain = with_baseline(point, LOSS, constraints=expected, strategy=sobol_strategy())

    assert exactly(run(optimizer, 4, evaluate)) == exactly(run(plain, 4, evaluate))
    configs = [repr(each.client._experiment.optimization_config) for each in (optimizer, plain)]
    assert configs[0] == configs[1]
    history = history_from_ax(optimizer.client)
    assert history.best == history_from_ax(plain.client).best
    assert history.constraints == tuple(expected)


def test_the_status_quo_is_the_baseline_of_the_clients_history() -> None:
    optimizer = AxOptimizer(
        SQUARE,
        LOSS,
        constraints=[relative("area", "<=", 5)],
        seed=0,
        generation_strategy=sobol_strategy(),
    )
    optimizer.set_baseline(Observation(Treatment("usual", MIDDLE), evaluate(MIDDLE)))
    run(optimizer, 3, evaluate)

    history = history_from_ax(optimizer.client)
    assert history.baseline is not None
    assert history.baseline.params == MIDDLE
    assert dict(history.baseline) == {"loss": 0.75, "area": 1.125}
    assert [dict(o.params) for o in history] == [dict(o.params) for o in optimizer.observations]
    assert history.constraints == (relative("area", "<=", 5),)
    expected = optimizer.history.best
    assert history.best is not None
    assert expected is not None
    assert history.best.params == expected.params


def test_its_status_quo_stays_and_may_be_a_point_that_was_tried() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=sobol_strategy())
    (point,) = run(optimizer, 1)
    optimizer.set_baseline(Observation(Treatment("usual", point), {"loss": 4.0}))
    optimizer.set_baseline(Observation(Treatment("usual", point), {"loss": 4.0}))

    assert told_data(optimizer)[1][0] == 4.0
    assert len(told_data(optimizer)) == 2
    with pytest.raises(UsageError, match="Ax has another baseline as its status quo"):
        optimizer.set_baseline(Observation(Treatment("usual", point), {"loss": 5.0}))


def step(data: Any, ctx: Any, *, x: float = 0.5, y: float = 0.5) -> Any:
    return data, evaluate({"x": x, "y": y + ctx["seed_used"] % 2})


def test_a_search_with_a_baseline_resumes_exactly(tmp_path: Path) -> None:
    def search(trials: int, path: Path) -> AxOptimizer:
        optimizer = AxOptimizer(
            SQUARE,
            LOSS,
            constraints=[relative("area", "<=", 5)],
            seed=0,
            generation_strategy=quick_strategy(initial=3),
        )
        experiment_of(step, seed=1).optimize(
            optimizer, trials, 2, storage=path, baseline=True, progress=False
        )
        return optimizer

    whole = search(3, tmp_path / "whole.db")
    search(2, tmp_path / "parts.db")
    again = search(3, tmp_path / "parts.db")

    points = [[dict(o.params) for o in each.observations] for each in (whole, again)]
    assert exactly(points[0]) == exactly(points[1])
    mean, sem = told_data(again)[0]
    assert mean == 1.25
    assert math.isnan(sem)  # The trials share the noise.
    assert generators_of(again)[-1] == "BoTorch"
    status_quo = again.client._experiment.status_quo
    assert status_quo is not None
    assert status_quo.parameters == {"p0": 0.5, "p1": 0.5}
    assert History.load(tmp_path / "parts.db").best == again.history.best


def test_in_a_space_with_conditions_the_bound_is_a_value() -> None:
    space = SearchSpace({"kind": ["a", "b"], "x": Float(0.0, 1.0).when(kind="a"), "y": (0.0, 1.0)})
    optimizer = AxOptimizer(
        space,
        LOSS,
        constraints=[relative("area", "<=", 10)],
        seed=0,
        generation_strategy=sobol_strategy(),
    )
    baseline = Treatment("baseline", {"kind": "b", "y": 0.5})
    optimizer.set_baseline(
        Observation(baseline, {"loss": 1.0, "area": 2.0}), {"kind": "b", "y": 0.5}
    )

    for treatment in optimizer.ask(3):
        optimizer.tell(Observation(treatment, {"loss": treatment["y"], "area": 2.1}))
    config = optimizer.client._experiment.optimization_config
    assert config is not None
    (bound,) = config.outcome_constraints
    assert bound.bound == pytest.approx(2.2)
    assert not bound.relative
    assert optimizer.client._experiment.status_quo is None
    assert optimizer.history.baseline is not None
