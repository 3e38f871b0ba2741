"""Optimizers copy and pickle, or say that `replay` is the way."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from crystallize_opt import Integer, Objective, SearchSpace, SpaceOptimizer
from crystallize_opt.adapters import (
    GridOptimizer,
    NevergradOptimizer,
    OptunaOptimizer,
    RandomOptimizer,
)

Optimizer = SpaceOptimizer[Any]
LOSS = Objective("loss", "minimize")
SPACES: dict[str, Any] = {
    "box": {"x": (0.0, 1.0), "kind": ["a", "b"]},
    # Points are drawn from its region, and backends search positions in it.
    "mixture": SearchSpace(
        {"x": (0.0, 1.0), "y": (0.0, 1.0), "n": Integer(0, 5)}, constraints=["x + y == 1"]
    ),
}


def pickled(optimizer: Optimizer) -> Any:
    return pickle.loads(pickle.dumps(optimizer))  # noqa: S301


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize(
    ("kind", "space"),
    [
        (RandomOptimizer, "box"),
        (GridOptimizer, "box"),
        (OptunaOptimizer, "box"),
        (RandomOptimizer, "mixture"),
        (OptunaOptimizer, "mixture"),
        (NevergradOptimizer, "box"),
        (NevergradOptimizer, "mixture"),
    ],
)
def test_a_copy_goes_on_by_itself(kind: Any, space: str, make_copy: Callable[[Any], Any]) -> None:
    optimizer: Optimizer = kind(SPACES[space], LOSS, seed=0)
    for _ in range(3):
        optimizer.ask()
        optimizer.tell({"loss": 1.0})
    optimizer.ask()

    other: Optimizer = make_copy(optimizer)
    asked = other.ask(3)

    assert len(optimizer.pending) == 1
    assert [t.params for t in optimizer.ask(3)] == [t.params for t in asked]
    assert len(other.observations) == len(optimizer.observations) == 3


class Unique(RandomOptimizer):
    can_be_copied = False


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, pickled])
def test_what_cannot_be_copied_says_how_to_replay(make_copy: Callable[[Any], Any]) -> None:
    optimizer = Unique({"x": (0.0, 1.0)}, LOSS, seed=0)
    optimizer.ask()
    with pytest.raises(TypeError, match=r"replay\(optimizer\.events\)"):
        make_copy(optimizer)
    again = Unique({"x": (0.0, 1.0)}, LOSS, seed=0)
    again.replay(optimizer.events)
    assert again.ask()[0].params == optimizer.ask()[0].params
