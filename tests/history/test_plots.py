"""The pictures of a run: what they show, and that any history can be drawn."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from crystallize_opt import (
    Constraint,
    Float,
    History,
    Integer,
    Objective,
    Observation,
    Replicate,
    SearchSpace,
    Status,
    Treatment,
    report,
)
from crystallize_opt.errors import UnknownMetricError, UsageError
from tests.strategies import spaces

LOSS, COST = Objective("loss", "minimize"), Objective("cost", "maximize")
SPACE = SearchSpace(
    {
        "rate": Float(1e-4, 1.0, log=True),
        "layers": Integer(1, 8),
        "optimizer": ["sgd", None],
        "momentum": Float(0.0, 1.0).when(optimizer="sgd"),
    }
)


def observed(number: int, space: SearchSpace = SPACE, **changes: Any) -> Observation:
    params = space.sample(number)
    values = {"loss": 1.0 / (number + 1), "cost": float(number % 5)}
    curve = tuple((step, 2.0 / (step + number + 1)) for step in range(number % 4 + 1))
    fields: dict[str, Any] = {
        "metrics": values,
        "replicates": [Replicate(0, 0, values, curves={"loss": curve})],
        "started_at": 1000.0 + number // 2,
        "duration": 0.9,
    }
    return Observation(Treatment(f"trial_{number}", params), **{**fields, **changes})


TRIALS = [
    *map(observed, range(12)),
    observed(12, status=Status.FAILED, metrics={}, error="it broke"),
    observed(13, status=Status.PRUNED, metrics={"loss": 50.0, "cost": 0.0}),
]
HISTORY = History(TRIALS, [LOSS], space=SPACE, baseline=observed(20))
PICTURES: dict[str, Callable[[History], Any]] = {
    "best": History.plot,
    "slices": History.plot_parameters,
    "parallel": lambda history: history.plot_parameters("parallel"),
    "importance": History.plot_importance,
    "curves": History.plot_curves,
    "timeline": History.plot_timeline,
}


def of(drawn: Any) -> list[Any]:
    """Return what a line shows as a list."""
    found: list[Any] = np.asarray(drawn).tolist()
    return found


def is_drawn(picture: Any) -> bool:
    """Whether a notebook would show something with dark lines on a white ground."""
    pixels = imread(io.BytesIO(picture._repr_png_()))[..., :3]
    return bool(np.ptp(pixels) == 1.0)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_drawn(name: str) -> None:
    assert is_drawn(PICTURES[name](HISTORY))


HARD: dict[str, tuple[str, float, float]] = {
    "formulas": ("^a$|^b_$", 0.0, 1.0),
    "long names": ("histgradientboostingclassifier__" * 3, 0.0, 1.0),
    "squares that overflow": ("loss", -1e160, 1e160),
    "the largest floats": ("loss", -sys.float_info.max, sys.float_info.max),
    "the smallest floats": ("loss", 5e-324, 2e-308),
}


def hard_history(metric: str, low: float, high: float) -> History:
    space = SearchSpace({metric: ["^a$|^b_$", "${HOME}/$X_1"], "x": Float(1e-3, 1.0, log=True)})
    trials = []
    for number in range(12):
        value = high if number % 4 == 0 else low if number == 6 else number / 12
        values = {metric: value, "cost": -value}
        curves = {metric: ((0, value), (1, low))}
        trials.append(
            Observation(
                Treatment(f"$t_{number}$", space.sample(number)),
                values,
                replicates=[Replicate(0, 0, values, curves=curves)],
                started_at=float(number),
                duration=1.0,
            )
        )
    return History(trials, [Objective(metric, "minimize")], space=space)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("hard", HARD)
def test_any_names_and_finite_numbers_are_drawn(name: str, hard: str) -> None:
    picture = PICTURES[name](hard_history(*HARD[hard]))
    assert is_drawn(picture)


@pytest.mark.parametrize("hard", HARD)
def test_a_front_and_a_report_of_any_names_and_finite_numbers(hard: str, tmp_path: Path) -> None:
    history = hard_history(*HARD[hard])
    goals = [*history.objectives, Objective("cost", "minimize")]
    assert is_drawn(History(history.observations, goals, space=history.space).plot_pareto())
    report(history, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 1000


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_of_a_curve_that_is_no_finite_number_is_a_gap(value: float) -> None:
    curves = {"loss": ((0, 1.0), (1, value), (2, 0.5))}
    trial = observed(0, replicates=[Replicate(0, 0, {"loss": 0.5}, curves=curves)])
    (ax,) = History([trial], [LOSS]).plot_curves().axes
    assert of(ax.lines[0].get_ydata()) == pytest.approx([1.0, value, 0.5], nan_ok=True)


def test_dollar_signs_stand_in_a_picture_and_powers_of_ten_are_formulas() -> None:
    picture = hard_history(*HARD["formulas"]).plot_parameters()
    picture.draw_without_rendering()
    choices, numbers = picture.axes
    assert choices.get_xlabel() == "^a$|^b_$"
    for text in (choices.xaxis.label, choices.yaxis.label, *choices.get_xticklabels()):
        assert not text.get_parse_math()
    assert all(each.get_parse_math() for each in numbers.get_xticklabels())
    picture.axes[0].set_title("$x^2$")  # A formula of the caller stays one.
    assert picture.axes[0].title.get_text() == "$x^2$"


def test_the_picture_of_a_run_shows_values_best_failures_and_baseline() -> None:
    (ax,) = HISTORY.plot().axes
    lines = {line.get_label(): line for line in ax.lines}

    assert ax.get_ylabel() == "loss (minimize)"
    assert {*lines} == {"trial", "pruned", "best so far", "baseline", "1 failed"}
    assert of(lines["trial"].get_ydata()) == [1 / (n + 1) for n in range(12)]
    assert of(lines["1 failed"].get_xdata()) == [13]
    assert of(lines["best so far"].get_ydata())[-1] == 1 / 12
    # The pruned trial would squeeze all others.
    assert ax.get_ylim()[1] < 2
    assert [text.get_text() for text in ax.texts] == ["1 trials above"]


def test_a_maximized_objective_is_cut_off_below() -> None:
    trials = [
        Observation(Treatment(f"t{n}", {"x": n}), {"score": -1e6 if n == 3 else float(n)})
        for n in range(20)
    ]
    (ax,) = History(trials, [Objective("score", "maximize")]).plot().axes

    assert ax.get_ylim()[0] > -20
    assert [text.get_text() for text in ax.texts] == ["1 trials below"]


def test_a_constraint_marks_the_trials_that_violate_it() -> None:
    history = History(TRIALS, [LOSS], [Constraint("cost", "<=", 3.0)])
    (ax,) = history.plot().axes
    lines = {line.get_label(): line for line in ax.lines}

    assert of(lines["violates a constraint"].get_xdata()) == [5, 10]


def test_slices_have_a_panel_for_each_parameter() -> None:
    axes = HISTORY.plot_parameters().axes

    assert [ax.get_xlabel() for ax in axes] == ["rate", "layers", "optimizer", "momentum"]
    assert [ax.get_xscale() for ax in axes] == ["log", "linear", "linear", "linear"]
    assert [tick.get_text() for tick in axes[2].get_xticklabels()] == ["'sgd'", "None"]


@pytest.mark.parametrize("step", [0.0, 1e-12, 1.0, 1e300])
def test_the_importance_needs_values_that_differ_however_little(step: float) -> None:
    space = SearchSpace({"x": Float(0, 1), "y": Float(0, 1)}, [])
    trials = [
        Observation(
            Treatment(f"t_{number}", {"x": number / 20, "y": number * 7 % 20 / 20}),
            {"loss": 1.0 + step * number},
        )
        for number in range(20)
    ]
    history = History(trials, [LOSS], space=space)
    if step:
        assert history.importance()["x"] > 0.8
    else:
        with pytest.raises(UsageError, match="'loss' is the same in all 20 completed trials"):
            history.importance()


def test_the_importance_finds_the_parameter_that_matters() -> None:
    space = SearchSpace({"x": (0.0, 1.0), "y": (0.0, 1.0), "z": ["a", "b"]})
    trials = [
        Observation(Treatment(f"t{n}", point := space.sample(n)), {"loss": 9 * point["x"]})
        for n in range(40)
    ]
    history = History(trials, [LOSS], space=space)

    assert next(iter(history.importance())) == "x"
    assert history.importance()["x"] > 0.9
    assert sum(history.importance().values()) == pytest.approx(1.0)


def test_several_objectives() -> None:
    goals = [
        Objective("loss", "minimize", threshold=2.0),
        Objective("cost", "maximize", threshold=0),
    ]
    history = History(TRIALS, goals, space=SPACE)
    (ax,) = history.plot_pareto().axes

    assert (ax.get_xlabel(), ax.get_ylabel()) == ("loss (minimize)", "cost (maximize)")
    lines = {line.get_label(): line for line in ax.lines}
    assert {*lines} == {"trial", "Pareto front", "compromise", "thresholds"}
    front = [(each["loss"], each["cost"]) for each in history.pareto_front]
    assert of(lines["Pareto front"].get_xydata()) == [list(point) for point in sorted(front)]
    assert len(history.plot().axes) == 2
    assert is_drawn(history.plot_importance())
    third = [*goals, Objective("size", "minimize", threshold=9.0)]
    more = [
        Observation(each.treatment, {**each.metrics, "size": each.params["rate"]})
        for each in TRIALS[:12]
    ]
    assert len(History(more, third).plot_pareto().axes) == 3


def test_the_timeline_shows_how_many_trials_ran_at_once() -> None:
    (ax,) = HISTORY.plot_timeline().axes

    assert ax.get_title() == "2 at once, busy 91 % of the time"


def test_a_picture_that_cannot_be_drawn_says_why() -> None:
    empty = History([], [LOSS])
    for draw, message in (
        (History.plot_parameters, "No trial completed"),
        (History.plot_importance, "No trial completed"),
        (History.plot_curves, r"ctx\.report"),
        (History.plot_timeline, "no timeline"),
        (History.plot_pareto, "several objectives"),
    ):
        with pytest.raises(UsageError, match=message):
            draw(empty)
    with pytest.raises(UnknownMetricError, match="no objectives"):
        History(TRIALS).plot()
    with pytest.raises(UsageError, match="'loss', not 'accuracy'"):
        HISTORY.plot_parameters(metric="accuracy")
    with pytest.raises(UsageError, match="'slices' or 'parallel', not 'pie'"):
        HISTORY.plot_parameters("pie")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"'cost'.*with curves: 'loss'"):
        HISTORY.plot_curves("cost")
    assert empty.plot().axes


@given(space=spaces(), count=st.integers(1, 6))
@settings(
    max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
def test_a_run_over_any_space_is_drawn(space: SearchSpace, count: int) -> None:
    history = History([observed(n, space) for n in range(count)], [LOSS], space=space)

    for draw in (History.plot, History.plot_parameters, PICTURES["parallel"]):
        draw(history).canvas.draw()
