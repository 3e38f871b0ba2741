"""HEBOOptimizer's suggestions are those of HEBO's `suggest` and `observe`, bit for bit."""

from __future__ import annotations

import random
from typing import Any

import pytest

pytest.importorskip("hebo", reason="it has an environment of its own: see .ci/run")

import numpy as np
import pandas as pd
import torch
from hebo.design_space.design_space import DesignSpace
from hebo.optimizers.hebo import HEBO
from hypothesis import given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constant,
    Float,
    Integer,
    Objective,
    Observation,
    Ordinal,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import HEBOOptimizer, RemoteOptimizer
from crystallize_opt.errors import UsageError
from crystallize_opt.testing._world import RandomStateKept
from tests.adapters.parity import any_loss, exactly, search
from tests.strategies import spaces

pytestmark = pytest.mark.filterwarnings("ignore")  # Those of the loop by hand.

LOSS = Objective("loss", "minimize")
MIXED = SearchSpace(
    {
        "x": Float(-5, 10),
        "lr": Float(1e-5, 1e-1, log=True),
        "n": Integer(1, 9),
        "act": Categorical(["relu", "tanh", "gelu"]),
        "fixed": Constant(3),
    }
)


def native_parameter(name: str, parameter: Any) -> dict[str, Any]:
    """Return the parameter as a user of HEBO would write it."""
    if isinstance(parameter, Categorical):
        choices = [f"choice {n}" for n in range(len(parameter.choices))]
        return {"name": name, "type": "cat", "categories": choices}
    if isinstance(parameter, Ordinal) or is_grid(parameter):
        return {"name": name, "type": "int", "lb": 0, "ub": int(parameter.size) - 1}
    kind = "pow" if parameter.log else "num"
    if isinstance(parameter, Integer):
        kind = "pow_int" if parameter.log else "int"
    return {"name": name, "type": kind, "lb": parameter.low, "ub": parameter.high}


def is_grid(parameter: Any) -> bool:
    return parameter.step is not None and not (
        isinstance(parameter, Integer) and parameter.step == 1
    )


def value(parameter: Any, stored: Any) -> Any:
    """Return the value that such a parameter stands for."""
    if isinstance(parameter, Categorical):
        return parameter.choices[int(stored.removeprefix("choice "))]
    if isinstance(parameter, Ordinal):
        return parameter.choices[int(stored)]
    if is_grid(parameter):
        return list(parameter.values())[int(stored)]
    number = float(stored) if isinstance(parameter, Float) else round(stored)
    return min(max(number, parameter.low), parameter.high)


def single(parameter: Any) -> list[Any]:
    """Return the only value of a parameter in a list, or nothing."""
    if isinstance(parameter, (Float, Integer)):
        return [parameter.low] if parameter.low == parameter.high else []
    values = list(parameter.values())
    return values if len(values) == 1 else []


def native_loop(space: SearchSpace, seed: int, trials: int, **options: Any) -> list[dict[str, Any]]:
    """The loop that HEBO documents, over the same space."""
    searched = {name: each for name, each in space.items() if not single(each)}
    points = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with RandomStateKept():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        native = DesignSpace().parse([native_parameter(n, p) for n, p in searched.items()])
        loop = HEBO(native, scramble_seed=seed, **options)
        for _ in range(trials):
            row = loop.suggest(1)
            stored = row.iloc[0].to_dict()
            point = {
                name: value(each, stored[name]) if name in searched else single(each)[0]
                for name, each in space.items()
            }
            points.append(point)
            loop.observe(row, np.array([[any_loss(point)]]))
    torch.set_num_threads(threads)
    return points


@settings(max_examples=40)
@given(spaces(constraints=False, conditions=False), st.integers(0, 2**32 - 1))
def test_the_initial_design_in_any_space(space: SearchSpace, seed: int) -> None:
    if space.size < 100 or all(single(each) for each in space.values()):
        return  # Where points repeat, this package suggests others.
    ours = HEBOOptimizer(space, LOSS, seed=seed, hebo_options={"rand_sample": 20})

    expected = native_loop(space, seed, 10, model_name="gp", rand_sample=20)
    if len({repr(point) for point in expected}) == len(expected):
        assert exactly(search(ours, 10)) == exactly(expected)


@pytest.mark.parametrize("seed", [0, pytest.param(7, marks=pytest.mark.slow)])
def test_the_model_with_its_defaults(seed: int) -> None:
    expected = native_loop(MIXED, seed, 8)

    assert exactly(search(HEBOOptimizer(MIXED, LOSS, seed=seed), 8)) == exactly(expected)


@settings(max_examples=4)
@given(spaces(constraints=False, conditions=False, max_size=4), st.integers(0, 2**32 - 1))
def test_the_model_in_any_space(space: SearchSpace, seed: int) -> None:
    if space.size < 1000:
        return
    ours = HEBOOptimizer(space, LOSS, seed=seed, model_name="rf", hebo_options={"rand_sample": 3})

    try:
        expected = native_loop(space, seed, 5, model_name="rf", rand_sample=3)
    except (ArithmeticError, LookupError, RuntimeError, ValueError):
        return  # HEBO itself has no suggestion; a random point takes its place.
    if len({repr(point) for point in expected}) == len(expected):
        assert exactly(search(ours, 5)) == exactly(expected)


def test_in_another_process_the_suggestions_are_the_same() -> None:
    options: dict[str, Any] = {"model_name": "rf", "hebo_options": {"rand_sample": 3}}
    here = HEBOOptimizer(MIXED, LOSS, seed=3, **options)
    there = RemoteOptimizer(HEBOOptimizer, MIXED, LOSS, seed=3, **options)

    assert exactly(search(there, 5)) == exactly(search(here, 5))


# What HEBO is told ----------------------------------------------------------------------------


def test_a_failed_trial_has_the_worst_value_so_far() -> None:
    optimizer = HEBOOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0, hebo_options={"rand_sample": 20})
    outcomes: list[Status | float] = [
        Status.FAILED,
        2.0,
        Status.ABANDONED,
        5.0,
        Status.INVALID,
        1.0,
        9.0,
    ]
    seen = []
    for each in outcomes:
        (treatment,) = optimizer.ask()
        if isinstance(each, Status):
            optimizer.tell(Observation(treatment, {"loss": 77.0}, each))
        else:
            optimizer.tell({"loss": each})
        seen.append(optimizer.hebo.y.ravel().tolist())

    assert seen[0] == []
    assert sorted(seen[1]) == [2.0, 2.0]
    assert sorted(seen[4]) == [2.0, 5.0, 5.0, 5.0]
    assert sorted(seen[6]) == [1.0, 2.0, 5.0, 9.0, 9.0, 9.0]


def test_an_attached_trial_is_observed() -> None:
    optimizer = HEBOOptimizer(MIXED, LOSS, seed=0)
    point = {"x": 1.0, "lr": 1e-3, "n": 3, "act": "tanh", "fixed": 3}
    optimizer.attach(Observation(Treatment("mine", point), {"loss": 30.0}))

    expected = pd.DataFrame([{"x": 1.0, "lr": 1e-3, "n": 3, "act": 1}])
    pd.testing.assert_frame_equal(
        optimizer.hebo.X[list(expected)], expected, check_dtype=False, check_exact=True
    )


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="no_such"):
        HEBOOptimizer(MIXED, LOSS, hebo_options={"no_such": 1})
    with pytest.raises(UsageError, match="python="):
        HEBOOptimizer(MIXED, LOSS, timeout=3.0)
