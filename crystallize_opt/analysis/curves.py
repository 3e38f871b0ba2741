"""Mean curves over seeds, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from crystallize_opt.analysis.cells import Cell
from crystallize_opt.errors import UsageError
from crystallize_opt.runtime.extras import needs

_POINTS = 200
"""How many places a curve over seconds has."""

_RESAMPLES = 2000


@dataclass(frozen=True)
class Curve:
    """A mean curve over seeds.

    Attributes:
        places: Numbers of trials, or seconds.
        mean: The mean best value so far at each place.
        low: The lower end of its interval.
        high: The upper end.
    """

    places: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def at(
    places: Sequence[float], ends: Sequence[float], values: Sequence[float | None]
) -> list[float | None]:
    """Return the last value at each place: None before the first."""
    found: list[float | None] = []
    index, value = 0, None
    for place in places:
        while index < len(ends) and ends[index] <= place:
            value = values[index]
            index += 1
        found.append(value)
    return found


def interval(table: Sequence[Sequence[Any]], alpha: float) -> tuple[list[float], list[float]]:
    """Return the bootstrap interval of the mean of each column; nothing for fewer than two rows."""
    if len(table) < 2:
        return [], []
    with needs("Intervals need", "scipy", "numpy", extra="analysis"):
        import numpy as np
        from scipy import stats
    found = stats.bootstrap(
        (np.asarray(table, dtype=float),),
        np.mean,
        axis=0,
        confidence_level=1 - alpha,
        method="percentile",
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(0),  # The same data give the same interval.
    ).confidence_interval
    return [float(each) for each in found.low], [float(each) for each in found.high]


def mean_curve(cells: Sequence[Cell], num_trials: int, over: str, alpha: float) -> Curve:
    """Return the mean best value so far of searches that have one: see `Comparison.curve`.

    Raises:
        UsageError: `over` is neither "trials" nor "seconds".
    """
    if over == "trials":
        places: list[float] = [float(n) for n in range(1, num_trials + 1)]
        ends = [[float(n) for n in range(1, len(cell.best) + 1)] for cell in cells]
    elif over == "seconds":
        ends = [list(cell.seconds) for cell in cells]
        longest = max((each[-1] for each in ends), default=0.0)
        places = [longest * step / _POINTS for step in range(1, _POINTS + 1)]
    else:
        raise UsageError(f"over= is 'trials' or 'seconds', not {over!r}.")
    values = [at(places, own, cell.best) for own, cell in zip(ends, cells, strict=True)]
    columns = list(zip(*values, strict=True))
    known = [i for i, column in enumerate(columns) if None not in column]
    table = [[own[i] for i in known] for own in values]
    mean = [fmean(column) for column in zip(*table, strict=True)]
    low, high = interval(table, alpha) if known else ([], [])
    return Curve([places[i] for i in known], mean, low, high)
