"""The learning curves of trials as a table (extra `analysis`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from crystallize_opt.history.tables import import_pandas
from crystallize_opt.trials.observation import Observation

if TYPE_CHECKING:
    import pandas as pd


def frame_of_curves(observations: Iterable[Observation]) -> pd.DataFrame:
    """Return a table with one row per point: see `History.curves`."""
    rows = [
        (observation.treatment.name, replicate.index, metric, step, value)
        for observation in observations
        for replicate in observation.replicates
        for metric, curve in replicate.curves.items()
        for step, value in curve
    ]
    names = ("trial", "replicate", "metric", "step", "value")
    kinds = ("object", "int64", "object", "int64", "float64")
    columns = list(zip(*rows, strict=True)) or [() for _ in names]
    library = import_pandas()
    frame: pd.DataFrame = library.DataFrame(
        {
            name: library.Series(list(column), dtype=kind)
            for name, column, kind in zip(names, columns, kinds, strict=True)
        }
    )
    return frame
