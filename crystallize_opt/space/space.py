"""The search space: named parameters with conditions, and constraints between parameters."""

from __future__ import annotations

import math
import operator
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, SupportsIndex, cast

from crystallize_opt.errors import InvalidParametersError, SpaceError
from crystallize_opt.runtime.shown import listed
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.fixed import fix_parameters
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import (
    Parameter,
    RandomSource,
    canonical_value,
    refuse_unknown,
)
from crystallize_opt.space.region import narrow_region
from crystallize_opt.space.short_forms import parameter_from, why_ambiguous
from crystallize_opt.space.shown import as_html, as_text


def _itself(value: Any) -> Any:
    return value


class SearchSpace(Mapping[str, Parameter]):
    """Named parameters, in order. A read-only mapping of name to parameter.

    Args:
        parameters: Parameter name to a `Parameter` or a short form: `(0.0, 1.0)` for a `Float`,
            `(1, 8)` for an `Integer`, `["a", "b"]` for a `Categorical`.
        constraints: Linear constraints between numeric parameters: `"a + 2*b <= 10"`, a chain
            `"a <= b <= c"`, an equality `"a + b + c == 1"`, or a `LinearConstraint`. A constraint
            that names an inactive parameter does not apply.

    Attributes:
        names: The parameter names in the given order, but each child after its parents.
        constraints: The constraints.
        region: What satisfies the constraints, if that is less than a twentieth of all points.
        fidelity: The name of the parameter with `fidelity=True`, or None.

    Raises:
        SpaceError: A parent is unknown or can never have the value, conditions form a cycle, a
            constraint names a parameter that is not numeric, or the constraints can never hold; or
            there are two fidelities, or something depends on the fidelity.
        MissingExtraError: Few points satisfy the constraints, and SciPy is not installed.

    Example:
        >>> space = SearchSpace({
        ...     "kernel": ["rbf", "linear"],
        ...     "gamma": Float(1e-3, 1e3, log=True).when(kernel="rbf"),
        ...     "a": (0.0, 1.0),
        ...     "b": (0.0, 1.0),
        ... }, constraints=["a + b <= 1"])
        >>> space.validate({"kernel": "linear", "a": 0.25, "b": 0.5})
        {'kernel': 'linear', 'a': 0.25, 'b': 0.5}
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        constraints: Iterable[str | LinearConstraint] = (),
    ) -> None:
        if not isinstance(parameters, Mapping):
            hint = " Give its search_space()." if hasattr(parameters, "search_space") else ""
            raise SpaceError(
                f"A SearchSpace takes a mapping of names to parameters, not {parameters!r}.{hint}"
            )
        given: dict[str, Parameter] = {}
        for name, short in parameters.items():
            if not isinstance(name, str) or not name:
                raise SpaceError(f"A parameter's name is a non-empty string, not {name!r}.")
            try:
                given[name] = parameter_from(short)
            except SpaceError as error:
                raise SpaceError(f"Parameter {name!r}: {error}") from None
            if (ambiguous := why_ambiguous(short)) is not None:
                warnings.warn(f"Parameter {name!r}: {ambiguous}", stacklevel=2)
        self._parameters = _parents_first(given)
        self.names = tuple(self._parameters)
        if isinstance(constraints, (str, LinearConstraint)):
            constraints = (constraints,)
        self.constraints = tuple(
            read
            for each in constraints
            for read in (LinearConstraint.parse_all(each) if isinstance(each, str) else [each])
        )
        for constraint in self.constraints:
            self._check_constraint(constraint)
        self.fidelity = self._checked_fidelity()
        # For each parameter: its parents, each with the values under which it is active.
        self._needed = {
            name: [
                (c.parent, frozenset(map(self._parameters[c.parent].identity, c.values)))
                for c in parameter.conditions
            ]
            for name, parameter in self._parameters.items()
        }
        self.region = narrow_region(self) if self.constraints else None
        # The usual space: each value is its own identity, which makes `key` four times as fast.
        self._is_plain = all(each.values_are_identities for each in self._parameters.values())

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SearchSpace)
            and list(self.items()) == list(other.items())
            and self.constraints == other.constraints
        )

    __hash__ = None  # type: ignore[assignment]  # choices may be unhashable

    def __dir__(self) -> list[str]:
        return listed(self, ("draw", "key", "region", "without_fidelity"))

    def __repr__(self) -> str:
        return as_text(self, self.constraints)

    def _repr_html_(self) -> str:
        return as_html(self, self.constraints)

    @cached_property
    def without_fidelity(self) -> SearchSpace:
        """The space of all parameters but the fidelity, with all constraints."""
        others = {name: each for name, each in self._parameters.items() if name != self.fidelity}
        return SearchSpace(others, self.constraints)

    @property
    def is_conditional(self) -> bool:
        """Whether a parameter of the space has a condition."""
        return any(self._needed.values())

    def defaults(self) -> dict[str, Any]:
        """Return the defaults of the parameters that have one; a `Constant` has its value.

        A parameter is left out unless its conditions hold for the defaults of its parents.

        Example:
            >>> from crystallize_opt import Categorical
            >>> space = SearchSpace({"a": Categorical(["x", "y"], default="x"), "b": (0.0, 1.0),
            ...                      "c": Integer(1, 9, default=3).when(a="y")})
            >>> space.defaults()
            {'a': 'x'}
        """
        point: dict[str, Any] = {}
        for name, parameter in self.items():
            if parameter.has_default and self.is_active(name, point):
                point[name] = parameter.default
        return point

    def fixed(self, params: Mapping[str, Any] | None = None, /, **values: Any) -> SearchSpace:
        """Return a space in which some parameters have only the given values.

        A numeric parameter becomes a range of one value, any other a `Constant`. Parameters that
        can then never be active are left out, and so are the constraints that name them.

        Args:
            params: Parameter name to value, for names that are not identifiers.
            **values: Parameter name to value.

        Raises:
            InvalidParametersError: A parameter is unknown, its value is out of range, or the other
                values make it inactive.
            SpaceError: A constraint can never hold with the values.

        Example:
            >>> parameters = {"a": ["x", "y"], "b": (0.0, 1.0), "c": Integer(1, 2).when(a="y")}
            >>> SearchSpace(parameters).fixed(a="x", b=0.25)
            SearchSpace of 2 parameters:
              a  Constant('x')
              b  Float(0.25, 0.25, default=0.25)
        """
        left = fix_parameters(self._parameters, {**(params or {}), **values})
        constraints = [each for each in self.constraints if each.coefficients.keys() <= left.keys()]
        return SearchSpace(left, constraints)

    @cached_property
    def size(self) -> float:
        """The number of distinct points; `math.inf` if a parameter is continuous.

        The number is exact without conditions and constraints, otherwise an upper bound.
        """
        sizes = [parameter.size for parameter in self.values()]
        return math.inf if math.inf in sizes else math.prod(sizes)

    def is_active(self, name: str, params: Mapping[str, Any]) -> bool:
        """Whether a parameter is active.

        Args:
            name: The name of the parameter.
            params: The active parameters before this one, in canonical form.
        """
        return all(
            parent in params and self._parameters[parent].identity(params[parent]) in values
            for parent, values in self._needed[name]
        )

    def satisfies_constraints(self, params: Mapping[str, Any]) -> bool:
        """Whether the values satisfy every linear constraint."""
        return all(constraint.holds(params) for constraint in self.constraints)

    def sample(self, rng: RandomSource | SupportsIndex | None = None) -> dict[str, Any]:
        """Draw a point that has only the active parameters and satisfies every constraint.

        Args:
            rng: A seed, or an object with `random()` in [0, 1), such as a numpy generator.

        Points are uniform (on a logarithmic scale if `log=True`) among those that satisfy the
        constraints, also where these are a tiny part of all points.
        """
        if hasattr(rng, "random"):  # a tenth of the time of isinstance with a protocol
            source = cast("RandomSource", rng)
        else:
            source = random.Random(None if rng is None else operator.index(rng))
        if self.region is not None:
            return self.region.sample(source)
        while True:
            params = self.draw(source)
            if not self.constraints or self.satisfies_constraints(params):
                return params

    def draw(self, source: RandomSource) -> dict[str, Any]:
        """Draw the active parameters, one after the other; the point may violate constraints."""
        params: dict[str, Any] = {}
        for name, parameter in self._parameters.items():
            if not parameter.conditions or self.is_active(name, params):
                params[name] = parameter.sample(source)
        return params

    def points(self, levels: Mapping[str, Iterable[Any]] | None = None) -> Iterator[dict[str, Any]]:
        """Iterate lazily over all points, the last parameter changing fastest.

        Args:
            levels: Parameter name to the values to use instead of all its values.

        Raises:
            SpaceError: A parameter is continuous and has no levels.
        """
        chosen = levels or {}
        for name, parameter in self.items():
            if name not in chosen and parameter.size == math.inf:
                raise SpaceError(f"Parameter {name!r}, {parameter!r}, has no finite set of values.")

        def extend(position: int, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
            if position == len(self.names):
                if self.satisfies_constraints(params):
                    yield dict(params)
                return
            name = self.names[position]
            if not self.is_active(name, params):
                yield from extend(position + 1, params)
                return
            for value in chosen[name] if name in chosen else self[name].values():
                yield from extend(position + 1, {**params, name: value})

        return extend(0, {})

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Check a point and return it in canonical form.

        Args:
            params: Exactly the active parameters and their values.

        Returns:
            The point in the space's order, with plain Python values and the space's own choice
            objects (numpy scalars are converted).

        Raises:
            InvalidParametersError: A parameter is unknown, missing, inactive or out of range, or a
                constraint is violated.
        """
        refuse_unknown(params, self._parameters)
        point: dict[str, Any] = {}
        for name, parameter in self._parameters.items():
            if not self.is_active(name, point):
                if name in params:
                    raise InvalidParametersError(
                        f"Parameter {name!r} is inactive here: it needs "
                        f"{_conditions_text(parameter)}. Leave it out."
                    )
                continue
            if name not in params:
                raise InvalidParametersError(f"Parameter {name!r}, {parameter!r}, is missing.")
            point[name] = canonical_value(name, parameter, params[name])
        for constraint in self.constraints:
            if not constraint.holds(point):
                raise InvalidParametersError(f"{point!r} violates {constraint!r}.")
        return point

    def key(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return a hashable identity of a point: equal keys for equal points.

        Args:
            params: A point in canonical form, as `sample` and `validate` return it.
        """
        if self._is_plain:
            return tuple(params.items())
        parameters = self._parameters
        # A list, because a generator takes twice the time.
        return tuple([(name, parameters[name].identity(value)) for name, value in params.items()])

    def to_dict(self, *, other: Callable[[Any], Any] = _itself) -> dict[str, Any]:
        """Return the space as plain data; `from_dict` builds an equal space from the data.

        The data can be written as JSON if all choices and constants are None, bools, numbers,
        texts, bytes, dates, paths and such of the standard library, or tuples, lists, dicts and
        sets of these.

        Args:
            other: Encodes any other choice or constant; by default, returns the object itself.
        """
        from crystallize_opt.space.as_dict import encode_space  # The encoder is seldom needed.

        return encode_space(self._parameters, self.constraints, other)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchSpace:
        """Build the space that `to_dict` described.

        Raises:
            SpaceError: The data do not describe a space.
        """
        from crystallize_opt.space.as_dict import decode_space

        return cls(*decode_space(data))

    def _checked_fidelity(self) -> str | None:
        """Return the name of the fidelity, on which nothing else may depend."""
        names = [n for n, each in self._parameters.items() if getattr(each, "fidelity", False)]
        if not names:
            return None
        if len(names) > 1:
            raise SpaceError(
                f"A space has at most one fidelity, not {', '.join(map(repr, names))}. Leave out "
                "fidelity=True in the others."
            )
        (name,) = names
        why = f"The optimizer alone chooses the fidelity {name!r} of each trial, so "
        for child, parameter in self._parameters.items():
            if any(condition.parent == name for condition in parameter.conditions):
                raise SpaceError(f"{why}{child!r} cannot depend on it. Remove that condition.")
        for constraint in self.constraints:
            if name in constraint.coefficients:
                raise SpaceError(f"{why}{constraint!r} cannot name it. Remove that constraint.")
        return name

    def _check_constraint(self, constraint: LinearConstraint) -> None:
        if not isinstance(constraint, LinearConstraint):
            raise SpaceError(
                f"A constraint is text such as 'a + 2*b <= 10' or a LinearConstraint, not "
                f"{constraint!r}."
            )
        lowest: dict[str, float] = {}
        largest = abs(constraint.bound)
        for name, factor in constraint.coefficients.items():
            parameter = self._parameters.get(name)
            if isinstance(parameter, (Float, Integer)):
                lowest[name] = parameter.low if factor > 0 else parameter.high
                largest += abs(factor) * max(abs(parameter.low), abs(parameter.high))
            elif parameter is None:
                raise SpaceError(
                    f"{constraint!r} names the unknown parameter {name!r}. The space has: "
                    f"{', '.join(map(repr, self.names)) or 'none'}."
                )
            else:
                raise SpaceError(
                    f"{constraint!r} names {name!r}, {parameter!r}. Only Float and Integer can be "
                    "constrained."
                )
        if not math.isfinite(largest):
            raise SpaceError(f"{constraint!r} has a sum too large for floats in the given ranges.")
        if not constraint.holds(lowest):
            raise SpaceError(f"{constraint!r} can never hold in the given ranges.")


def as_space(space: SearchSpace | Mapping[str, Any]) -> SearchSpace:
    """Return a `SearchSpace` itself, or the space that a mapping of parameters builds."""
    return space if isinstance(space, SearchSpace) else SearchSpace(space)


def _parents_first(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Check the conditions and move each child after its parents; otherwise keep the order."""
    for name, parameter in parameters.items():
        for condition in parameter.conditions:
            _check_condition(name, condition.parent, condition.values, parameters)
    ordered: dict[str, Parameter] = {}
    visiting: list[str] = []

    def place(name: str) -> None:
        if name in ordered:
            return
        if name in visiting:
            cycle = " -> ".join([*visiting[visiting.index(name) :], name])
            raise SpaceError(f"The conditions form a cycle: {cycle}.")
        visiting.append(name)
        for condition in parameters[name].conditions:
            place(condition.parent)
        visiting.pop()
        ordered[name] = parameters[name]

    for name in parameters:
        place(name)
    return ordered


def _check_condition(
    name: str, parent: str, values: tuple[Any, ...], parameters: Mapping[str, Parameter]
) -> None:
    if parent not in parameters:
        raise SpaceError(
            f"Parameter {name!r} depends on {parent!r}, which is not in the space. The space has: "
            f"{', '.join(map(repr, parameters))}."
        )
    parameter = parameters[parent]
    if parameter.size == math.inf:
        raise SpaceError(
            f"Parameter {name!r} depends on {parent!r}, {parameter!r}. A parent has a finite set "
            "of values: Categorical, Ordinal, Integer, Constant, or Float with step."
        )
    for value in values:
        try:
            canonical = parameter.canonical(value)
        except InvalidParametersError as error:
            several = f" Several values are a set: when({parent}={{'a', 'b'}})."
            raise SpaceError(
                f"Parameter {name!r} depends on {parent!r}={value!r}: {error}"
                f"{several if isinstance(value, (list, tuple)) else ''}"
            ) from None
        if type(canonical) is not type(value):
            raise SpaceError(
                f"Parameter {name!r} depends on {parent!r}={value!r}; write {canonical!r}."
            )


def _conditions_text(parameter: Parameter) -> str:
    return " and ".join(
        f"{condition.parent} in {list(condition.values)!r}" for condition in parameter.conditions
    )
