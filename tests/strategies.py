"""Hypothesis strategies for parameters and search spaces of every kind.

`spaces()` is the one to begin with: `@given(spaces(conditions=False), st.integers(0, 99))`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constant,
    Float,
    Integer,
    LinearConstraint,
    Ordinal,
    SearchSpace,
)
from crystallize_opt.space.parameter import Condition, Parameter, same_value

ODD_NAMES = (
    "x",
    "y",
    "lambda",
    "val-loss",
    "E",
    "größe",
    "学习率",
    "a b",
    "1st",
    "x.y",
    "None",
    "__x",
)


seeds = st.integers(0, 2**32)


class Blob:
    """A choice that is neither hashable nor plain data. Equal where its content is."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, content: int) -> None:
        self.content = content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and self.content == other.content

    def __repr__(self) -> str:
        return f"Blob({self.content})"


PLAIN_VALUES: tuple[Any, ...] = (None, True, False, 0, 1, 0.0, 1.0, -2.5, "", "1", "None", "é")
NESTED_VALUES: tuple[Any, ...] = ((), (1, 2), (True, 2), (1.0, ("a", None)), [1], {"k": [1, (2,)]})
OBJECTS: tuple[Any, ...] = (Blob(0), Blob(1))


def names() -> st.SearchStrategy[str]:
    """Parameter names, many of which are no identifiers."""
    return st.sampled_from(ODD_NAMES) | st.text("ab_-.é |=", min_size=1, max_size=4)


def values(*, objects: bool = True) -> st.SearchStrategy[Any]:
    """Values of choices and constants; plain data unless `objects`."""
    return st.sampled_from(PLAIN_VALUES + NESTED_VALUES + (OBJECTS if objects else ()))


@st.composite
def floats(draw: st.DrawFn, *, finite: bool = False) -> Float:
    """A `Float`: linear, logarithmic, with a step, or with one value."""
    kind = draw(st.sampled_from(["step", "one"] if finite else ["linear", "log", "step", "one"]))
    if kind == "step":
        step = draw(st.sampled_from(["0.1", "0.25", "0.5", "1.0", "3.0", "1e-6"]))
        low = Decimal(draw(st.sampled_from(["0.0", "0.1", "-0.3", "-7.0", "1000.5"])))
        high = low + draw(st.integers(1, 4 if finite else 30)) * Decimal(step)
        return Float(float(low), float(high), step=float(step))
    if kind == "log":
        low_, factor = draw(st.floats(1e-6, 1e3)), draw(st.floats(1.5, 1e5))
        return Float(low_, low_ * factor, log=True)
    low_ = draw(st.floats(-1e6, 1e6) | st.sampled_from([0.0, -1.0]))
    return Float(low_, low_ + (draw(st.floats(1e-2, 1e6)) if kind == "linear" else 0.0))


@st.composite
def integers(draw: st.DrawFn, *, finite: bool = False) -> Integer:
    """An `Integer`: linear, logarithmic, with a step, with one value, or up to 1e9."""
    kinds = ["linear", "log", "step", "one"] + ["huge", "huge log"] * (not finite)
    kind = draw(st.sampled_from(kinds))
    if kind.startswith("huge"):
        log = kind == "huge log"
        return Integer(1 if log else -(10**9), draw(st.integers(10**6, 10**9)), log=log)
    low = draw(st.integers(1, 50) if kind == "log" else st.integers(-50, 50))
    count = 0 if kind == "one" else draw(st.integers(1, 4 if finite else 30))
    step = draw(st.integers(1, 7)) if kind == "step" else None
    return Integer(low, low + count * (step or 1), log=kind == "log", step=step)


@st.composite
def choices(draw: st.DrawFn, *, objects: bool = True) -> Categorical | Ordinal:
    """A `Categorical` or `Ordinal` of one to four choices."""
    found: list[Any] = []
    for value in draw(st.lists(values(objects=objects), min_size=1, max_size=4)):
        if not any(same_value(value, other) for other in found):
            found.append(value)
    return Categorical(tuple(found)) if draw(st.booleans()) else Ordinal(tuple(found))


def constants(*, objects: bool = True) -> st.SearchStrategy[Constant]:
    """A `Constant`."""
    return values(objects=objects).map(Constant)


