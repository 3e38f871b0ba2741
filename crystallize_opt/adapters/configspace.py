"""Converts a search space to a `ConfigSpace.ConfigurationSpace` and back. Needs the extra `smac`.

The ConfigurationSpace differs from the search space where ConfigSpace 1.2 has no other way:

- A `Float` or `Integer` with `step` is an `OrdinalHyperparameter` over its values; a range of one
  value is a `Constant`.
- Every hyperparameter has a default. Where there are constraints, defaults that the space leaves
  open are chosen such that the default configuration satisfies them.
- Floats have 13 decimals. A bound with more is moved inwards, to the next number that has 13.
- A child of several parents also carries its parents' own conditions. Without these, ConfigSpace
  samples children of inactive parents.

The `meta` of the first hyperparameter stores the original space, also in ConfigSpace's JSON.
`from_configspace` returns an equal space unless the ConfigurationSpace has been changed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from crystallize_opt.errors import (
    InvalidParametersError,
    UnsupportedSpaceError,
)
from crystallize_opt.runtime.extras import needs
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Condition, Parameter, same_value
from crystallize_opt.space.space import SearchSpace

with needs("Conversion to and from ConfigSpace needs", "ConfigSpace", extra="smac"):
    import ConfigSpace

import numpy as np
from ConfigSpace.conditions import Condition as ConfigSpaceCondition
from ConfigSpace.conditions import ConditionLike, Conjunction
from ConfigSpace.exceptions import ForbiddenValueError
from ConfigSpace.forbidden import ForbiddenLike, ForbiddenRelation
from ConfigSpace.hyperparameters import Hyperparameter

_META_KEY = "crystallize_opt"
_MOST_VALUES = 10_000
_DECIMALS = 13
_DRAWS = 1_000

_Hyperparameters = Mapping[str, Hyperparameter[Any, Any]]


# Forbidden relation -> the sign of the left side in `left - right <= 0`.
_SIGNS: Mapping[type, float] = {
    ConfigSpace.ForbiddenGreaterThanRelation: 1.0,
    ConfigSpace.ForbiddenLessThanRelation: -1.0,
}


# To ConfigSpace --------------------------------------------------------------------------------


def to_configspace(space: SearchSpace) -> ConfigSpace.ConfigurationSpace:
    """Return the same space as a ConfigurationSpace.

    Raises:
        UnsupportedSpaceError: ConfigSpace cannot express it.
    """
    hyperparameters = {name: _to_hyperparameter(name, each) for name, each in space.items()}
    if space.constraints:
        for name, default in _legal_defaults(space, hyperparameters).items():
            parameter = space[name].with_default(default)
            hyperparameters[name] = _to_hyperparameter(name, parameter)
    # Not the meta of the ConfigurationSpace, which its JSON leaves out.
    for hyperparameter in list(hyperparameters.values())[:1]:
        hyperparameter.meta = {_META_KEY: space.to_dict()}
    converted = ConfigSpace.ConfigurationSpace()
    converted.add(
        *hyperparameters.values(),
        *(_to_condition(name, space, hyperparameters) for name in space if space[name].conditions),
    )
    for constraint in space.constraints:
        try:
            converted.add(_to_relation(constraint, hyperparameters))
        except ForbiddenValueError as error:
            raise _no_legal_default(space) from error
    return converted


def _to_hyperparameter(name: str, parameter: Parameter) -> Hyperparameter[Any, Any]:
    try:
        match parameter:
            case Float() | Integer() if parameter.size == 1:
                return ConfigSpace.Constant(name, parameter.low)
            case Float() | Integer() if parameter.step is not None:
                return _of_grid(name, parameter)
            case Float():
                return _of_float(name, parameter)
            case Integer():
                return _of_integer(name, parameter)
            case _:
                return _of_objects(name, parameter)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise UnsupportedSpaceError(
            f"ConfigSpace cannot take the parameter {name!r}, {parameter!r}: {error}."
        ) from error


def _of_grid(name: str, parameter: Float | Integer) -> Hyperparameter[Any, Any]:
    if parameter.size > _MOST_VALUES:
        raise ValueError(
            f"it has no step, and the {parameter.size} values are too many to list (more than "
            f"{_MOST_VALUES})"
        )
    values = list(parameter.values())
    default = _on_grid(parameter, parameter.default) if parameter.has_default else values[0]
    return ConfigSpace.OrdinalHyperparameter(name, values, default)


def _of_float(name: str, parameter: Float) -> Hyperparameter[Any, Any]:
    low, high = parameter.low, parameter.high
    lower, upper = _rounded(low, high), _rounded(high, low)
    off = max(lower - low, high - upper)
    if off > 1e-6 * (low if parameter.log else high - low):
        raise ValueError(f"it rounds floats to {_DECIMALS} decimals")
    # Moving a bound may leave the default outside of the range: move it, too.
    default = min(max(parameter.default, lower), upper) if parameter.has_default else None
    return ConfigSpace.UniformFloatHyperparameter(name, lower, upper, default, parameter.log)


def _rounded(bound: float, other: float) -> float:
    """Return the number nearest to `bound` that rounding keeps inside the range."""
    nudge = math.copysign(10.0**-_DECIMALS, other - bound)
    for candidate in (bound, math.nextafter(bound, other), bound + nudge):
        with np.errstate(over="ignore"):
            rounded = float(np.round(candidate, _DECIMALS))
        if min(bound, other) <= rounded <= max(bound, other):
            return rounded
    raise ValueError(f"it rounds floats to {_DECIMALS} decimals")


def _of_integer(name: str, parameter: Integer) -> Hyperparameter[Any, Any]:
    if max(-parameter.low, parameter.high) > 2**53:
        raise ValueError("it computes in floats, which do not hold whole numbers above 2**53")
    default = parameter.default if parameter.has_default else None
    return ConfigSpace.UniformIntegerHyperparameter(
        name, parameter.low, parameter.high, default, parameter.log
    )


def _of_objects(name: str, parameter: Parameter) -> Hyperparameter[Any, Any]:
    """Convert a parameter whose values are any objects, and check that they come back unchanged."""
    values = list(parameter.values())
    for position, value in enumerate(values):
        for other in values[:position]:
            if value == other:
                raise ValueError(f"it cannot tell {other!r} from {value!r}, which is equal")
    default = parameter.default if parameter.has_default else values[0]
    hyperparameter: Hyperparameter[Any, Any]
    match parameter:
        case Constant():
            hyperparameter = ConfigSpace.Constant(name, parameter.value)
        case Ordinal():
            hyperparameter = ConfigSpace.OrdinalHyperparameter(name, values, default)
        case _:
            hyperparameter = ConfigSpace.CategoricalHyperparameter(name, values, default)
    for value in values:
        given = hyperparameter.to_value(hyperparameter.to_vector(value))
        try:
            kept = same_value(parameter.canonical(given), value)
        except InvalidParametersError:
            kept = False
        if not kept:
            raise ValueError(f"it would give {given!r} for {value!r}")
    return hyperparameter


def _on_grid(parameter: Parameter, value: Any) -> Any:
    """Return the value as `parameter.values()` has it: 0.3, not 0.30000000000000004."""
    if isinstance(parameter, Float) and parameter.step is not None:
        return parameter.value_at(parameter.index(value))
    return value


def _to_condition(
    name: str, space: SearchSpace, hyperparameters: _Hyperparameters
) -> ConditionLike:
    needed: list[Condition] = []
    waiting = list(space[name].conditions)
    several = len({condition.parent for condition in waiting}) > 1
    while waiting:
        condition = waiting.pop(0)
        if condition not in needed:
            needed.append(condition)
            if several:  # ConfigSpace checks parents before it knows whether they are active.
                waiting.extend(space[condition.parent].conditions)
    literals: list[ConditionLike] = []
    for condition in needed:
        child, parent = hyperparameters[name], hyperparameters[condition.parent]
        values = [_on_grid(space[condition.parent], value) for value in condition.values]
        if len(values) == 1:
            literals.append(ConfigSpace.EqualsCondition(child, parent, values[0]))
        else:
            literals.append(ConfigSpace.InCondition(child, parent, values))
    return literals[0] if len(literals) == 1 else ConfigSpace.AndConjunction(*literals)


def _to_relation(
    constraint: LinearConstraint, hyperparameters: _Hyperparameters
) -> ForbiddenRelation:
    smaller, greater = _sides(constraint)
    return ConfigSpace.ForbiddenGreaterThanRelation(
        hyperparameters[smaller], hyperparameters[greater]
    )


def _sides(constraint: LinearConstraint) -> tuple[str, str]:
    """Return the two names of a constraint such as `a <= b`."""
    match list(constraint.coefficients.items()):
        case [(one, factor), (other, opposite)] if factor == -opposite and not constraint.bound:
            return (one, other) if factor > 0 else (other, one)
    raise UnsupportedSpaceError(
        f"ConfigSpace cannot take {constraint!r}, only constraints such as 'a <= b' between two "
        "parameters."
    )


def _legal_defaults(space: SearchSpace, hyperparameters: _Hyperparameters) -> dict[str, Any]:
    """Return a default configuration that satisfies the constraints, with the space's defaults."""
    sides = [_sides(constraint) for constraint in space.constraints]
    usual = {name: each.default_value for name, each in hyperparameters.items()}
    rng = random.Random(0)
    for draw in range(_DRAWS):
        free = space.sample(rng) if draw else usual
        point: dict[str, Any] = {}
        for name, parameter in space.items():
            if space.is_active(name, point):
                open_ = not parameter.has_default and name in free
                point[name] = free[name] if open_ else usual[name]
        if all(
            smaller not in point or greater not in point or point[smaller] <= point[greater]
            for smaller, greater in sides
        ):
            return point
    raise _no_legal_default(space)


