"""Objectives and outcome constraints."""

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crystallize_opt import Constraint, Objective
from crystallize_opt.errors import ObjectiveError
from crystallize_opt.trials.objective import as_constraints, as_objectives

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE)
def test_the_worst_value_loses_against_every_other(value: float) -> None:
    assert Objective("m", "minimize").worst > value > Objective("m", "maximize").worst


@pytest.mark.parametrize("direction", ["min", "Minimize", "", None, ["minimize"]])
def test_an_unknown_direction_is_refused(direction: Any) -> None:
    with pytest.raises(ObjectiveError, match=r"for the metric 'loss'. Allowed: 'minimize', 'max"):
        Objective("loss", direction)


@pytest.mark.parametrize("metric", ["", None, ["loss", "time"], 3])
def test_what_is_no_metric_name_is_refused(metric: Any) -> None:
    with pytest.raises(ObjectiveError, match="one metric"):
        Objective(metric, "minimize")
    with pytest.raises(ObjectiveError, match="one metric"):
        Constraint(metric, "<=", 1.0)


@given(FINITE, FINITE)
def test_a_constraint_holds_where_the_violation_is_not_positive(value: float, bound: float) -> None:
    assert (Constraint("m", "<=", bound).violation(value) <= 0) == (value <= bound)
    assert (Constraint("m", ">=", bound).violation(value) <= 0) == (value >= bound)


@given(st.floats(-1e3, 1e3), st.floats(-1e6, 1e6).filter(bool), st.floats(-1e6, 1e6))
def test_a_relative_bound_is_a_change_in_percent_of_the_baselines_size(
    percent: float, baseline: float, value: float
) -> None:
    found = Constraint("m", "<=", percent, relative_to_baseline=True).against(baseline)

    change = 100 * (value - baseline) / abs(baseline)
    assume(abs(change - percent) > 1e-6 * (1 + abs(change)))
    assert (found.violation(value) <= 0) == (change <= percent)
    assert not found.relative_to_baseline
    assert found.against(99.0) is found


def test_a_relative_bound_needs_a_baseline_of_some_size() -> None:
    constraint = Constraint("time", ">=", -5, relative_to_baseline=True)

    assert constraint.text == "time >= baseline - 5 %"
    with pytest.raises(ObjectiveError, match=r"baseline's mean of 'time' is 0.*absolute bound"):
        constraint.against(0.0)
    with pytest.raises(ObjectiveError, match=r"is True or False, not 10\.0.*baseline=True"):
        Constraint("time", "<=", 5, relative_to_baseline=10.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("comparison", "bound", "message"),
    [
        ("<", 1.0, "Unknown comparison '<' for the metric 'time'. Allowed: '<=', '>='"),
        ("<=", math.nan, "bound of 'time' is a finite number, not nan"),
        (">=", math.inf, "bound of 'time' is a finite number, not inf"),
        (">=", "1", "bound of 'time' is a finite number, not '1'"),
    ],
)
def test_a_constraint_that_is_not_well_defined_is_refused(
    comparison: Any, bound: Any, message: str
) -> None:
    with pytest.raises(ObjectiveError, match=message):
        Constraint("time", comparison, bound)


def test_one_or_several_objectives() -> None:
    a, b = Objective("a", "minimize"), Objective("b", "maximize")

    assert as_objectives(a) == (a,)
    assert as_objectives([a, b]) == (a, b)


@pytest.mark.parametrize("threshold", [math.nan, -math.inf, "1", [1.0]])
def test_a_threshold_is_a_finite_number(threshold: Any) -> None:
    with pytest.raises(ObjectiveError, match="threshold of 'time' is a finite number, not"):
        Objective("time", "minimize", threshold=threshold)


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (Objective("a", "minimize", threshold=1), "'a' is the only one"),
        (
            [Objective("a", "minimize", threshold=0.0), Objective("b", "maximize")],
            r"With a threshold: \['a'\]; without: \['b'\]",
        ),
        ([], "At least one objective"),
        ("loss", "not 'loss'"),
        ({"loss": "minimize"}, "not {'loss': 'minimize'}"),
        (["loss"], "not 'loss'"),
        (None, "not None"),
        ([Objective("a", "minimize"), Objective("a", "maximize")], r"same metric: \['a', 'a'\]"),
    ],
)
def test_what_is_no_objective_is_refused(objectives: Any, message: str) -> None:
    with pytest.raises(ObjectiveError, match=message):
        as_objectives(objectives)


@pytest.mark.parametrize("wrong", ["loss <= 3", Constraint("loss", "<=", 3.0), None, ["loss <= 3"]])
def test_what_is_no_list_of_constraints_is_refused(wrong: Any) -> None:
    with pytest.raises(ObjectiveError, match=r"Constraint\(metric, '<=', 10\.0\).*not "):
        as_constraints(wrong)
