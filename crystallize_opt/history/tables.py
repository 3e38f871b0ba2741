"""Trials as tables: DataFrames (extra `analysis`) and CSV files."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from crystallize_opt.errors import InvalidParametersError, UsageError
from crystallize_opt.history.csv_files import (
    ChoiceTexts,
    guarded,
    read_csv,
    refuse_duplicates,
    unguarded,
    write_csv,
)
from crystallize_opt.runtime.extras import needs
from crystallize_opt.space.choices import Constant
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.noise import shared_in
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status, as_status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.trials.values import as_number

if TYPE_CHECKING:
    import pandas as pd


def frame_of(
    history: Sequence[Observation], space: SearchSpace | None, required: Collection[str]
) -> pd.DataFrame:
    """Return a table with one row per trial: see `History.to_frame`.

    Args:
        history: The trials.
        space: The search space, if it is known.
        required: The metrics of objectives and constraints.
    """
    names, metrics, sems = _columns_of(history, space, required)
    columns: dict[str, Any] = {"trial": [o.treatment.name for o in history]}
    library = import_pandas()
    for name in names:
        values = [o.treatment.params.get(name) for o in history]
        exact = space is None or hasattr(space[name], "choices") or _would_be_rounded(values)
        columns[f"params.{name}"] = library.Series(values, dtype=object) if exact else values
    for metric in metrics:
        columns[f"metrics.{metric}"] = [o.metrics.get(metric) for o in history]
    for metric in sems:
        columns[f"sem.{metric}"] = [o.sem.get(metric) for o in history]
    if sems:
        columns[_SHARED_NOISE] = shared_in(history)
    columns["status"] = [str(o.status) for o in history]
    for name in ("error", "started_at", "duration"):
        columns[name] = [getattr(o, name) for o in history]
    columns |= _further_columns(history)
    frame: pd.DataFrame = library.DataFrame(columns)
    return frame


def _columns_of(
    history: Sequence[Observation], space: SearchSpace | None, required: Collection[str]
) -> tuple[list[str], list[str], list[str]]:
    """Return the parameters, the metrics, and the metrics with standard errors, in order."""
    names = list(space or dict.fromkeys(n for o in history for n in o.treatment.params))
    # Readers need the columns of the objectives and constraints, also if no trial has a value yet.
    recorded = (metric for o in history for metric in o)
    metrics = list(dict.fromkeys([*required, *recorded]))
    return names, metrics, [m for m in metrics if any(o.sem.get(m) is not None for o in history)]


def _further_columns(history: Sequence[Observation]) -> dict[str, list[Any]]:
    """Return the columns that tables have only if there is something to say in them."""
    columns: dict[str, list[Any]] = {}
    for name in ("repeats", "beaten_by"):
        if any(getattr(o, name) is not None for o in history):
            columns[name] = [getattr(o, name) for o in history]
    completed = [o for o in history if o.status is Status.COMPLETED and o.replicates]
    if len({len(o.replicates) for o in completed}) > 1:
        columns["replicates"] = [len(o.replicates) for o in history]
    if any(o.raced for o in history):
        columns["raced"] = [o.raced for o in history]
    if any(o.failed_replicates for o in completed):
        columns["failed_replicates"] = [len(o.failed_replicates) for o in history]
    return columns


def _would_be_rounded(values: Sequence[Any]) -> bool:
    """Whether pandas would round whole numbers, because it holds them and the gaps as floats."""
    return None in values and any(type(v) is int and abs(v) > _EXACT_IN_FLOATS for v in values)


_EXACT_IN_FLOATS = 2**53

_SHARED_NOISE = "shared_noise"
"""The column that says whether a trial's standard errors are of noise that other trials share."""


def write_trials(
    history: Sequence[Observation],
    space: SearchSpace | None,
    required: Collection[str],
    path: str | os.PathLike[str],
) -> None:
    """Write a CSV file with the columns of `frame_of`: see `History.to_csv`."""
    names, metrics, sems = _columns_of(history, space, required)
    texts = {name: _choice_texts(name, parameter) for name, parameter in (space or {}).items()}

    def param(name: str, params: Mapping[str, Any]) -> str:
        if name not in params:
            return ""
        choices = texts.get(name)
        if choices is None or space is None:
            return _cell(params[name])
        parameter: Any = space[name]
        return choices.write(parameter.index(params[name]))

    header = ["trial", *(f"params.{name}" for name in names)]
    header += [f"metrics.{metric}" for metric in metrics] + [f"sem.{metric}" for metric in sems]
    if sems:
        header.append(_SHARED_NOISE)
    further = _further_columns(history)
    header += ["status", "error", "started_at", "duration", *further]
    rows = [
        [
            guarded(o.treatment.name),
            *(param(name, o.treatment.params) for name in names),
            *(_cell(o.metrics.get(metric)) for metric in metrics),
            *(_cell(o.sem.get(metric)) for metric in sems),
            *([str(is_shared)] if sems else ()),
            str(o.status),
            *map(_cell, (o.error, o.started_at, o.duration)),
            *(_cell(column[row]) for column in further.values()),
        ]
        for row, (o, is_shared) in enumerate(zip(history, shared_in(history), strict=True))
    ]
    write_csv(path, header, rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, (int, float)) else guarded(str(value))


