"""Search spaces as plain data, for `SearchSpace.to_dict` and `from_dict`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from crystallize_opt.errors import SpaceError
from crystallize_opt.plain_data import Other, decode, encode
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import NO_DEFAULT, Condition, Parameter

PARAMETERS: Mapping[str, type[Parameter]] = {
    cls.__name__: cls for cls in (Float, Integer, Categorical, Ordinal, Constant)
}


def encode_space(
    parameters: Mapping[str, Parameter], constraints: Iterable[LinearConstraint], other: Other
) -> dict[str, Any]:
    """Return a space as plain data.

    Args:
        parameters: The parameters of the space.
        constraints: The linear constraints of the space.
        other: Encodes an object that has no exact form.
    """
    return {
        "parameters": [
            {"name": name, **_encode_parameter(parameter, other)}
            for name, parameter in parameters.items()
        ],
        "constraints": [
            {"coefficients": dict(c.coefficients), "bound": c.bound} for c in constraints
        ],
    }


def decode_space(
    data: Mapping[str, Any],
) -> tuple[dict[str, Parameter], list[LinearConstraint]]:
    """Return the parameters and constraints that `encode_space` described.

    Raises:
        SpaceError: The data do not describe a space.
    """
    try:
        return (
            {entry["name"]: _decode_parameter(entry) for entry in data["parameters"]},
            [LinearConstraint(c["coefficients"], c["bound"]) for c in data["constraints"]],
        )
    except SpaceError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SpaceError(
            f"Not a search space as SearchSpace.to_dict() writes it ({error!r}): {data!r}"
        ) from error


def _encode_parameter(parameter: Any, other: Other) -> dict[str, Any]:
    def encoded(values: Iterable[Any]) -> list[Any]:
        return [encode(value, other=other) for value in values]

    data: dict[str, Any] = {"type": type(parameter).__name__}
    for field in dataclasses.fields(parameter):
        value = getattr(parameter, field.name)
        if value is NO_DEFAULT or (field.name == "fidelity" and not value):
            continue
        if field.name == "conditions":
            value = [{"parent": each.parent, "values": encoded(each.values)} for each in value]
        elif field.name == "choices":
            value = encoded(value)
        else:
            value = encode(value, other=other)
        data[field.name] = value
    return data


def _decode_parameter(data: Mapping[str, Any]) -> Parameter:
    if data["type"] not in PARAMETERS:
        raise SpaceError(f"Unknown type {data['type']!r}. Known: {', '.join(PARAMETERS)}.")
    arguments = {
        key: decode(value)
        for key, value in data.items()
        if key not in ("name", "type", "choices", "conditions")
    }
    if "choices" in data:
        arguments["choices"] = [decode(choice) for choice in data["choices"]]
    arguments["conditions"] = tuple(
        Condition(c["parent"], tuple(decode(value) for value in c["values"]))
        for c in data["conditions"]
    )
    return PARAMETERS[data["type"]](**arguments)
