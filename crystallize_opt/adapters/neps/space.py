"""A search space as NePS has it: `SearchSpace` with `HPO*` parameters.

`PipelineSpace` would depend on PYTHONHASHSEED: it takes the choices from a set. NePS takes no range
of one value and no single choice: these are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import neps

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


class NePSSpace:
    """A search space, and its counterpart of NePS.

    Args:
        space: The search space.

    Attributes:
        native: The space of NePS; without parameters if every parameter has one value.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._names = list(space)
        self._only = {name: only_value(each) for name, each in space.items() if has_one_value(each)}
        self._codes = {n: _code(each) for n, each in space.items() if n not in self._only}
        self.native = neps.SearchSpace({name: _native(space[name]) for name in self._codes})

    def decode(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point that a configuration stands for, in the space's order."""
        return {
            name: self._only[name] if name in self._only else self._codes[name].decode(config[name])
            for name in self._names
        }

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration of a point."""
        return {name: code.encode(params[name]) for name, code in self._codes.items()}


def _code(parameter: Parameter) -> Code:
    if isinstance(parameter, (Categorical, Ordinal)):
        return ChoiceIndex(parameter)
    if isinstance(parameter, (Float, Integer)) and _is_grid(parameter):
        return GridIndex(parameter)
    return Number(parameter)


def _is_grid(parameter: Float | Integer) -> bool:
    return parameter.step is not None and (isinstance(parameter, Float) or parameter.step != 1)


def _native(parameter: Any) -> Any:
    if isinstance(parameter, Categorical):
        return neps.HPOCategorical(list(range(len(parameter.choices))))
    if isinstance(parameter, Ordinal) or _is_grid(parameter):
        return neps.HPOInteger(0, int(parameter.size) - 1)
    kind = neps.HPOInteger if isinstance(parameter, Integer) else neps.HPOFloat
    return kind(parameter.low, parameter.high, log=parameter.log)
