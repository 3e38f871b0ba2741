"""Search spaces from the annotations of step functions' parameters."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from crystallize_opt.errors import InvalidParametersError, SpaceError
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.short_forms import is_range, parameter_from, why_ambiguous
from crystallize_opt.space.space import SearchSpace

_RANGE = re.compile(r"\b(Annotated|Float|Integer|Categorical|Ordinal|Constant)\b")


def annotated_parameter(function: Callable[..., Any], name: str) -> Parameter | None:
    """Return the search range in the annotation of one parameter of `function`, or None.

    The range is `Annotated[float, Float(0, 1)]` or, without the type, `Float(0, 1)`; it may have
    a short form.

    What is meant as a range and is none is refused; it would silently not be searched.

    Args:
        function: A step function.
        name: The name of a parameter of the function.

    Raises:
        SpaceError: The annotation holds two ranges, or one that is not well defined, or is neither
            a range nor a type; or a range is the parameter's default.
    """
    parameter = inspect.signature(function).parameters[name]
    annotation = parameter.annotation
    where = f"The annotation of {name!r} in step {name_of(function)!r}"
    if isinstance(parameter.default, Parameter):
        raise SpaceError(
            f"The default of {name!r} in step {name_of(function)!r} is a range, and so is not "
            f"searched. Give the range as the annotation: {name}: {parameter.default!r}."
        )
    if isinstance(annotation, str):  # `from __future__ import annotations`
        annotation = _evaluated(annotation, function, where)
    found = _ranges_in(annotation, where)
    if len(found) > 1:
        raise SpaceError(f"{where} holds {len(found)} ranges; give one.")
    if not found:
        return None
    if (ambiguous := why_ambiguous(found[0])) is not None:
        warnings.warn(f"{where}: {ambiguous}", stacklevel=2)
    try:
        return parameter_from(found[0])
    except SpaceError as error:
        raise SpaceError(f"{where}: {error}") from None


def _evaluated(annotation: str, function: Callable[..., Any], where: str) -> Any:
    """Evaluate an annotation; return None for one that others read, such as a type checker."""
    # Evaluate only this annotation; others may name types that only a type checker imports.
    written = _as_written(function)
    closure = inspect.getclosurevars(written).nonlocals
    try:
        return eval(annotation, written.__globals__, closure)  # noqa: S307
    except Exception as error:
        if not _RANGE.search(annotation) and not _is_value(annotation):
            return None
        raise SpaceError(
            f"{where}, {annotation!r}, cannot be evaluated ({error}). Correct a misspelt name. "
            "With `from __future__ import annotations`, the names in it must be importable at "
            "module level."
        ) from error


def _ranges_in(annotation: Any, where: str) -> list[Any]:
    """Return what means a search range in an annotation; refuse what was meant as one."""
    # The range may be on one side of a union: `Annotated[float, Float(0, 1)] | None`.
    union = get_origin(annotation) in (Union, UnionType)
    found: list[Any] = []
    for part in get_args(annotation) if union else (annotation,):
        is_annotated = get_origin(part) is Annotated
        found += filter(_is_parameter, get_args(part)[1:] if is_annotated else (part,))
        if is_annotated and _is_parameter(get_args(part)[0]):
            raise SpaceError(f"{where} has the range first. Write Annotated[type, range].")
        if _looks_like_a_range(part) and not _is_parameter(part):
            raise SpaceError(
                f"{where}, {part!r}, is neither a range nor a type. Write (1, 8) for the numbers "
                "between these, Integer(1, 8, step=2) for every second one, ['a', 'b'] for choices."
            )
    return found


def name_of(function: Callable[..., Any]) -> str:
    """Return a function's name in messages; a `functools.partial` has none but that of its type."""
    return getattr(function, "__qualname__", None) or type(function).__name__


def _as_written(function: Callable[..., Any]) -> Any:
    """Return the function whose source has the annotations."""
    while isinstance(function, functools.partial):
        function = function.func
    has_code = inspect.isroutine(function) or isinstance(function, type)
    return inspect.unwrap(function if has_code else type(function).__call__)


