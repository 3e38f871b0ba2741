"""The hypervolume of a history, counted in unit cubes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import Constraint, History, Objective, Observation, Status, Treatment
from crystallize_opt.errors import ObjectiveError, UsageError
from crystallize_opt.trials.objective import Direction

NAMES = ("a", "b", "c")
LOW, HIGH = -2, 3
small = st.integers(LOW, HIGH).map(float)


@st.composite
def histories(draw: st.DrawFn) -> tuple[History, dict[str, float]]:
    directions: st.SearchStrategy[Direction] = st.sampled_from(("minimize", "maximize"))
    objectives = [Objective(name, draw(directions)) for name in NAMES[: draw(st.integers(2, 3))]]
    trials = []
    for number in range(draw(st.integers(0, 8))):
        metrics = {name: draw(small) for name in (*NAMES, "lag")}
        status = draw(st.sampled_from([*[Status.COMPLETED] * 4, *Status]))
        trials.append(Observation(Treatment(f"t_{number}"), metrics, status))
    history = History(trials, objectives, [Constraint("lag", "<=", 1.0)])
    return history, {each.metric: draw(small) for each in objectives}


def counted(history: History, trials: int, reference: dict[str, float]) -> int:
    """How many unit cubes lie between the reference and a trial that counts."""
    points = [
        [each.sign * trial[each.metric] for each in history.objectives]
        for trial in history[:trials]
        if trial.status is Status.COMPLETED and trial["lag"] <= 1.0
    ]
    limits = [each.sign * reference[each.metric] for each in history.objectives]
    lowest = -max(abs(LOW), abs(HIGH))
    cubes = itertools.product(*(range(lowest, int(limit)) for limit in limits))
    return sum(
        any(all(p <= c for p, c in zip(point, cube, strict=True)) for point in points)
        for cube in cubes
    )


@given(histories())
def test_it_is_the_number_of_dominated_cubes_after_each_trial(
    given: tuple[History, dict[str, float]],
) -> None:
    history, reference = given
    expected = [counted(history, number + 1, reference) for number in range(len(history))]

    assert history.hypervolume_trace(reference) == pytest.approx(expected)
    assert history.hypervolume(reference) == pytest.approx([*expected, 0][len(history) - 1])


def of(*values: tuple[float, float], **threshold: Any) -> History:
    trials = [Observation(Treatment("t"), {"a": a, "b": b}) for a, b in values]
    return History(
        trials, [Objective("a", "minimize", **threshold), Objective("b", "maximize", **threshold)]
    )


def test_thresholds_are_the_reference_and_another_one_replaces_them() -> None:
    history = of((0.0, 3.0), (1.0, 9.0), threshold=2.0)

    assert history.hypervolume_trace() == [2.0, 8.0]
    assert history.hypervolume({"a": 1.0}) == 1.0


@pytest.mark.parametrize("reference", [None, {"a": 1.0}, {"a": 1.0, "b": float("nan")}])
def test_without_a_whole_reference_the_error_shows_the_worst_values(reference: Any) -> None:
    with pytest.raises(UsageError, match=r"'b' has (None|nan).*worst.*\{'a': 4.0, 'b': 1.0\}") as e:
        of((4.0, 3.0), (0.0, 1.0)).hypervolume(reference or {"a": 0.0})
    assert "threshold=" in str(e.value)


def test_what_has_no_hypervolume_is_refused() -> None:
    with pytest.raises(UsageError, match="'c' has 1"):
        of().hypervolume({"a": 1.0, "b": 1.0, "c": 1.0})
    with pytest.raises(ObjectiveError, match="several objectives; here is one: 'a'"):
        History([], [Objective("a", "minimize")]).hypervolume({"a": 1.0})
