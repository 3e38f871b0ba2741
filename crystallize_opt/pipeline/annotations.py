"""Search spaces from the annotations of step functions' parameters."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterable
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from crystallize_opt.errors import InvalidParametersError, SpaceError
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.short_forms import is_range, parameter_from, why_ambiguous
from crystallize_opt.space.space import SearchSpace

_RANGE = re.compile(r"\b(Annotated|Float|Integer|Categorical|Ordinal|Constant)\b")


def annotated_parameter(function: Callable[..., Any], name: str) -> Parameter | None:
    """Return the search range in the annotation of one parameter of `function`, or None.

    The range is `Annotated[float, Float(0, 1)]` or, without the type, `Float(0, 1)`; it may have
    a short form.

    Args:
        function: A step function.
        name: The name of a parameter of the function.

    Raises:
        SpaceError: The annotation holds two ranges, or one that is not well defined, or is a string
            that mentions a range and cannot be evaluated.
    """
    annotation = inspect.signature(function).parameters[name].annotation
    if isinstance(annotation, str):  # `from __future__ import annotations`
        # Evaluate only this annotation; others may name types that only a type checker imports.
        written = inspect.unwrap(function)
        closure = inspect.getclosurevars(written).nonlocals
        try:
            annotation = eval(annotation, written.__globals__, closure)  # noqa: S307
        except Exception as error:
            if not _RANGE.search(annotation):
                return None
            raise SpaceError(
                f"The annotation of {name!r} in step {function.__qualname__!r} cannot be evaluated "
                f"({error}). With `from __future__ import annotations`, the names in it must be "
                "importable at module level."
            ) from error
    # The range may be on one side of a union: `Annotated[float, Float(0, 1)] | None`.
    union = get_origin(annotation) in (Union, UnionType)
    found = [
        extra
        for part in (get_args(annotation) if union else (annotation,))
        for extra in (get_args(part)[1:] if get_origin(part) is Annotated else (part,))
        if _is_parameter(extra)
    ]
    where = f"The annotation of {name!r} in step {function.__qualname__!r}"
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


def _is_parameter(annotated: Any) -> bool:
    """Whether an object in an annotation means a search range; other tools have other objects."""
    if isinstance(annotated, type):
        return issubclass(annotated, Parameter)  # `Float` instead of `Float(0.0, 1.0)`: refused
    return isinstance(annotated, (Parameter, list)) or is_range(annotated)


def merge_parameters(found: Iterable[tuple[str, str, Parameter, Any]]) -> SearchSpace:
    """Build a space from (step name, parameter name, range, function default) in step order.

    The function's default becomes the range's default. A default None means that there is none.

    Raises:
        SpaceError: The same name has two different ranges, or a default is outside of its range.
    """
    ranges: dict[str, tuple[str, Parameter]] = {}
    defaults: dict[str, Any] = {}
    for step, name, parameter, default in found:
        if name not in ranges:
            ranges[name] = (step, parameter)
            defaults[name] = default
        elif ranges[name][1] != parameter:
            raise SpaceError(
                f"The parameter {name!r} has two different ranges: {ranges[name][1]!r} in step "
                f"{ranges[name][0]!r} and {parameter!r} in step {step!r}. Rename one, or make "
                "them equal."
            )
    return SearchSpace(
        {
            name: _with_default(step, name, parameter, defaults[name])
            for name, (step, parameter) in ranges.items()
        }
    )


def _with_default(step: str, name: str, parameter: Parameter, default: Any) -> Parameter:
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
