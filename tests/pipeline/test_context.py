"""What steps read parameters from and record metrics on."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import FrozenContext, Treatment
from crystallize_opt.errors import ContextMutationError, UnknownMetricError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.parametrize(
    "set_key", [lambda ctx: ctx.add("rate", 0.2), lambda ctx: ctx.__setitem__("rate", 0.2)]
)
def test_a_key_can_be_set_only_once(set_key: Callable[[FrozenContext], None]) -> None:
    ctx = FrozenContext({"depth": 3})
    set_key(ctx)

    with pytest.raises(ContextMutationError, match=r"'rate'.*already set: 'depth', 'rate'"):
        set_key(ctx)
    assert ctx["rate"] == 0.2


@given(st.dictionaries(st.text(), VALUES))
def test_reads_back_what_was_set(keys: dict[str, Any]) -> None:
    ctx = FrozenContext(keys)

    assert {key: ctx[key] for key in ctx} == keys
    assert {key: ctx.get(key) for key in keys} == keys
    assert dict(ctx.as_dict()) == keys
    assert all(key in ctx for key in keys)


@pytest.mark.parametrize(
    "read",
    [
        lambda ctx: ctx["layers"],
        lambda ctx: ctx.get("layers"),
        lambda ctx: ctx.as_dict()["layers"],
        lambda ctx: ctx.child()["layers"],
    ],
)
def test_changing_a_value_that_was_read_changes_nothing(
    read: Callable[[FrozenContext], list[int]],
) -> None:
    given_layers = [1, 2]
    ctx = FrozenContext({"layers": given_layers})

    read(ctx).append(3)
    given_layers.append(4)

    assert ctx["layers"] == [1, 2]


def test_default_of_a_key_that_is_not_set() -> None:
    ctx = FrozenContext({"rate": None})

    assert ctx.get("rate", 0.5) is None
    assert ctx.get("depth", 3) == 3
    assert "depth" not in ctx


def test_child_adds_keys_and_starts_without_metrics() -> None:
    ctx = FrozenContext({"rate": 0.1})
    ctx.metrics.add("loss", 1.0)

    child = ctx.child(replicate=2)

    assert dict(child.as_dict()) == {"rate": 0.1, "replicate": 2}
    assert "replicate" not in ctx
    assert len(child.metrics) == 0


def test_metrics_keep_every_value_in_order() -> None:
    metrics = FrozenContext().metrics
    metrics.add("loss", 2.0)
    metrics.add("accuracy", 0.5)
    metrics.add("loss", 1.0)

    assert metrics["loss"] == (2.0, 1.0)
    assert list(metrics) == ["loss", "accuracy"]
    assert dict(metrics.as_dict()) == {"loss": (2.0, 1.0), "accuracy": (0.5,)}


def test_metrics_read_earlier_do_not_change() -> None:
    metrics = FrozenContext().metrics
    metrics.add("loss", 2.0)
    before = metrics.as_dict()
    metrics.add("loss", 1.0)

    assert dict(before) == {"loss": (2.0,)}


@pytest.mark.parametrize(
    ("recorded", "listed"), [([], "none"), (["loss", "accuracy"], "'loss', 'accuracy'")]
)
def test_unknown_metric_lists_the_recorded_ones(recorded: list[str], listed: str) -> None:
    metrics = FrozenContext().metrics
    for name in recorded:
        metrics.add(name, 1.0)

    with pytest.raises(UnknownMetricError, match=f"'auc'.*Recorded: {listed}"):
        metrics["auc"]


def test_logger_is_the_packages() -> None:
    assert FrozenContext().logger is logging.getLogger("crystallize_opt")


# Treatments -----------------------------------------------------------------------------------


class Model:
    """Equal only to itself."""


MODEL = Model()


@pytest.mark.parametrize("value", [MODEL, threading.Lock(), object(), np.arange(3)])
def test_an_object_of_a_treatment_is_handed_over_itself(value: Any) -> None:
    for treatment in (
        Treatment("mapping", {"x": value}),
        Treatment("function", lambda ctx: ctx.add("x", value)),
    ):
        ctx = FrozenContext({"depth": 3}).child()
        ctx.treat(treatment)

        for read in (ctx["x"], ctx.get("x"), ctx.as_dict()["x"], ctx.child()["x"]):
            assert read is value


@pytest.mark.parametrize(
    ("value", "change", "inner"),
    [
        ([MODEL, 1], lambda read: read.clear(), lambda read: read[0]),
        ({"a": [MODEL]}, lambda read: read["a"].clear(), lambda read: read["a"][0]),
        (([MODEL],), lambda read: read[0].clear(), lambda read: read[0][0]),
        ({MODEL}, lambda read: read.clear(), lambda read: next(iter(read))),
    ],
)
def test_lists_of_a_treatment_are_copied_and_hold_the_same_objects(
    value: Any, change: Callable[[Any], None], inner: Callable[[Any], Any]
) -> None:
    ctx = FrozenContext()
    ctx.treat(Treatment("t", {"x": value}))

    assert inner(ctx["x"]) is MODEL
    change(ctx["x"])
    assert inner(ctx["x"]) is MODEL


def test_objects_that_the_experiment_was_built_with_are_copied() -> None:
    ctx = FrozenContext({"model": MODEL})

    assert ctx["model"] is not MODEL
    assert ctx["model"] is not ctx["model"]
