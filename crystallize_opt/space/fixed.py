"""The parameters of a space in which some values are fixed, for `SearchSpace.fixed`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from crystallize_opt.errors import InvalidParametersError
from crystallize_opt.space.choices import Constant
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Condition, Parameter, canonical_value, refuse_unknown


def fix_parameters(
    parameters: Mapping[str, Parameter], values: Mapping[str, Any]
) -> dict[str, Parameter]:
    """Return the parameters of a space, with some fixed to a value; leave out inactive ones.

    Args:
        parameters: The parameters of the space, each after its parents.
        values: Parameter name to value.

    Raises:
        InvalidParametersError: A parameter is unknown, its value is out of range, or the other
            values make it inactive.
    """
    refuse_unknown(values, parameters)
    left: dict[str, Parameter] = {}
    for name, parameter in parameters.items():
        conditions = _conditions_left(parameter, parameters, left)
        if conditions is None:
            if name in values:
                needed = " and ".join(f"{c.parent} in {c.values!r}" for c in parameter.conditions)
                raise InvalidParametersError(
                    f"Parameter {name!r} cannot be fixed to {values[name]!r}: it needs {needed}, "
                    f"which never holds with {dict(values)!r}."
                )
            continue
        if name in values:
            parameter = _fix(name, parameter, values[name])
        left[name] = dataclasses.replace(parameter, conditions=conditions)  # type: ignore[type-var]
    return left


def _conditions_left(
    parameter: Parameter, before: Mapping[str, Parameter], left: Mapping[str, Parameter]
) -> tuple[Condition, ...] | None:
    """Return the conditions that remain, or None if they can never hold."""
    conditions = []
    for condition in parameter.conditions:
        name = condition.parent
        if name not in left:
            return None
        if left[name].size == 1:
            (value,) = left[name].values()
            identity = before[name].identity
            if identity(value) not in map(identity, condition.values):
                return None
            condition = Condition(name, (value,))
        conditions.append(condition)
    return tuple(conditions)


def _fix(name: str, parameter: Parameter, value: Any) -> Parameter:
    value = canonical_value(name, parameter, value)
    if isinstance(parameter, (Float, Integer)):
        return dataclasses.replace(
            parameter, low=value, high=value, log=False, step=None, default=value, fidelity=False
        )
    return Constant(value)
