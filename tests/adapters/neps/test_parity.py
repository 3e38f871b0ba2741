"""NePSOptimizer's suggestions are those of a loop of `neps.AskAndTell`, bit for bit."""

from __future__ import annotations

import random
from typing import Any

import pytest

neps: Any = pytest.importorskip("neps", reason="it has an environment of its own: see .ci/run")

import numpy as np
import torch
from botorch.exceptions.errors import BotorchError
from hypothesis import given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constant,
    Float,
    Integer,
    Objective,
    Ordinal,
    SearchSpace,
)
from crystallize_opt.adapters import NePSOptimizer, RemoteOptimizer
from crystallize_opt.testing._world import RandomStateKept
from tests.adapters.parity import any_loss, exactly, search
from tests.strategies import spaces

pytestmark = pytest.mark.filterwarnings("ignore")  # Those of the loop by hand.

QUICK = {"initial_design_size": 3, "num_restarts": 2, "n_initial_start_points": 16}
MIXED = SearchSpace(
    {
        "x": Float(-5, 10),
        "lr": Float(1e-5, 1e-1, log=True),
        "n": Integer(1, 9),
        "act": Categorical(["relu", "tanh", "gelu"]),
        "fixed": Constant(3),
    }
)


def native_parameter(parameter: Any) -> Any:
    """Return the parameter as a user of NePS would write it."""
    if isinstance(parameter, Categorical):
        return neps.HPOCategorical([f"choice {n}" for n in range(len(parameter.choices))])
    if isinstance(parameter, Ordinal):
        return neps.HPOInteger(0, len(parameter.choices) - 1)
    if isinstance(parameter, Float) and parameter.step is not None:
        return neps.HPOInteger(0, int(parameter.size) - 1)
    if isinstance(parameter, Integer) and parameter.step not in (None, 1):
        return neps.HPOInteger(0, int(parameter.size) - 1)
    if isinstance(parameter, Integer):
        return neps.HPOInteger(parameter.low, parameter.high, log=parameter.log)
    return neps.HPOFloat(parameter.low, parameter.high, log=parameter.log)


def value(parameter: Any, stored: Any) -> Any:
    """Return the value that such a parameter stands for."""
    if isinstance(parameter, Categorical):
        return parameter.choices[int(stored.removeprefix("choice "))]
    if isinstance(parameter, Ordinal):
        return parameter.choices[stored]
    if parameter.step is not None and not (isinstance(parameter, Integer) and parameter.step == 1):
        return list(parameter.values())[stored]
    number = float(stored) if isinstance(parameter, Float) else int(stored)
    return min(max(number, parameter.low), parameter.high)


def single(parameter: Any) -> list[Any]:
    """Return the only value of a parameter in a list, or nothing."""
    if isinstance(parameter, (Float, Integer)):
        return [parameter.low] if parameter.low == parameter.high else []
    values = list(parameter.values())
    return values if len(values) == 1 else []


def native_loop(
    space: SearchSpace, seed: int, trials: int, algorithm: str, **options: Any
) -> list[dict[str, Any]]:
    """The loop that NePS documents, over the same space."""
    searched = {name: each for name, each in space.items() if not single(each)}
    points = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with RandomStateKept():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        native = neps.SearchSpace({name: native_parameter(p) for name, p in searched.items()})
        loop = neps.AskAndTell(getattr(neps.algorithms, algorithm)(native, **options))
        for _ in range(trials):
            trial = loop.ask()
            point = {
                name: value(each, trial.config[name]) if name in searched else single(each)[0]
                for name, each in space.items()
            }
            points.append(point)
            loop.tell(trial, any_loss(point))
    torch.set_num_threads(threads)
    return points


LOSS = Objective("loss", "minimize")


@settings(max_examples=40)
@given(spaces(constraints=False, conditions=False), st.integers(0, 2**32 - 1))
def test_random_search_in_any_space(space: SearchSpace, seed: int) -> None:
    if space.size < 100 or all(single(each) for each in space.values()):
        return  # Where points repeat, this package suggests others.
    ours = NePSOptimizer(space, LOSS, seed=seed, algorithm="random_search")

    expected = native_loop(space, seed, 8, "random_search")
    if len({repr(point) for point in expected}) == len(expected):
        assert exactly(search(ours, 8)) == exactly(expected)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_model_with_its_defaults(seed: int) -> None:
    ours = NePSOptimizer(MIXED, LOSS, seed=seed)

    expected = native_loop(MIXED, seed, 8, "bayesian_optimization")
    assert exactly(search(ours, 8)) == exactly(expected)


@settings(max_examples=8)
@given(spaces(constraints=False, conditions=False, max_size=4), st.integers(0, 2**32 - 1))
def test_the_model_in_any_space(space: SearchSpace, seed: int) -> None:
    if space.size < 1000:
        return
    options = {"algorithm_options": QUICK}
    ours = NePSOptimizer(space, LOSS, seed=seed, **options)  # type: ignore[arg-type]

    try:
        expected = native_loop(space, seed, 6, "bayesian_optimization", **QUICK)
    except (RuntimeError, ValueError, AssertionError, BotorchError):
        return  # NePS itself has no suggestion; a random point takes its place.
    if len({repr(point) for point in expected}) == len(expected):
        assert exactly(search(ours, 6)) == exactly(expected)


def test_an_error_of_a_library_that_neps_calls_does_not_end_the_search(
    caplog: pytest.LogCaptureFixture,
) -> None:
    space = {"x": Float(0, 1), "y": Integer(2, 3, log=True)}  # BoTorch gets nan from NePS.
    options = {"seed": 0, "algorithm_options": QUICK}
    ours = NePSOptimizer(space, LOSS, **options)  # type: ignore[arg-type]

    assert len(search(ours, 6)) == 6
    assert "so a random one is used" in caplog.text


def test_in_another_process_the_suggestions_are_the_same() -> None:
    here = NePSOptimizer(MIXED, LOSS, seed=3, algorithm_options=QUICK)
    there = RemoteOptimizer(NePSOptimizer, MIXED, LOSS, seed=3, algorithm_options=QUICK)

    assert exactly(search(there, 6)) == exactly(search(here, 6))