def _is_parameter(annotated: Any) -> bool:
    """Whether an object in an annotation means a search range; other tools have other objects."""
    if isinstance(annotated, type):
        return issubclass(annotated, Parameter)  # `Float` instead of `Float(0.0, 1.0)`: refused
    return isinstance(annotated, (Parameter, list)) or is_range(annotated)


def _looks_like_a_range(annotation: Any) -> bool:
    """Whether an annotation, which is no type, means the values that a parameter may have."""
    if isinstance(annotation, tuple):  # (int, float): types, as people wrote unions once
        return not all(isinstance(each, type) for each in annotation)
    return isinstance(annotation, (set, frozenset, range, dict))


def _is_value(annotation: str) -> bool:
    """Whether the text of an annotation is code that makes a value, as `(1, most)`; no type is."""
    try:
        code = ast.parse(annotation, mode="eval").body
    except SyntaxError:  # Words for readers.
        return False
    return isinstance(code, (ast.Call, ast.Tuple, ast.List, ast.Set, ast.Dict))


class Found(NamedTuple):
    """A parameter with a range, as a step has it.

    Attributes:
        step: The name of the step.
        name: The name of the parameter.
        parameter: The range, with the conditions of the choices that lead to the step.
        default: The default of the function; None, or `inspect.Parameter.empty`, if there is none.
    """

    step: str
    name: str
    parameter: Parameter
    default: Any = inspect.Parameter.empty


def space_of(found: Iterable[Found]) -> SearchSpace:
    """Build a space from parameters in the order of the steps.

    The function's default becomes the range's default.

    Raises:
        SpaceError: The same name has two different ranges, or a default is outside of its range.
    """
    return SearchSpace({each.name: _with_default(each) for each in _merged(found).values()})


def alternatives(choice: str, found: Mapping[str, Iterable[Found]]) -> Iterator[Found]:
    """Yield the parameters of alternatives, each under the condition that one of its own is chosen.

    Args:
        choice: The name of the parameter that chooses.
        found: The parameters of each alternative.

    Raises:
        SpaceError: The same name has two different ranges.
    """
    merged: dict[str, Found] = {}
    where: dict[str, set[str]] = {}
    for alternative, parameters in found.items():
        for name, each in _merged(parameters).items():
            if name in merged and merged[name].parameter != each.parameter:
                raise _different(merged[name], each)
            merged.setdefault(name, each)
            where.setdefault(name, set()).add(alternative)
    for name, each in merged.items():
        yield each._replace(parameter=each.parameter.when(**{choice: where[name]}))


def _merged(found: Iterable[Found]) -> dict[str, Found]:
    """Return one entry for each name. A parameter that one step always needs is always active."""
    merged: dict[str, Found] = {}
    for each in found:
        known = merged.setdefault(each.name, each)
        if known.parameter == each.parameter:
            continue
        if _always(known).parameter != _always(each).parameter or (
            known.parameter.conditions and each.parameter.conditions
        ):
            raise _different(known, each)
        merged[each.name] = _always(known)
    return merged


def _always(found: Found) -> Found:
    return found._replace(parameter=dataclasses.replace(found.parameter, conditions=()))  # type: ignore[type-var]


def _different(one: Found, other: Found) -> SpaceError:
    return SpaceError(
        f"The parameter {one.name!r} has two different ranges: {one.parameter!r} in step "
        f"{one.step!r} and {other.parameter!r} in step {other.step!r}. Make them equal, rename "
        f"one, or give one of the two a prefix, by its method prefixed('{other.step}_')."
    )


def _with_default(found: Found) -> Parameter:
    step, name, parameter, default = found
    if default is inspect.Parameter.empty or parameter.has_default:
        return parameter
    try:
        return parameter.with_default(parameter.canonical(default))
    except InvalidParametersError as error:
        if default is None:
            return parameter
        raise SpaceError(
            f"The default of {name!r} in step {step!r} is outside of its range: {error} Widen the "
            "range, or change the default."
        ) from None