def _no_legal_default(space: SearchSpace) -> UnsupportedSpaceError:
    return UnsupportedSpaceError(
        "ConfigSpace needs a default configuration that satisfies the constraints "
        f"{list(space.constraints)!r}; none was found with the defaults {space.defaults()!r}. "
        "Give other defaults."
    )


# From ConfigSpace ------------------------------------------------------------------------------


def from_configspace(space: ConfigSpace.ConfigurationSpace) -> SearchSpace:
    """Return a ConfigurationSpace as a search space.

    Raises:
        UnsupportedSpaceError: It holds something that `SearchSpace` cannot express.
    """
    for hyperparameter in space.values():
        original = (hyperparameter.meta or {}).get(_META_KEY)
        if original is not None:
            remembered = SearchSpace.from_dict(original)
            if _as_text(to_configspace(remembered)) == _as_text(space):
                return remembered
    parameters = {name: _from_hyperparameter(each) for name, each in space.items()}
    for name in parameters:
        conditions = _from_conditions(name, parameters, space)
        parameters[name] = dataclasses.replace(parameters[name], conditions=conditions)  # type: ignore[type-var]
    constraints = [_from_forbidden(each, parameters) for each in space.forbidden_clauses]
    return SearchSpace(parameters, constraints)


def _as_text(space: ConfigSpace.ConfigurationSpace) -> str:
    """Return the space as in its JSON file, where tuples are lists and a space has no meta."""
    data = space.to_serialized_dict()
    data["hyperparameters"] = [{**each, "meta": None} for each in data["hyperparameters"]]
    return json.dumps(data, default=repr, sort_keys=True)


