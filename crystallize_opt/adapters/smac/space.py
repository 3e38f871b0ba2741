"""Converts a search space to the `ConfigurationSpace` that SMAC searches, and points both ways.

Most floats, integers, log scales and conditions are passed to SMAC unchanged. Other values are
stored in another form, and come back exact: see `_stored`.

`crystallize_opt.adapters.configspace` makes another ConfigurationSpace, which has the values
themselves, for people and other programs to read. This one is for SMAC to search.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from ConfigSpace import (
    AndConjunction,
    CategoricalHyperparameter,
    Configuration,
    ConfigurationSpace,
    Constant,
    ForbiddenGreaterThanRelation,
    ForbiddenInClause,
    InCondition,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from ConfigSpace.exceptions import ForbiddenValueError
from ConfigSpace.forbidden import ForbiddenConjunction, ForbiddenLike

from crystallize_opt.errors import UnsupportedSpaceError
from crystallize_opt.space.choices import Categorical, Ordinal
from crystallize_opt.space.codes import (
    ChoiceIndex,
    Code,
    GridIndex,
    Number,
    OnlyValue,
    Position,
    between,
)
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace

_DECIMALS = 13  # Of floats: `ConfigSpace.hyperparameters.hp_components.ROUND_PLACES`.
_SMALLEST = 1e-8  # Rounded to 13 decimals, this number has only five significant digits.
_LARGEST = 1e290  # numpy rounds to 13 decimals by multiplying with 1e13, which must not overflow.
_MOST_INTEGERS = 2**53  # ConfigSpace computes with integers as floats.
# Less than the slack of `LinearConstraint.holds`: a point that is allowed here also holds there.
_SLACK = 1e-10
_ATTEMPTS = 20


class Stored:
    """How one parameter is stored in SMAC.

    Args:
        code: The form of the values.
        hyperparameter: SMAC's counterpart of the parameter.
    """

    def __init__(self, code: Code, hyperparameter: Any) -> None:
        self.code = code
        self.hyperparameter = hyperparameter
        self.is_native = isinstance(code, Number)  # Whether SMAC stores the user's number itself.
        self.decode = code.decode

    def encode(self, value: Any) -> Any:
        """Return the value that SMAC stores, with the same type as in SMAC's suggestions.

        The type matters, because SMAC recognizes a configuration by a hash of its text.
        """
        stored = self.code.encode(value)
        match self.code:
            case Number():  # ConfigSpace's rounded bounds may exclude a bound of the parameter.
                return min(max(stored, self.hyperparameter.lower), self.hyperparameter.upper)
            case Position():
                return round(stored, _DECIMALS)
            case ChoiceIndex():
                return np.int64(stored)
        return stored

    def numbers(self, vector: Any) -> Any:
        """Return the user's numbers for SMAC's internal numbers, a float or an array of floats."""
        parameter = self.code.parameter
        match self.code:
            case Number():
                return np.round(self.hyperparameter.to_value(vector), _DECIMALS)
            case GridIndex():
                step = float(parameter.step or 1)
                return parameter.low + self.hyperparameter.to_value(vector) * step
            case Position():
                low, high, position = parameter.low, parameter.high, np.round(vector, _DECIMALS)
                if parameter.log:
                    value = np.exp(between(math.log(low), math.log(high), position))
                else:
                    value = between(low, high, position)
                return np.clip(value, low, high)
        return vector * 0.0 + float(self.decode(0))


def _stored(name: str, parameter: Parameter) -> Stored:
    """Choose how to store a parameter.

    Raises:
        UnsupportedSpaceError: SMAC cannot store the parameter exactly.
    """
    code: Code
    given: Any = parameter.default if parameter.has_default else None
    default: Any = None
    match parameter:
        case Categorical() | Ordinal():
            code = ChoiceIndex(parameter)
            choice: Any = CategoricalHyperparameter
            if isinstance(parameter, Ordinal):
                choice = OrdinalHyperparameter
            default = code.encode(given) if parameter.has_default else 0
            return Stored(code, choice(name, range(len(parameter.choices)), default))
        case Parameter(size=1):
            return Stored(OnlyValue(parameter), Constant(name, 0))
        case Float(step=None) if not _fits(parameter):
            code = Position(parameter)
            if parameter.has_default:
                default = round(code.encode(given), _DECIMALS)
            return Stored(code, UniformFloatHyperparameter(name, 0.0, 1.0, default))
        case Float(step=None) | Integer(step=None) if _fits(parameter):
            number: Any = UniformFloatHyperparameter
            if isinstance(parameter, Integer):
                number = UniformIntegerHyperparameter
            low, high, log = parameter.low, parameter.high, parameter.log
            return Stored(Number(parameter), number(name, low, high, given, log=log))
        case Float() | Integer(log=False) if parameter.size <= _MOST_INTEGERS:
            code = GridIndex(parameter)
            if parameter.has_default:
                default = code.encode(given)
            last = int(parameter.size) - 1
            return Stored(code, UniformIntegerHyperparameter(name, 0, last, default))
    raise UnsupportedSpaceError(
        f"SMACOptimizer cannot take {name!r}, {parameter!r}: ConfigSpace holds whole numbers as "
        "floats, which are exact up to 2**53 only. Narrow the range, or use OptunaOptimizer or "
        "RandomOptimizer."
    )


def _fits(parameter: Float | Integer) -> bool:
    """Whether ConfigSpace, whose floats have 13 decimals, can store the range unchanged."""
    largest = max(abs(parameter.low), abs(parameter.high))
    if isinstance(parameter, Integer):
        return largest <= _MOST_INTEGERS
    smallest = parameter.low if parameter.log else parameter.high - parameter.low
    return smallest >= _SMALLEST and largest <= _LARGEST


class SearchedSpace:
    """A search space in the form that SMAC searches.

    Args:
        space: The search space.

    Attributes:
        space: The search space.
        configspace: The ConfigurationSpace. Do not share it: SMAC seeds it and draws from it.

    Raises:
        UnsupportedSpaceError: SMAC cannot search a parameter.
        SpaceError: No point that satisfies the constraints was found.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._storages = {name: _stored(name, space[name]) for name in space.names}
        self.configspace = self._built()

    def params(self, configuration: Configuration) -> dict[str, Any]:
        """Return the point of a configuration: plain values or the user's objects."""
        stored = dict(configuration)
        return {
            name: storage.decode(stored[name])
            for name, storage in self._storages.items()
            if name in stored
        }

    def configuration(self, params: Mapping[str, Any]) -> Configuration:
        """Return the configuration for a point in canonical form."""
        values = {name: self._storages[name].encode(value) for name, value in params.items()}
        try:
            return Configuration(self.configspace, values=values)
        except ForbiddenValueError:
            # The point satisfies the constraints, but ConfigSpace's rounding of it does not.
            vector = np.full(len(self.configspace), np.nan)
            for name, value in values.items():
                vector[self.configspace.index_of[name]] = self.configspace[name].to_vector(value)
            return Configuration(self.configspace, vector=vector)

    def _built(self) -> ConfigurationSpace:
        for seed in range(_ATTEMPTS):
            try:
                return self._with_defaults()
            except ForbiddenValueError:
                # ConfigSpace requires an allowed default configuration: try one at random.
                for name, value in self.space.sample(seed).items():
                    self._storages[name] = _stored(name, self.space[name].with_default(value))
        return self._with_defaults()

    def _with_defaults(self) -> ConfigurationSpace:
        conditions = self._conditions()
        hyperparameters = [
            storage.hyperparameter
            for name, storage in self._storages.items()
            if all(conditions[name].values())  # Otherwise the parameter is never active.
        ]
        configspace = ConfigurationSpace(name="crystallize-opt")
        # The surrogate models need at least one parameter.
        configspace.add(hyperparameters or [Constant("nothing", 0)])
        for hyperparameter in hyperparameters:
            components = [
                InCondition(hyperparameter, self._storages[parent].hyperparameter, values)
                for parent, values in conditions[hyperparameter.name].items()
            ]
            if components:
                configspace.add(
                    components[0] if len(components) == 1 else AndConjunction(*components)
                )
        configspace.add(
            [
                self._forbidden(constraint)
                for constraint in self.space.constraints
                if all(all(conditions[name].values()) for name in constraint.coefficients)
            ]
        )
        return configspace

    def _conditions(self) -> dict[str, dict[str, list[Any]]]:
        """Return, for each parameter, the values of its ancestors under which it is active.

        Without the conditions of the parents, ConfigSpace 1.2 also suggests children of inactive
        parents if a child has several parents.
        """
        conditions: dict[str, dict[str, list[Any]]] = {}
        for name, parameter in self.space.items():
            needed: dict[str, list[Any]] = {}
            for condition in parameter.conditions:
                storage = self._storages[condition.parent]
                inherited = conditions[condition.parent]
                if not isinstance(
                    storage.code, OnlyValue
                ):  # SMAC's initial design fails with such a parent.
                    values = [storage.code.parameter.canonical(value) for value in condition.values]
                    inherited = {condition.parent: [*map(storage.encode, values)]} | inherited
                for parent, allowed in inherited.items():
                    before = needed.get(parent, allowed)
                    needed[parent] = [value for value in before if value in allowed]
            conditions[name] = needed
        return conditions

    def _forbidden(self, constraint: LinearConstraint) -> ForbiddenLike:
        """Return a constraint as ConfigSpace's relation if it has one, else as our own clause."""
        factors = sorted(constraint.coefficients.items(), key=lambda item: -item[1])
        if constraint.bound == 0.0 and len(factors) == 2 and factors[0][1] == -factors[1][1]:
            smaller, larger = (self._storages[name] for name, _ in factors)
            if smaller.is_native and larger.is_native:
                return ForbiddenGreaterThanRelation(smaller.hyperparameter, larger.hyperparameter)
        storages = {name: self._storages[name] for name in constraint.coefficients}
        # ConfigSpace copies a clause by calling its class with copies of its components only, so
        # each constraint has a class of its own.
        kind = type(
            "ForbiddenLinear", (_ForbiddenLinear,), {"of": constraint, "storages": storages}
        )
        clause: ForbiddenLike = kind(
            *(ForbiddenInClause(storage.hyperparameter, ()) for storage in storages.values())
        )
        return clause


