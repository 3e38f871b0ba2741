"""What a client says of the parameters of an experiment, by SigOpt's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.service.given import LONGEST_NAME, Given, is_integer, is_number, shown
from crystallize_opt.service.refusal import bad

_TYPES = ("double", "int", "categorical")
_LONGEST_VALUE = 50
_KNOWN = {
    *("name", "type", "bounds", "categorical_values", "grid", "transformation", "precision"),
    *("prior", "default_value", "conditions", "object", "tunable", "constraints"),
}


def read_conditionals(given: Given) -> list[dict[str, Any]]:
    """Return the conditionals of an experiment."""

    def read(data: Any) -> dict[str, Any]:
        conditional = Given(data, "a conditional")
        conditional.refuse_unknown({"name", "values", "object"})
        conditional.refuse_missing("name", "values")
        name = conditional.text("name", longest=LONGEST_NAME)
        values = conditional.array("values") or []
        for value in values:
            _check_value(value, f"the conditional {name!r}")
        if len(values) < 2 or len(set(values)) < len(values):
            raise bad(f"The conditional {name!r} needs two or more distinct `values`.")
        return {"name": name, "values": values}

    found = given.each("conditionals", read)
    _refuse_twice([each["name"] for each in found], "conditionals")
    return found


def read_parameters(
    given: Given, conditionals: Sequence[Mapping[str, Any]], *, is_grid: bool
) -> list[dict[str, Any]]:
    """Return the parameters of an experiment, by name in the order of the client."""
    found = given.each("parameters", lambda each: read_parameter(each, is_grid=is_grid))
    if not found:
        raise bad(f"`parameters` of {given.what} needs at least one parameter.")
    names = [each["name"] for each in found]
    _refuse_twice(names, "parameters")
    values = {each["name"]: each["values"] for each in conditionals}
    for each in found:
        if each["name"] in values:
            raise bad(f"A parameter and a conditional have the name {each['name']!r}.")
        for name, allowed in each["conditions"].items():
            if name not in values:
                raise bad(f"{each['name']!r} has a condition on {name!r}, which is no conditional.")
            if unknown := [value for value in allowed if value not in values[name]]:
                raise bad(f"{each['name']!r}: {name!r} has no value {shown(unknown[0])}.")
    return found


def read_parameter(data: Any, *, is_grid: bool) -> dict[str, Any]:
    """Return one parameter."""
    given = Given(data, "a parameter")
    given.refuse_missing("name", "type")
    name = given.text("name", longest=LONGEST_NAME)
    given.what = f"the parameter {name!r}"
    given.refuse_unknown(_KNOWN)
    kind = given.choice("type", _TYPES)
    if "precision" in given:
        raise bad(
            f"`precision` of {given.what} is not supported. Leave it out, and round the value in "
            "your own code; or give a `grid`."
        )
    found: dict[str, Any] = {
        "name": name,
        "type": kind,
        "bounds": None,
        "grid": None,
        "transformation": None,
        "categorical_values": None,
        "prior": None,
        "default_value": None,
        "conditions": _read_conditions(given),
    }
    if kind == "categorical":
        for key in ("bounds", "grid", "transformation"):
            if given.data.get(key):
                raise bad(f"{given.what[:1].upper()}{given.what[1:]} is categorical: no `{key}`.")
        found["categorical_values"] = _read_values(given)
    else:
        if "categorical_values" in given:
            raise bad(f"{given.what[:1].upper()}{given.what[1:]} is a number: no values.")
        found["transformation"] = _read_transformation(given, kind)
        found |= _read_range(given, found, is_grid=is_grid)
    found["prior"] = _read_prior(given, found)
    found["default_value"] = _read_default(given, found)
    return found


def is_value(parameter: Mapping[str, Any], value: Any) -> bool:
    """Whether a value has the type of a parameter, and is one of its choices, if it has those."""
    if parameter["type"] == "categorical":
        return any(value == each["name"] for each in parameter["categorical_values"])
    if not (is_integer(value) if parameter["type"] == "int" else is_number(value)):
        return False
    if parameter["transformation"] == "log" and value <= 0:
        return False
    return parameter["grid"] is None or value in parameter["grid"]


def expected(parameter: Mapping[str, Any]) -> str:
    """Say what the values of a parameter are."""
    if parameter["type"] == "categorical":
        return f"one of {', '.join(repr(each['name']) for each in parameter['categorical_values'])}"
    if parameter["grid"] is not None:
        return f"one of {shown(parameter['grid'])}"
    log = ", above 0" if parameter["transformation"] == "log" else ""
    return f"a {'whole' if parameter['type'] == 'int' else 'finite'} number{log}"


def _read_values(given: Given) -> list[dict[str, Any]]:
    def name_of(value: Any) -> str:
        if isinstance(value, Mapping):
            value = value.get("name")
        _check_value(value, given.what)
        return str(value)

    names = given.each("categorical_values", name_of)
    _refuse_twice(names, f"`categorical_values` of {given.what}")
    if len(names) < 2:
        raise bad(f"`categorical_values` of {given.what} needs two or more values.")
    return [{"name": each, "enum_index": index} for index, each in enumerate(names, 1)]


def _read_transformation(given: Given, kind: str | None) -> str | None:
    if kind == "int":
        if "transformation" in given:
            raise bad(f"`transformation` is for the type 'double'; {given.what} is 'int'.")
        return None
    return given.choice("transformation", ("none", "log")) or "none"


def _read_range(given: Given, found: Mapping[str, Any], *, is_grid: bool) -> dict[str, Any]:
    is_int = found["type"] == "int"
    of_type, word = (is_integer, "whole numbers") if is_int else (is_number, "finite numbers")
    grid = given.array("grid")
    if grid is not None or is_grid:
        if "bounds" in given:
            raise bad(f"{given.what[:1].upper()}{given.what[1:]} takes `bounds` or `grid`.")
        if not grid or not all(map(of_type, grid)) or len({*grid}) < len(grid) or len(grid) < 2:
            raise given.error("grid", f"an array of two or more distinct {word}")
        low, high = min(grid), max(grid)
        grid = sorted(grid) if is_int else sorted(map(float, grid))
    else:
        bounds = Given(given.mapping("bounds") or {}, f"`bounds` of {given.what}")
        bounds.refuse_unknown({"min", "max", "object"})
        bounds.refuse_missing("min", "max")
        low, high = bounds.data["min"], bounds.data["max"]
        if not of_type(low) or not of_type(high) or not low < high:
            raise given.error("bounds", f"two {word}, `min` below `max`")
    if found["transformation"] == "log" and low <= 0:
        raise bad(f"{given.what[:1].upper()}{given.what[1:]} has `log`, so it must be above 0.")
    return {"bounds": {"min": low, "max": high}, "grid": grid}


def _read_prior(given: Given, found: Mapping[str, Any]) -> dict[str, Any] | None:
    data = given.mapping("prior")
    if data is None:
        return None
    if found["type"] != "double" or found["transformation"] == "log" or found["grid"]:
        raise bad(f"`prior` is for the type 'double', without `log` and `grid`: {given.what}.")
    prior = Given(data, f"`prior` of {given.what}")
    kind = prior.choice("name", ("normal", "beta"))
    keys = ("mean", "scale") if kind == "normal" else ("shape_a", "shape_b")
    prior.refuse_missing("name", *keys)
    prior.refuse_unknown({"name", "object", *keys})
    first, second = prior.number(keys[0]), prior.number(keys[1])
    low, high = found["bounds"]["min"], found["bounds"]["max"]
    if kind == "normal" and not low <= (first or 0.0) <= high:
        raise prior.error("mean", f"within the bounds, {low!r} to {high!r}")
    for key, value in ((keys[0], first), (keys[1], second)):
        if key != "mean" and (value is None or value <= 0):
            raise prior.error(key, "a number above 0")
    return {"name": kind, keys[0]: first, keys[1]: second}


def _read_default(given: Given, found: Mapping[str, Any]) -> Any:
    value = given.data.get("default_value")
    if value is not None and not is_value(found, value):
        raise given.error("default_value", expected(found))
    return value


def _read_conditions(given: Given) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, values in (given.mapping("conditions") or {}).items():
        some = [values] if isinstance(values, str) else values
        if not isinstance(some, list) or not some or not all(isinstance(v, str) for v in some):
            raise given.error("conditions", "an object of conditionals, each with its values")
        found[name] = some
    return found


def read_constraint(data: Any, parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one linear constraint."""
    given = Given(data, "a linear constraint")
    given.refuse_unknown({"type", "terms", "threshold", "object"})
    given.refuse_missing("type", "terms", "threshold")
    by_name = {each["name"]: each for each in parameters}
    kinds = set()

    def read(term: Any) -> dict[str, Any]:
        of_term = Given(term, "a term of a linear constraint")
        of_term.refuse_unknown({"name", "weight", "object"})
        of_term.refuse_missing("name", "weight")
        name = of_term.text("name")
        parameter = by_name.get(name or "")
        if parameter is None:
            raise bad(f"A linear constraint names {shown(name)}, which is no parameter.")
        for is_so, why in (
            (parameter["type"] == "categorical", "is categorical"),
            (parameter["conditions"], "has conditions"),
            (parameter["transformation"] == "log", "has a log transformation"),
            (parameter["grid"], "has a grid"),
        ):
            if is_so:
                raise bad(f"A linear constraint cannot name {name!r}, which {why}.")
        kinds.add(parameter["type"])
        return {"name": name, "weight": of_term.number("weight")}

    terms = given.each("terms", read)
    if sum(bool(term["weight"]) for term in terms) < 2:
        raise bad(
            "A linear constraint needs two or more terms whose weight is not 0. A limit of one "
            "parameter belongs into its `bounds`."
        )
    if len(kinds) > 1:
        raise bad("A linear constraint has terms of the type 'double' or 'int', not of both.")
    _refuse_twice([term["name"] for term in terms], "the terms of a linear constraint")
    kind = given.choice("type", ("less_than", "greater_than"))
    return {"type": kind, "terms": terms, "threshold": given.number("threshold")}


def _check_value(value: Any, what: str) -> None:
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST_VALUE:
        raise bad(f"The values of {what} are texts of 1 to {_LONGEST_VALUE}, not {shown(value)}.")


def _refuse_twice(names: Sequence[Any], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise bad(f"The name {shown(name)} is twice in {what}.")