def _from_hyperparameter(hyperparameter: Hyperparameter[Any, Any]) -> Parameter:
    reason = f"SearchSpace has no {type(hyperparameter).__name__}"
    default = hyperparameter.default_value
    match hyperparameter:
        case ConfigSpace.UniformFloatHyperparameter(lower=low, upper=high, log=log):
            return Float(low, high, log=log, default=default)
        case ConfigSpace.UniformIntegerHyperparameter(lower=low, upper=high, log=log):
            return Integer(low, high, log=log, default=default)
        case ConfigSpace.CategoricalHyperparameter(choices=choices, weights=weights):
            if len(set(weights or ())) <= 1:
                return Categorical(tuple(choices), default=default)
            reason = f"its choices have the weights {weights}, and those of SearchSpace have none"
        case ConfigSpace.OrdinalHyperparameter(sequence=choices):
            return Ordinal(choices, default=default)
        case ConfigSpace.Constant(value=value):
            return Constant(value)
    raise UnsupportedSpaceError(f"Hyperparameter {hyperparameter.name!r}: {reason}.")


def _from_conditions(
    name: str, parameters: Mapping[str, Parameter], space: ConfigSpace.ConfigurationSpace
) -> tuple[Condition, ...]:
    """Return the conditions of a hyperparameter, one for each parent."""
    values: dict[str, list[Any]] = {}
    for literal in _literals(name, space.parent_conditions_of[name]):
        parent = literal.parent.name
        allowed = _allowed_values(literal, parameters[parent], space)
        known = values.get(parent, allowed)
        values[parent] = [v for v in known if any(same_value(v, other) for other in allowed)]
        if not values[parent]:
            raise UnsupportedSpaceError(
                f"Hyperparameter {name!r} can never be active: no value of {parent!r} satisfies "
                f"{space.parent_conditions_of[name]}."
            )
    return tuple(Condition(parent, tuple(each)) for parent, each in values.items())