class _ForbiddenLinear(ForbiddenConjunction):
    """Forbids the configurations that violate a linear constraint; subclassed for each constraint.

    ConfigSpace asks a forbidden clause whether it forbids a value, a vector or many vectors, and
    finds the clause's hyperparameters through its components. The components forbid nothing.

    Args:
        *components: A clause for each parameter of the constraint, in order.

    Attributes:
        of: The constraint.
        storages: How its parameters are stored, in order.
    """

    of: ClassVar[LinearConstraint]
    storages: ClassVar[Mapping[str, Stored]]

    def __init__(self, *components: Any) -> None:
        super().__init__(*components)
        self._indices: list[int] = []

    def set_vector_idx(self, hyperparameter_to_idx: Mapping[str, int]) -> None:
        super().set_vector_idx(hyperparameter_to_idx)
        self._indices = [hyperparameter_to_idx[name] for name in self.storages]

    def is_forbidden_value(self, values: dict[str, Any]) -> bool:
        decoded = {
            name: storage.decode(values[name])
            for name, storage in self.storages.items()
            if name in values
        }
        return not self.of.holds(decoded)

    def is_forbidden_vector(self, vector: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
        numbers = vector[self._indices]
        return not np.isnan(numbers).any() and bool(self._violated(numbers))

    def is_forbidden_vector_array(self, arr: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        vectors = arr[self._indices]
        forbidden = np.zeros(vectors.shape[1], dtype=np.bool_)
        active = ~np.isnan(vectors).any(axis=0)
        forbidden[active] = self._violated(vectors[:, active])
        return forbidden

    def _violated(self, vectors: Iterable[Any]) -> Any:
        terms = [
            factor * storage.numbers(vector)
            for (factor, storage), vector in zip(self._factors_and_storages(), vectors, strict=True)
        ]
        bound = self.of.bound
        return sum(terms) - bound > _SLACK * (sum(map(abs, terms)) + abs(bound))

    def _factors_and_storages(self) -> Iterable[tuple[float, Stored]]:
        return zip(self.of.coefficients.values(), self.storages.values(), strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ForbiddenLinear) and self.of == other.of

    __hash__ = None  # type: ignore[assignment]  # as of all forbidden clauses

    def __repr__(self) -> str:
        return f"Forbidden: not {self.of!r}"

    def to_dict(self) -> dict[str, Any]:
        coefficients = dict(self.of.coefficients)
        return {"type": "LINEAR", "coefficients": coefficients, "bound": self.of.bound}
