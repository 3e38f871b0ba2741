"""The search spaces, objectives and losses of the contract."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Objective

LOSS = Objective("loss", "minimize")
SQUARE: Mapping[str, Any] = {"x": (0.0, 1.0), "y": (0.0, 1.0)}


class Thing:
    """A user's object without data or equality. Its text is the same in every process."""

    def __repr__(self) -> str:
        return "Thing()"


class UnhashableThing:
    """A user's object that cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnhashableThing)

    def __repr__(self) -> str:
        return "UnhashableThing()"


ANYTHING: tuple[Any, ...] = (
    None,
    True,
    1,
    1.0,
    "1",
    (1, 2),
    [3],
    {"k": 1},
    Thing(),
    UnhashableThing(),
    Thing,
)
"""Choices of any kind: some are equal to each other, and some cannot be hashed."""

KINDS: Mapping[str, Parameter] = {
    "float": Float(-5.0, 5.0),
    "small float": Float(1e-9, 2e-9),
    "log float": Float(1e-6, 1e3, log=True),
    "step float": Float(0.0, 1.0, step=0.1),
    "one float": Float(2.5, 2.5),
    "int": Integer(-3, 7),
    "log int": Integer(1, 1024, log=True),
    "step int": Integer(2, 14, step=3),
    "huge int": Integer(1, 10**9),
    "huge log int": Integer(1, 10**9, log=True),
    "one int": Integer(7, 7),
    "categorical": Categorical(["rbf", "poly", "linear"]),
    "booleans": Categorical([True, False]),
    "numbers": Categorical([0.5, 2, 10**12]),
    "anything": Categorical(ANYTHING),
    "one choice": Categorical(["only"]),
    "ordinal": Ordinal(["small", "medium", "large"]),
    "ordinal anything": Ordinal(ANYTHING),
    "one level": Ordinal([(1, 2)]),
    "constant": Constant(ANYTHING[-2]),
    "none": Constant(None),
}
"""Every kind of parameter."""

NAMES = ("E", "S", "lambda", "val-loss", "学习率", "größe", "a b", "1st", "None", "__x", "x.y", "|")
"""Names that some library misreads or refuses."""

CONDITIONAL: Mapping[str, Mapping[str, Any]] = {
    "one child": {"kind": ["a", "b"], "x": Float(0, 1).when(kind="a")},
    "several children": {
        "kind": ["a", "b"],
        "x": Float(0, 1).when(kind="a"),
        "n": Integer(1, 9).when(kind="a"),
        "y": Float(0, 1).when(kind="b"),
    },
    "child of several values": {
        "kind": ["a", "b", "c"],
        "x": Float(0, 1).when(kind={"a", "b"}),
    },
    "child of two parents": {
        "kind": ["a", "b"],
        "n": Integer(1, 2),
        "x": Float(0, 1).when(kind="a", n=1),
    },
    "nested": {
        "leaf": Float(1e-3, 1.0, log=True).when(middle={"p", "q"}),
        "middle": Categorical(["p", "q", "r"]).when(root=True),
        "root": [True, False],
        "free": (0.0, 1.0),
    },
    "integer parent": {"n": Integer(1, 3), "x": Float(0, 1).when(n=2)},
    "parents of other kinds": {
        "n": Integer(1, 3),
        "size": Ordinal(["s", "m", "l"]),
        "step": Float(0, 1, step=0.5),
        "a": Float(0, 1).when(n={1, 2}),
        "b": Float(0, 1).when(size="s"),
        "c": Float(0, 1).when(step=0.5),
    },
    "equal values": {"flag": Categorical([True, 1, None]), "E": Float(0, 1).when(flag=True)},
    "odd names": {"val-loss": ["a", "b"], "lambda": Float(0, 1).when(**{"val-loss": "a"})},
}
"""Spaces with conditional parameters."""

CONSTRAINED: Mapping[str, tuple[Mapping[str, Any], list[Any]]] = {
    "sum": ({"width": (0.0, 1.0), "height": (0.0, 1.0)}, ["width + height <= 1"]),
    "chain": (
        {"width": (0.0, 1.0), "height": (0.0, 1.0), "depth": (0.0, 1.0)},
        ["width <= height", "height <= depth"],
    ),
    "narrow": ({"width": (0.0, 1.0), "height": (0.0, 1.0)}, ["width + height <= 0.1"]),
    "log": (
        {"width": Float(1e-3, 10, log=True), "height": Float(1e-3, 10, log=True)},
        ["width <= height"],
    ),
    "integers": ({"width": (1, 20), "height": (1, 20)}, ["2*width + height <= 30"]),
    "names": (
        {"width": (0.0, 1.0), "val-loss": (0.0, 1.0)},
        [LinearConstraint({"width": 1.0, "val-loss": -1.0}, 0.0)],
    ),
    "step": (
        {"width": Float(0, 1, step=0.1), "height": Float(0, 1, step=0.1)},
        ["width + height <= 1"],
    ),
}
"""Spaces with linear constraints; every one names the parameter `width`."""

FINITE: Mapping[str, tuple[Mapping[str, Any], list[str]]] = {
    "integers": ({"a": (1, 4), "b": (0, 2)}, []),
    "choices": ({"a": Categorical([True, 1]), "b": Ordinal(["s", "m", "l"])}, []),
    "steps": ({"a": Float(0, 0.2, step=0.1), "b": Integer(0, 3, step=3)}, []),
    "log": ({"a": Integer(1, 6, log=True)}, []),
    "conditions": ({"a": [True, 1], "b": (1, 2), "c": Integer(0, 1).when(a=1)}, []),
    "constraints": ({"a": (1, 3), "b": (1, 3)}, ["a <= b"]),
    "one point": ({"a": (3, 3), "b": (2.5, 2.5), "c": Constant(None)}, []),
}
"""Spaces with few points."""


def finite_space(name: str) -> SearchSpace:
    return SearchSpace(*FINITE[name])


def mixed_space(capabilities: Capabilities) -> SearchSpace:
    """Return a space with every kind of parameter that an optimizer takes."""
    kinds = ("float", "log float", "step float", "log int", "anything", "ordinal", "constant")
    space: dict[str, Any] = {
        name: KINDS[name] for name in kinds if isinstance(KINDS[name], capabilities.parameters)
    }
    space["float"] = Float(-5.0, 5.0, default=0.5)
    if capabilities.conditions and "anything" in space:
        space["child"] = Float(0.0, 1.0).when(anything={None, "1"})
    return SearchSpace(space)


def any_loss(params: Mapping[str, Any]) -> float:
    """Return a loss that depends on every parameter, whatever its type."""
    total = 0.0
    for position, value in enumerate(params.values()):
        number = value if isinstance(value, (int, float)) else len(repr(value))
        total += math.atan(number - position) ** 2
    return total
