"""What the tests of NevergradOptimizer share: Nevergrad's loop by hand."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import nevergrad as ng
import numpy as np

from crystallize_opt import Categorical, Float, Integer, Objective, Ordinal, SearchSpace
from crystallize_opt.runtime.random_state import CallersRandomState
from tests.adapters.parity import any_loss

LOSS = Objective("loss", "minimize")
SQUARE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
Point = dict[str, Any]


@contextmanager
def by_hand(seed: int) -> Iterator[None]:
    """What a user would set, and what keeps the tests apart: Nevergrad draws from these, too."""
    with CallersRandomState(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        random.seed(seed)
        np.random.seed(seed)
        yield


class ByHand:
    """A space as a user of Nevergrad would write it; see docs/nevergrad.md."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def dict_of(self, parent: str | None = None, choice: int | None = None) -> dict[str, Any]:
        found = {n: self.parameter(n) for n in self.space if self.branch(n) == (parent, choice)}
        return {name: parameter for name, parameter in found.items() if parameter is not None}

    def branch(self, name: str) -> tuple[str | None, int | None]:
        conditions = self.space[name].conditions
        if len(conditions) == 1 and len(conditions[0].values) == 1:
            parent = self.space[conditions[0].parent]
            if isinstance(parent, Categorical | Ordinal) and parent.size > 1:
                return conditions[0].parent, parent.index(conditions[0].values[0])
        return None, None

    def parameter(self, name: str) -> Any:
        p = self.space[name]
        match p:
            case _ if p.size == 1:
                return None
            case Float() | Integer() if p.step is not None:
                return ng.p.Scalar(lower=0, upper=int(p.size) - 1).set_integer_casting()
            case Float() if p.log:
                return ng.p.Log(lower=p.low, upper=p.high)
            case Float():
                return ng.p.Scalar(lower=p.low, upper=p.high)
            case Integer() if p.log:
                return ng.p.Log(lower=p.low, upper=p.high).set_integer_casting()
            case Integer():
                return ng.p.Scalar(lower=p.low, upper=p.high).set_integer_casting()
            case Categorical() | Ordinal():
                branches = [self.dict_of(name, index) for index in range(len(p.choices))]
                choices: list[Any] = list(range(len(p.choices)))
                if any(branches):
                    choices = [ng.p.Dict(choice=i, **each) for i, each in enumerate(branches)]
                kind = ng.p.Choice if isinstance(p, Categorical) else ng.p.TransitionChoice
                return kind(choices)
        raise AssertionError(p)

    def point(self, value: Mapping[str, Any]) -> Point:
        flat: dict[str, Any] = {}

        def flatten(given: Mapping[str, Any]) -> None:
            for name, stored in given.items():
                if isinstance(stored, dict):
                    flat[name] = stored["choice"]
                    flatten({k: v for k, v in stored.items() if k != "choice"})
                else:
                    flat[name] = stored

        flatten(value)
        point: Point = {}
        for name, p in self.space.items():
            if self.space.is_active(name, point):
                point[name] = self.value(p, flat.get(name))
        return point

    def value(self, p: Any, stored: Any) -> Any:
        if p.size == 1:
            return next(p.values())
        if isinstance(p, Categorical | Ordinal):
            return p.choices[int(stored)]
        if p.step is not None:
            return p.value_at(int(stored))
        kind = float if isinstance(p, Float) else int
        return min(max(kind(stored), p.low), p.high)  # also where a rounding is beyond a bound


def native_suggestions(
    space: SearchSpace,
    trials: int,
    *,
    seed: int,
    optimizer: str = "NGOpt",
    budget: int = 100,
    loss: Callable[[Point], Any] = any_loss,
    violation: Callable[[Point], Any] = lambda _: None,
    allowed: Callable[[Point], bool] | None = None,
    first: Callable[[Any, Any], None] = lambda *_: None,
) -> list[Point]:
    """The suggestions of the loop in Nevergrad's documentation."""
    hand, suggested = ByHand(space), []
    with by_hand(seed):
        parametrization = ng.p.Dict(**hand.dict_of())
        if allowed is not None:
            parametrization.register_cheap_constraint(lambda value: allowed(hand.point(value)))
        parametrization.random_state = np.random.RandomState(seed)
        native = ng.optimizers.registry[optimizer](
            parametrization=parametrization, budget=budget, num_workers=2
        )
        first(native, parametrization)
        for _ in range(trials):
            candidate = native.ask()
            point = hand.point(candidate.value)
            suggested.append(point)
            native.tell(candidate, loss(point), constraint_violation=violation(point))
    return suggested
