"""Figures that need neither pyplot nor a window system, and that notebooks show."""

from __future__ import annotations

import io
from typing import Any

from crystallize_opt.runtime.extras import needs

with needs("Pictures need", "matplotlib", "numpy", extra="analysis"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.ticker import MaxNLocator


class Picture(Figure):
    """A matplotlib figure: save it with `savefig`, change it by its axes; a notebook shows it.

    pyplot would keep every figure in memory, and choose a window system.
    """

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()


def panels(
    rows: int, columns: int = 1, *, width: float = 8.0, height: float = 3.2, **shared: Any
) -> tuple[Picture, list[list[Axes]]]:
    """Return a picture with a grid of axes.

    Args:
        rows: The number of rows.
        columns: The number of columns.
        width: The width of the picture, in inches.
        height: The height of a row, in inches.
        **shared: `sharex` and `sharey`, as for `Figure.subplots`.
    """
    picture = Picture(figsize=(width, 0.4 + height * rows), layout="constrained")
    grid = picture.subplots(rows, columns, squeeze=False, **shared)
    return picture, [list(row) for row in grid]


def count_trials(ax: Axes, label: str) -> None:
    """Let the horizontal axis count trials: whole numbers only."""
    ax.set_xlabel(label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def finished(picture: Picture) -> Picture:
    """Return a picture that was drawn, in which a name with two `$` is no formula."""
    for ax in picture.axes:
        # matplotlib writes the powers of 10 on a logarithmic axis as formulas.
        log = [axis for axis in (ax.xaxis, ax.yaxis) if axis.get_scale() == "log"]
        formulas = {text for axis in log for text in axis.findobj(Text) if text is not axis.label}
        for text in {*ax.findobj(Text)} - formulas:
            text.set_parse_math(False)
    return picture
