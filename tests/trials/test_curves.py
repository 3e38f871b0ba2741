"""Points of learning curves: which are taken, and what they say of a pruned replicate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import FrozenContext, Observation, Replicate, Status, Treatment
from crystallize_opt.errors import UsageError
from crystallize_opt.trials.curves import last_value

points = st.dictionaries(st.integers(0, 50), st.floats(), max_size=8)


@given(st.dictionaries(st.sampled_from(["loss", "accuracy", "größe"]), points))
def test_a_context_keeps_the_points_in_order(given: dict[str, dict[int, float]]) -> None:
    ctx = FrozenContext()
    for metric, curve in given.items():
        for step, value in curve.items():
            assert ctx.report(metric, value, step) is False

    wanted = {metric: tuple(curve.items()) for metric, curve in given.items() if curve}
    assert repr(ctx.curves) == repr(wanted)


@pytest.mark.parametrize("value", [np.float32(0.5), np.array(0.5), 1, True])
def test_a_value_may_be_any_number(value: Any) -> None:
    ctx = FrozenContext()
    step: Any = np.int64(3)
    ctx.report("loss", value, step)

    assert ctx.curves == {"loss": ((3, float(value)),)}
    assert [type(each) for each in ctx.curves["loss"][0]] == [int, float]


@pytest.mark.parametrize("step", [-1, 0.0, 1.5, True, None, "3", math.nan])
def test_a_step_is_a_whole_number(step: Any) -> None:
    with pytest.raises(UsageError, match="step of 'loss' is a whole number, at least 0"):
        FrozenContext().report("loss", 0.5, step)


@pytest.mark.parametrize("value", ["0.5", None, [0.5], np.zeros(2), 1j])
def test_a_value_is_a_number(value: Any) -> None:
    with pytest.raises(UsageError, match="'loss' is a number, not"):
        FrozenContext().report("loss", value, 0)


def test_a_step_is_reported_once() -> None:
    ctx = FrozenContext()
    ctx.report("loss", 0.5, 7)
    ctx.report("accuracy", 0.5, 7)

    with pytest.raises(UsageError, match="Step 7 of 'loss' has been reported before"):
        ctx.report("loss", 0.5, 7)


def test_a_name_is_a_text() -> None:
    with pytest.raises(UsageError):
        FrozenContext().report(7, 0.5, 0)  # type: ignore[arg-type]


@given(points)
def test_the_last_value_is_that_of_the_highest_step(curve: dict[int, float]) -> None:
    value = curve[max(curve)] if curve else math.nan

    assert last_value(tuple(curve.items())) == (value if math.isfinite(value) else None)


def test_an_outcome_that_ends_at_a_step_keeps_the_part_before() -> None:
    curves = {
        "loss": ((0, 9.0), (2, 5.0), (4, 1.0)),
        "accuracy": ((0, 0.1), (1, 0.2), (2, 0.3), (3, 0.4)),
    }
    replicate = Replicate(0, 7, {"loss": 1.0}, curves=curves)
    whole = Observation.of_replicates(Treatment("t", {"x": 1}), [replicate, replicate])
    ended = whole.ended_at("loss", 2)

    assert (ended.status, dict(ended)) == (Status.PRUNED, {"loss": 5.0, "accuracy": 0.3})
    (kept,) = ended.replicates
    assert kept.curves == {
        "loss": ((0, 9.0), (2, 5.0)),
        "accuracy": ((0, 0.1), (1, 0.2), (2, 0.3)),
    }
