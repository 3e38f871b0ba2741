"""Descriptions of stored runs (space, optimizer, experiment) as plain data, and their changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from crystallize_opt.errors import SpaceError, StorageError
from crystallize_opt.plain_data import as_description
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.fitting import Goals
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.objective import Constraint, Objective


def describe_space(space: SearchSpace) -> Any:
    """Return a space as plain data; choices that are not plain data become descriptions."""
    return space.to_dict(other=as_description)


def describe_goals(space: SearchSpace | None, criterion: Criterion) -> dict[str, Any]:
    """Describe a space, and what makes a trial the best in it."""

    def without_nones(*options: Any) -> list[Any]:
        """Leave out trailing options that were not given, as in runs that knew none of them."""
        given = list(options)
        while given and given[-1] is None:
            given.pop()
        return given

    return {
        "space": None if space is None else describe_space(space),
        "objectives": [
            [each.metric, each.direction, *without_nones(each.reduce, each.threshold)]
            for each in criterion.objectives
        ],
        "constraints": [
            [
                *(each.metric, each.comparison, each.bound),
                *without_nones(each.reduce, each.relative_to_baseline or None),
            ]
            for each in criterion.constraints
        ],
    }


def space_of(data: Any) -> SearchSpace:
    """Return the described space, with a `StoredObject` for each value that was only described.

    Raises:
        StorageError: Two choices have the same description.
    """
    try:
        return SearchSpace.from_dict(data)
    except SpaceError as error:
        raise StorageError(
            f"The space of this run cannot be read: {error} (If it has two objects that cannot be "
            "told apart by their descriptions, give the space itself: space=...)"
        ) from error


def objectives_of(description: Mapping[str, Any]) -> tuple[Objective, ...]:
    """Return the objectives in a description."""
    return tuple(
        Objective(metric, direction, reduce=reduce, threshold=threshold)
        for each in description["objectives"]
        for metric, direction, reduce, threshold in [(*each, None, None)[:4]]
    )


def constraints_of(description: Mapping[str, Any]) -> tuple[Constraint, ...]:
    """Return the outcome constraints in a description."""
    return tuple(
        Constraint(metric, comparison, bound, reduce=reduce, relative_to_baseline=bool(relative))
        for each in description["constraints"]
        for metric, comparison, bound, reduce, relative in [(*each, None, None)[:5]]
    )


def goals_of(description: Mapping[str, Any], space: SearchSpace | None) -> Goals:
    """Return the goals in a description, whose space is given."""
    criterion = Criterion(objectives_of(description), constraints_of(description))
    return Goals(space, criterion.reductions)


def changes(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Return the differences between two descriptions, in words, each by its path."""
    found = {}
    for path, old, new in _differences("", recorded, now):
        if path.endswith((".(source)", ".(bytecode)")):
            found[path] = f"{path.rpartition('.')[0]}: its code has changed"
        else:
            found[path] = f"{path}: {_shown(old)} became {_shown(new)}"
    return found


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


_ABSENT = _Absent()


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if path == "space" and isinstance(old, dict) and isinstance(new, dict):
        # Compare parameters by name and as a whole, because a single field says little.
        old, new = _by_name(old), _by_name(new)
        yield from _differences("space of", old["parameters"], new["parameters"])
        if old["constraints"] != new["constraints"]:
            yield "linear constraints", old["constraints"], new["constraints"]
        if [*old["parameters"]] != [*new["parameters"]]:
            yield "order of the parameters", [*old["parameters"]], [*new["parameters"]]
    elif isinstance(old, dict) and isinstance(new, dict) and not path.startswith("space of "):
        for key in old | new:
            where = f"{path} {key}" if path == "space of" else f"{path}.{key}".lstrip(".")
            yield from _differences(where, old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{number}]", one, other)
    elif type(old) is not type(new) or old != new:
        yield path, old, new


def _by_name(space: Mapping[str, Any]) -> dict[str, Any]:
    return {**space, "parameters": {each["name"]: each for each in space["parameters"]}}


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "type" in value and "name" in value:
        hidden = ("type", "name")
        fields = (f"{k}={v!r}" for k, v in value.items() if k not in hidden and v not in ([], None))
        return f"{value['type']}({', '.join(fields)})"
    shown = repr(value)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"


_LONGEST = 300  # Characters of a value in a message.