def _choice_texts(name: str, parameter: Parameter) -> ChoiceTexts | None:
    choices: Sequence[Any] | None = getattr(parameter, "choices", None)
    return None if choices is None else ChoiceTexts(name, choices)


def observations_in(
    table: Any, space: SearchSpace, required: Collection[str], *, learns_errors: bool = False
) -> list[Observation]:
    """Read a table in the format of `frame_of` or `write_trials`.

    An empty cell is an inactive parameter, one of the choices None, nan and "", or a metric that
    was not recorded. A cell that is no value of its parameter is returned unchanged, for `validate`
    to refuse. Without a column `status`, a trial has completed if it has all required metrics, else
    failed. Replicates and their seeds are in no table, so that standard errors count as those of
    noise that trials share, unless the column `shared_noise` says that they are a trial's own.

    Args:
        table: A DataFrame, or the path of a CSV file.
        space: The search space.
        required: Metrics that must have a column; columns `metrics.<name>` are read as well.
        learns_errors: Whether the reader would learn standard errors: it is then warned if the
            table does not say whose they are.

    Raises:
        UsageError: A parameter or a required metric has no column; two columns have one name; a row
            of a CSV file has another number of fields than its header; a cell may be two choices;
            or trials of a race have different numbers of replicates.
    """
    texts: Mapping[str, ChoiceTexts | None] = {}
    objects: set[Any] = set()
    rows: Sequence[Mapping[Any, Any]]
    if isinstance(table, (str, os.PathLike)):
        texts = {name: _choice_texts(name, parameter) for name, parameter in space.items()}
        columns, rows = read_csv(table)
    else:
        columns = list(table.columns)
        refuse_duplicates(columns)
        rows = table.to_dict("records")
        objects = {column for column in columns if table[column].dtype == object}
    params = {
        name: _column(columns, "params", name)
        for name, parameter in space.items()
        if not isinstance(parameter, Constant)
    }
    metrics = {name: _column(columns, "metrics", name) for name in required}
    for column in columns:
        if isinstance(column, str) and column.startswith("metrics."):
            metrics[column.removeprefix("metrics.")] = column
    observations = []
    raced: dict[str, str] = {}  # The number of replicates, and the first trial that has so many.
    for number, row in enumerate(rows):
        given = {name: _Cell(row[c], c in objects, texts.get(name)) for name, c in params.items()}
        point = _point(space, given)
        cells = {name: None if _is_empty(value) else value for name, value in row.items()}
        name = cells.get("trial")
        treatment = Treatment(f"row_{number}" if name is None else _text(name), point)
        observation = _observation(treatment, cells, metrics, required)
        observations.append(observation)
        if observation.raced and observation.status is Status.COMPLETED:
            raced.setdefault(str(cells.get("replicates")), treatment.name)
    if len(raced) > 1:
        raise UsageError(
            "The best trial of a race is one with the most replicates, and a table has no "
            "replicates. In this one they differ: "
            f"{', '.join(f'{name!r} has {count}' for count, name in raced.items())}. Attach the "
            "History itself; or delete the rows of trials with fewer, or, to compare all means, "
            "the column 'raced'."
        )
    if learns_errors and _SHARED_NOISE not in columns and any(o.shared_noise for o in observations):
        warnings.warn(
            "The table has standard errors, but does not say whether the trials had seeds of their "
            "own. The errors are kept, but not told to the optimizer. If each trial had its own "
            f"seeds, add a column {_SHARED_NOISE!r} with False in each row.",
            UserWarning,
            stacklevel=3,
        )
    return observations


class _Cell(NamedTuple):
    """A parameter's cell of a table.

    Attributes:
        value: The content: a text in a CSV file.
        is_object: Whether the column holds any objects, so that None and nan differ.
        texts: In a CSV file, the texts of the parameter's choices.
    """

    value: Any
    is_object: bool
    texts: ChoiceTexts | None


def _text(value: Any) -> str:
    return unguarded(value) if isinstance(value, str) else str(value)


def _column(columns: Sequence[Any], kind: str, name: str) -> str:
    for column in (f"{kind}.{name}", name):
        if column in columns:
            return column
    raise UsageError(
        f"The table has no column '{kind}.{name}' or {name!r}. Its columns: "
        f"{', '.join(map(repr, columns))}."
    )


def _is_empty(value: Any) -> bool:
    if value is None or (isinstance(value, str) and not value):
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return type(value).__name__ in ("NAType", "NaTType")


def _point(space: SearchSpace, cells: Mapping[str, _Cell]) -> dict[str, Any]:
    point: dict[str, Any] = {}
    for name, parameter in space.items():
        if isinstance(parameter, Constant):
            if _is_active(space, name, point):
                point[name] = parameter.value
            continue
        cell = cells[name]
        if not _is_empty(cell.value):
            point[name] = _value(name, parameter, cell)
        elif _is_active(space, name, point):
            found = _empty_choice(name, parameter, cell)
            if found is not _NOTHING:
                point[name] = found
    return point


