"""A search space as HEBO has it: `DesignSpace`.

A choice is its index, and so is a value of a grid: HEBO would turn choices of several types into
texts. Parameters with one value are left out.
"""

from __future__ import annotations

from typing import Any

from hebo.design_space.design_space import DesignSpace

from crystallize_opt.space.choices import Categorical, Ordinal
from crystallize_opt.space.codes import CodedPoints, is_indexed
from crystallize_opt.space.numbers import Integer
from crystallize_opt.space.space import SearchSpace


class HEBOSpace(CodedPoints):
    """A search space, and its counterpart of HEBO.

    Args:
        space: The search space.

    Attributes:
        native: The space of HEBO; without parameters if every parameter has one value.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        parts = [{"name": name, **_native(space[name])} for name in self.codes]
        self.native = DesignSpace().parse(parts)


def _native(parameter: Any) -> dict[str, Any]:
    if isinstance(parameter, Categorical):
        return {"type": "cat", "categories": list(range(len(parameter.choices)))}
    if isinstance(parameter, Ordinal) or is_indexed(parameter):
        return {"type": "int", "lb": 0, "ub": int(parameter.size) - 1}
    kinds = ("pow_int", "int") if isinstance(parameter, Integer) else ("pow", "num")
    return {"type": kinds[not parameter.log], "lb": parameter.low, "ub": parameter.high}