@st.composite
def parameters(
    draw: st.DrawFn, *, finite: bool = False, objects: bool = True, defaults: bool = True
) -> Parameter:
    """A parameter of any kind, without conditions."""
    parameter: Parameter = draw(
        st.one_of(
            floats(finite=finite),
            integers(finite=finite),
            choices(objects=objects),
            constants(objects=objects),
        )
    )
    if defaults and draw(st.booleans()):
        return parameter.with_default(parameter.sample(draw(st.randoms(use_true_random=False))))
    return parameter


@st.composite
def spaces(
    draw: st.DrawFn,
    *,
    conditions: bool = True,
    constraints: bool = True,
    finite: bool = False,
    objects: bool = True,
    defaults: bool = True,
    fidelity: bool = False,
    min_size: int = 1,
    max_size: int = 5,
) -> SearchSpace:
    """A `SearchSpace`, which can be sampled in few attempts.

    Args:
        draw: Given by Hypothesis.
        conditions: Whether parameters may be conditional, on several parents and nested.
        constraints: Whether there may be linear constraints.
        finite: Whether all parameters have few values.
        objects: Whether values may be other than plain data (None, bool, int, float, str, and
            tuples, lists and dicts of these).
        defaults: Whether parameters may have defaults.
        fidelity: Whether there may be a parameter with `fidelity=True`.
        min_size: The fewest parameters.
        max_size: The most parameters.
    """
    given: dict[str, Parameter] = {}
    for name in draw(st.lists(names(), min_size=min_size, max_size=max_size, unique=True)):
        parameter = draw(parameters(finite=finite, objects=objects, defaults=defaults))
        possible = [parent for parent in given if given[parent].size < math.inf]
        if conditions and possible:
            for parent in draw(st.lists(st.sampled_from(possible), max_size=2, unique=True)):
                parameter = _child(draw, parameter, parent, given[parent])
        given[name] = parameter
    kept = draw(linear_constraints(given)) if constraints else []
    if fidelity and "fidelity" not in given and draw(st.booleans()):
        given["fidelity"] = draw(
            st.sampled_from([Integer(1, 27, fidelity=True), Float(0.1, 1.0, fidelity=True)])
        )
    order = draw(st.permutations(list(given)))  # children may come before their parents
    return SearchSpace({name: given[name] for name in order}, kept)


def _child(draw: st.DrawFn, child: Parameter, name: str, parent: Parameter) -> Parameter:
    positions = range(min(5, int(parent.size)))
    chosen = draw(st.sets(st.sampled_from(positions), min_size=1, max_size=3))
    found = [v for i, v in enumerate(itertools.islice(parent.values(), 5)) if i in chosen]
    if len(found) == 1 and not isinstance(found[0], (set, frozenset)):
        return child.when(**{name: found[0]})
    # Not .when(), whose sets hold neither unhashable values nor True beside 1.
    condition = Condition(name, tuple(found))
    return dataclasses.replace(child, conditions=(*child.conditions, condition))  # type: ignore[type-var]


@st.composite
def linear_constraints(draw: st.DrawFn, given: dict[str, Parameter]) -> list[LinearConstraint]:
    """Linear constraints that a good part of the points satisfies: none, one, or `a <= b <= c`."""
    middles = {
        name: math.sqrt(each.low * each.high) if each.log else (each.low + each.high) / 2
        for name, each in given.items()
        if isinstance(each, (Float, Integer))
    }
    if len(middles) < 2:
        return []
    kind = draw(st.sampled_from(["none", "chain", "any"]))
    if kind == "none":
        return []
    some = draw(st.lists(st.sampled_from(sorted(middles)), min_size=2, max_size=3, unique=True))
    if kind == "chain":
        some.sort(key=lambda name: middles[name])
        factor = draw(st.sampled_from([1.0, 2.5]))
        return [
            LinearConstraint({one: factor, other: -factor}, 0.0)
            for one, other in itertools.pairwise(some)
        ]
    factors = {name: draw(st.sampled_from([1.0, -1.0, 2.0, 0.5])) for name in some}
    return [LinearConstraint(factors, sum(f * middles[name] for name, f in factors.items()))]


def points(space: SearchSpace) -> st.SearchStrategy[dict[str, Any]]:
    """Points of a space."""
    return st.integers(0, 2**32).map(space.sample)