_NOTHING = object()


def _empty_choice(name: str, parameter: Parameter, cell: _Cell) -> Any:
    """Return the choice that an empty cell stands for, or `_NOTHING`."""
    if cell.texts is not None:
        found = cell.texts.read("")
        return found if _holds(parameter, found) else _NOTHING
    if isinstance(cell.value, str):
        return "" if _holds(parameter, "") else _NOTHING
    held = [choice for choice in (None, math.nan) if _holds(parameter, choice)]
    if len(held) < 2:
        return held[0] if held else _NOTHING
    if cell.value is None or (cell.is_object and isinstance(cell.value, float)):
        return None if cell.value is None else math.nan
    raise UsageError(
        f"In this table the choices None and nan of {name!r} look the same. Give the column the "
        "type object, as History.to_frame does, or give a History."
    )


def _is_active(space: SearchSpace, name: str, point: Mapping[str, Any]) -> bool:
    try:
        return space.is_active(name, point)
    except InvalidParametersError:  # A parent is out of range; `validate` will refuse it.
        return False


def _value(name: str, parameter: Parameter, cell: _Cell) -> Any:
    """Return the parameter's value for a cell, or the cell if it is no value of the parameter."""
    content = cell.value
    candidates: list[Any] = [content]
    if isinstance(content, str):
        if cell.texts is not None:
            candidates.insert(0, cell.texts.read(content))
        for kind in (int, float):
            try:
                candidates.append(kind(content))
            except ValueError:
                continue
    elif isinstance(content, float) and content.is_integer():
        candidates.append(int(content))  # pandas turns an int column with gaps into floats
    if isinstance(parameter, Float) and isinstance(candidates[-1], float):
        candidates.append(_within(parameter, candidates[-1]))
    for candidate in candidates:
        if _holds(parameter, candidate):
            if isinstance(parameter, Integer) and isinstance(candidate, float):
                _refuse_rounded(name, candidate)
            return parameter.canonical(candidate)
    return content


def _refuse_rounded(name: str, value: float) -> None:
    if abs(value) > _EXACT_IN_FLOATS:
        raise UsageError(
            f"The column of {name!r} holds floats, which do not hold every whole number as large "
            f"as {value!r}. Give it the type Int64 or object, as History.to_frame does."
        )


def _within(parameter: Float, number: float) -> float:
    """Move a number into a range that it leaves by a rounding: tables may have fewer digits."""
    nearest = min(max(number, parameter.low), parameter.high)
    size = nearest if parameter.log else parameter.high - parameter.low
    return nearest if abs(number - nearest) <= 1e-6 * size else number


def _holds(parameter: Parameter, value: Any) -> bool:
    try:
        parameter.canonical(value)
    except InvalidParametersError:
        return False
    return True


def _observation(
    treatment: Treatment,
    cells: Mapping[Hashable, Any],
    columns: Mapping[str, str],
    required: Collection[str],
) -> Observation:
    metrics = {}
    for metric, column in columns.items():
        number = _number(cells[column])
        if number is not None:
            metrics[metric] = number
    status = Status.COMPLETED
    if cells.get("status") is not None:
        status = as_status(str(cells["status"]))
    elif any(metric not in metrics for metric in required):
        status = Status.FAILED
    error, repeats, beaten_by = (cells.get(name) for name in ("error", "repeats", "beaten_by"))
    sem = {metric: _number(cells.get(f"sem.{metric}")) for metric in metrics}
    has_errors = any(value is not None for value in sem.values())
    return Observation(
        treatment,
        metrics,
        status,
        sem,
        error=None if error is None else _text(error),
        started_at=_number(cells.get("started_at")),
        duration=_number(cells.get("duration")),
        repeats=None if repeats is None else _text(repeats),
        beaten_by=None if beaten_by is None else _text(beaten_by),
        # Where nobody knows, noise is shared: a model that takes shared noise for a trial's own
        # searches worse.
        shared_noise=has_errors and _truth(cells, _SHARED_NOISE, default=True),
        raced=_truth(cells, "raced", default=False),
    )


def _truth(cells: Mapping[Hashable, Any], column: str, *, default: bool) -> bool:
    cell = cells.get(column)
    if cell is None:
        return default
    shown = str(cell).lower()
    if shown not in ("true", "false"):
        raise UsageError(f"The column {column!r} holds True and False, not {cell!r}.")
    return shown == "true"


def _number(cell: Any) -> float | None:
    if isinstance(cell, str):
        try:
            return float(cell)
        except ValueError as error:
            raise UsageError(f"{cell!r} in the table is not a number.") from error
    return None if cell is None else as_number(cell)


def import_pandas() -> Any:
    """Return the module `pandas`, or say how to install it."""
    with needs("Tables need", "pandas", extra="analysis"):
        import pandas as pd
    return pd
