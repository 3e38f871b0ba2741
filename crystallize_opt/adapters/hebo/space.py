"""A search space as HEBO has it: `DesignSpace`.

A choice is its index, and so is a value of a grid: HEBO would turn choices of several types into
texts. Parameters with one value are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hebo.design_space.design_space import DesignSpace

from crystallize_opt.space.choices import Categorical, Ordinal
from crystallize_opt.space.codes import (
    ChoiceIndex,
    Code,
    GridIndex,
    Number,
    has_one_value,
    only_value,
)
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace


class HEBOSpace:
    """A search space, and its counterpart of HEBO.

    Args:
        space: The search space.

    Attributes:
        native: The space of HEBO; without parameters if every parameter has one value.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._names = list(space)
        self._only = {name: only_value(each) for name, each in space.items() if has_one_value(each)}
        self._codes = {n: _code(each) for n, each in space.items() if n not in self._only}
        parts = [{"name": name, **_native(space[name])} for name in self._codes]
        self.native = DesignSpace().parse(parts)

    def decode(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point that a row stands for, in the space's order."""
        return {
            name: self._only[name] if name in self._only else self._codes[name].decode(row[name])
            for name in self._names
        }

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row of a point."""
        return {name: code.encode(params[name]) for name, code in self._codes.items()}


def _code(parameter: Parameter) -> Code:
    if isinstance(parameter, (Categorical, Ordinal)):
        return ChoiceIndex(parameter)
    if isinstance(parameter, (Float, Integer)) and _is_grid(parameter):
        return GridIndex(parameter)
    return Number(parameter)


def _is_grid(parameter: Float | Integer) -> bool:
    return parameter.step is not None and (isinstance(parameter, Float) or parameter.step != 1)


def _native(parameter: Any) -> dict[str, Any]:
    if isinstance(parameter, Categorical):
        return {"type": "cat", "categories": list(range(len(parameter.choices)))}
    if isinstance(parameter, Ordinal) or _is_grid(parameter):
        return {"type": "int", "lb": 0, "ub": int(parameter.size) - 1}
    kinds = ("pow_int", "int") if isinstance(parameter, Integer) else ("pow", "num")
    return {"type": kinds[not parameter.log], "lb": parameter.low, "ub": parameter.high}
