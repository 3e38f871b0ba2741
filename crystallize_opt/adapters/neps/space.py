"""A search space as NePS has it: `SearchSpace` with `HPO*` parameters.

`PipelineSpace` would depend on PYTHONHASHSEED: it takes the choices from a set. NePS takes no range
of one value and no single choice: these are left out.
"""

from __future__ import annotations

from typing import Any

import neps

from crystallize_opt.space.choices import Categorical, Ordinal
from crystallize_opt.space.codes import CodedPoints, is_indexed
from crystallize_opt.space.numbers import Integer
from crystallize_opt.space.space import SearchSpace


class NePSSpace(CodedPoints):
    """A search space, and its counterpart of NePS.

    Args:
        space: The search space.

    Attributes:
        native: The space of NePS; without parameters if every parameter has one value.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.native = neps.SearchSpace({name: _native(space[name]) for name in self.codes})


def _native(parameter: Any) -> Any:
    if isinstance(parameter, Categorical):
        return neps.HPOCategorical(list(range(len(parameter.choices))))
    if isinstance(parameter, Ordinal) or is_indexed(parameter):
        return neps.HPOInteger(0, int(parameter.size) - 1)
    kind = neps.HPOInteger if isinstance(parameter, Integer) else neps.HPOFloat
    return kind(parameter.low, parameter.high, log=parameter.log)
