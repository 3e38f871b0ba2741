"""Search spaces from the `Annotated[...]` types of step functions' parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from crystallize_opt.errors import InvalidParametersError, SpaceError
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace


def annotated_parameter(function: Callable[..., Any], name: str) -> Parameter | None:
    """Return the search range in the annotation of one parameter of `function`, or None.

    Args:
        function: A step function.
        name: The name of a parameter of the function.

    Raises:
        SpaceError: The annotation holds two ranges, or is a string that mentions `Annotated` and
            cannot be evaluated.
    """
    annotation = inspect.signature(function).parameters[name].annotation
    if isinstance(annotation, str):  # `from __future__ import annotations`
        # Evaluate only this annotation; others may name types that only a type checker imports.
        written = inspect.unwrap(function)
        closure = inspect.getclosurevars(written).nonlocals
        try:
            annotation = eval(annotation, written.__globals__, closure)  # noqa: S307
        except Exception as error:
            if "Annotated" not in annotation:
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
        if get_origin(part) is Annotated
        for extra in get_args(part)[1:]
        if isinstance(extra, Parameter)
    ]
    if len(found) > 1:
        raise SpaceError(
            f"The annotation of {name!r} in step {function.__qualname__!r} holds {len(found)} "
            "ranges; give one."
        )
    return found[0] if found else None


def merge_parameters(found: Iterable[tuple[str, str, Parameter, Any]]) -> SearchSpace:
    """Build a space from (step name, parameter name, range, function default) in step order.

    The function's default becomes the range's default if it lies in the range. A default outside
    the range is a valid baseline (no dropout at all, say), which a search never suggests.

    Raises:
        SpaceError: The same name has two different ranges.
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
        {name: _with_default(rng, defaults[name]) for name, (_, rng) in ranges.items()}
    )


def _with_default(parameter: Parameter, default: Any) -> Parameter:
    if default is inspect.Parameter.empty or parameter.has_default:
        return parameter
    try:
        return parameter.with_default(default)
    except InvalidParametersError:
        return parameter
