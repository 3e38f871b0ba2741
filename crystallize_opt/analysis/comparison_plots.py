"""The pictures of a comparison, readable also in black and white."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

from crystallize_opt.analysis.curves import Curve
from crystallize_opt.history.figure import Picture, count_trials, finished, panels
from crystallize_opt.runtime.extras import needs

_LINES = ("-", "--", "-.", ":")
_MARKERS = "os^Dv*PX"


def plot_curves(
    curves: Mapping[str, Mapping[str, Mapping[str, Curve]]], labels: Mapping[str, str], title: str
) -> Picture:
    """Draw one row for each experiment: curves over trials, and over seconds.

    Args:
        curves: For each experiment, over "trials" and "seconds", the curve of each optimizer.
        labels: For each experiment, what the vertical axis shows.
        title: The title of the picture.
    """
    rows = len(curves)
    figure, axes = panels(rows, 2, width=10.0)
    for row, (experiment, both) in zip(axes, curves.items(), strict=True):
        for ax, (over, own) in zip(row, both.items(), strict=True):
            for (name, curve), line, marker in zip(
                own.items(), cycle(_LINES), cycle(_MARKERS), strict=False
            ):
                (drawn,) = ax.plot(
                    curve.places,
                    curve.mean,
                    line,
                    marker=marker,
                    markevery=max(1, len(curve.places) // 8),
                    markersize=4,
                    label=name,
                )
                if curve.low:
                    color = drawn.get_color()
                    ax.fill_between(curve.places, curve.low, curve.high, color=color, alpha=0.15)
            if over == "trials":
                count_trials(ax, "trials")
            else:
                ax.set_xlabel("seconds, with the asks")
            ax.set_ylabel(labels[experiment])
            if rows > 1:
                ax.set_title(experiment)
        row[0].legend()
    figure.suptitle(title, fontsize="medium", wrap=True)
    return finished(figure)


def plot_ranks(
    ranks: Mapping[str, float], p_values: Mapping[tuple[str, str], float], alpha: float
) -> Picture:
    """Draw a critical-difference diagram.

    Args:
        ranks: The mean rank of each optimizer.
        p_values: The p-value of each pair.
        alpha: The largest p-value that shows a difference.
    """
    with needs("A critical-difference diagram needs", "scikit_posthocs", extra="analysis"):
        import pandas as pd
        import scikit_posthocs
    table = pd.DataFrame(1.0, index=list(ranks), columns=list(ranks))
    for (one, other), p_value in p_values.items():
        table.loc[one, other] = table.loc[other, one] = p_value
    figure, ((ax,),) = panels(1, width=7.0, height=1.0 + 0.35 * len(ranks))
    scikit_posthocs.critical_difference_diagram(ranks, table, ax=ax, alpha=alpha)
    title = "Mean rank (1 is the best); a bar joins what shows no difference"
    figure.suptitle(title, fontsize="medium")
    return finished(figure)
