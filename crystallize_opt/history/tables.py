"""Trials as tables: write DataFrames, read DataFrames and CSV files (extra `analysis`)."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import InvalidParametersError, UsageError
from crystallize_opt.runtime.extras import needs
from crystallize_opt.space.choices import Constant
from crystallize_opt.space.numbers import Float
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.observation import Observation, Status, as_number
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    import pandas as pd


def frame_of(history: Sequence[Observation], space: SearchSpace | None) -> pd.DataFrame:
    """Return a table with one row per trial: see `History.to_frame`."""
    metrics = list(dict.fromkeys(metric for o in history for metric in o))
    sems = [m for m in metrics if any(o.sem.get(m) is not None for o in history)]
    names = list(space or dict.fromkeys(n for o in history for n in o.treatment.params))
    columns: dict[str, Any] = {"trial": [o.treatment.name for o in history]}
    library = _pandas()
    for name in names:
        values = [o.treatment.params.get(name) for o in history]
        exact = space is None or hasattr(space[name], "choices")  # keep 1 from becoming 1.0
        columns[f"params.{name}"] = library.Series(values, dtype=object) if exact else values
    for metric in metrics:
        columns[f"metrics.{metric}"] = [o.metrics.get(metric) for o in history]
    for metric in sems:
        columns[f"sem.{metric}"] = [o.sem.get(metric) for o in history]
    columns["status"] = [str(o.status) for o in history]
    for name in ("error", "started_at", "duration"):
        columns[name] = [getattr(o, name) for o in history]
    frame: pd.DataFrame = library.DataFrame(columns)
    return frame


def observations_in(table: Any, space: SearchSpace, required: Collection[str]) -> list[Observation]:
    """Read a table in the format of `frame_of`.

    An empty cell is an inactive parameter (or the choice None), or a metric that was not recorded.
    A cell that is no value of its parameter is returned unchanged, for `validate` to refuse.
    Without a column `status`, a trial has completed if it has all required metrics, else failed.

    Args:
        table: A DataFrame, or the path of a CSV file.
        space: The search space.
        required: Metrics that must have a column; columns `metrics.<name>` are read as well.

    Raises:
        UsageError: A parameter or a required metric has no column, or two choices of a parameter
            look the same in a CSV file.
    """
    if isinstance(table, (str, os.PathLike)):
        # Read text, because only the parameter knows whether "1" is a number or a choice.
        _refuse_equal_texts(space)
        table = _pandas().read_csv(table, dtype=str, keep_default_na=False, na_values=[""])
    params = {
        name: _column(table, "params", name)
        for name, parameter in space.items()
        if not isinstance(parameter, Constant)
    }
    metrics = {name: _column(table, "metrics", name) for name in required}
    for column in table.columns:
        if isinstance(column, str) and column.startswith("metrics."):
            metrics[column.removeprefix("metrics.")] = column
    observations = []
    for number, row in enumerate(table.to_dict("records")):
        cells = {name: None if _is_empty(value) else value for name, value in row.items()}
        point = _point(space, {name: cells[column] for name, column in params.items()})
        name = cells.get("trial")
        treatment = Treatment(f"row_{number}" if name is None else str(name), point)
        observations.append(_observation(treatment, cells, metrics, required))
    return observations


def _refuse_equal_texts(space: SearchSpace) -> None:
    for name, parameter in space.items():
        texts: dict[str, Any] = {}
        for choice in getattr(parameter, "choices", ()):
            other = texts.setdefault("" if choice is None else str(choice), choice)
            if other is not choice:
                raise UsageError(
                    f"In a CSV file the choices {other!r} and {choice!r} of {name!r} look the "
                    "same. Give a DataFrame, or a History."
                )


def _column(table: Any, kind: str, name: str) -> str:
    for column in (f"{kind}.{name}", name):
        if column in table.columns:
            return column
    raise UsageError(
        f"The table has no column '{kind}.{name}' or {name!r}. Its columns: "
        f"{', '.join(map(repr, table.columns))}."
    )


def _is_empty(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return type(value).__name__ in ("NAType", "NaTType")


def _point(space: SearchSpace, cells: Mapping[str, Any]) -> dict[str, Any]:
    point: dict[str, Any] = {}
    for name, parameter in space.items():
        cell = cells.get(name)
        if isinstance(parameter, Constant):
            if _is_active(space, name, point):
                point[name] = parameter.value
        elif cell is not None:
            point[name] = _value(parameter, cell)
        elif _holds(parameter, None) and _is_active(space, name, point):
            point[name] = None
    return point


def _is_active(space: SearchSpace, name: str, point: Mapping[str, Any]) -> bool:
    try:
        return space.is_active(name, point)
    except InvalidParametersError:  # A parent is out of range; `validate` will refuse it.
        return False


def _value(parameter: Parameter, cell: Any) -> Any:
    """Return the parameter's value for a cell, or the cell if it is no value of the parameter."""
    candidates: list[Any] = [cell]
    if isinstance(cell, str):
        choices: list[Any] = list(getattr(parameter, "choices", ()))
        candidates += [choice for choice in choices if str(choice) == cell]
        for kind in (int, float):
            try:
                candidates.append(kind(cell))
            except ValueError:
                continue
    elif isinstance(cell, float) and cell.is_integer():
        candidates.append(int(cell))  # pandas turns an int column with gaps into floats
    if isinstance(parameter, Float) and isinstance(candidates[-1], float):
        candidates.append(_within(parameter, candidates[-1]))
    return next((parameter.canonical(c) for c in candidates if _holds(parameter, c)), cell)


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
        status = _status(str(cells["status"]))
    elif any(metric not in metrics for metric in required):
        status = Status.FAILED
    error = cells.get("error")
    return Observation(
        treatment,
        metrics,
        status,
        {metric: _number(cells.get(f"sem.{metric}")) for metric in metrics},
        error=None if error is None else str(error),
        started_at=_number(cells.get("started_at")),
        duration=_number(cells.get("duration")),
    )


def _status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError:
        raise UsageError(
            f"{text!r} in the table is not a status. Statuses are: {', '.join(map(str, Status))}."
        ) from None


def _number(cell: Any) -> float | None:
    if isinstance(cell, str):
        try:
            return float(cell)
        except ValueError as error:
            raise UsageError(f"{cell!r} in the table is not a number.") from error
    return None if cell is None else as_number(cell)


def _pandas() -> Any:
    with needs("Tables need", "pandas", extra="analysis"):
        import pandas as pd
    return pd