def _literals(name: str, conditions: Iterable[ConditionLike]) -> Iterator[ConfigSpaceCondition]:
    for condition in conditions:
        if isinstance(condition, ConfigSpace.AndConjunction):
            yield from _literals(name, condition.components)
        elif isinstance(condition, Conjunction):
            raise UnsupportedSpaceError(
                f"Hyperparameter {name!r}: SearchSpace has no {type(condition).__name__} of "
                f"conditions: {condition}."
            )
        else:
            yield condition


def _allowed_values(
    condition: ConfigSpaceCondition, parent: Parameter, space: ConfigSpace.ConfigurationSpace
) -> list[Any]:
    """Return the values of the parent for which the condition holds."""
    name = condition.parent.name
    refused = f"Hyperparameter {condition.child.name!r} has the condition {condition}, but "
    if parent.size == math.inf:
        raise UnsupportedSpaceError(f"{refused}{name!r} is continuous.")
    if isinstance(condition, (ConfigSpace.EqualsCondition, ConfigSpace.InCondition)):
        several = isinstance(condition, ConfigSpace.InCondition)
        return [parent.canonical(v) for v in (condition.value if several else [condition.value])]
    if parent.size > _MOST_VALUES:
        raise UnsupportedSpaceError(
            f"{refused}{name!r} has more than {_MOST_VALUES} values to choose from."
        )
    values = list(parent.values())
    order = [parent.identity(value) for value in values]
    position = order.index(parent.identity(parent.canonical(condition.value)))
    match condition:
        case ConfigSpace.NotEqualsCondition():
            if space.parent_conditions_of[name]:
                raise UnsupportedSpaceError(
                    f"{refused}{name!r} has conditions too: ConfigSpace takes an inactive parent "
                    "for unequal, SearchSpace does not. Use an InCondition."
                )
            return values[:position] + values[position + 1 :]
        case ConfigSpace.LessThanCondition():
            return values[:position]
        case ConfigSpace.GreaterThanCondition():
            return values[position + 1 :]
    raise UnsupportedSpaceError(f"{refused}SearchSpace has no {type(condition).__name__}.")


def _from_forbidden(clause: ForbiddenLike, parameters: Mapping[str, Parameter]) -> LinearConstraint:
    # Compare exact types, because the relations that forbid >= and <= are subclasses of those that
    # forbid > and <.
    if not isinstance(clause, ForbiddenRelation) or type(clause) not in _SIGNS:
        raise UnsupportedSpaceError(
            f"{clause}: SearchSpace has no {type(clause).__name__}. Of the forbidden clauses it "
            f"knows {' and '.join(known.__name__ for known in _SIGNS)}."
        )
    left, right = clause.left.name, clause.right.name
    for name in (left, right):
        if not isinstance(parameters[name], (Float, Integer)):
            raise UnsupportedSpaceError(
                f"{clause}: {name!r} is {parameters[name]!r}. SearchSpace constrains only Float "
                "and Integer."
            )
    sign = _SIGNS[type(clause)]
    return LinearConstraint({left: sign, right: -sign}, 0.0)
