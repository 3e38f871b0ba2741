"""The pictures of a run of any optimizer, readable also in black and white."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import UsageError
from crystallize_opt.history.figure import Picture, count_trials, finished, panels
from crystallize_opt.history.trace import PRUNED, TRIAL, VIOLATES, Cut, cut_off, drawable, traces
from crystallize_opt.runtime.extras import needs
from crystallize_opt.runtime.shown import cut
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.best import Criterion, has_completed
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Trials = Sequence[Observation]

_DOT: dict[str, Any] = {"linestyle": "none", "markersize": 4}
_BEST: dict[str, Any] = {"marker": "*", "markersize": 13, "color": "black", "linestyle": "none"}
_COLUMNS = 3
_NAME = 30
"""How many characters of a name are drawn."""
_MOST = 200
"""From how many trials importances are computed: fANOVA's time grows with their number."""


def _label(objective: Objective) -> str:
    return f"{cut(objective.metric, _NAME)} ({objective.direction})"


def _limit(ax: Axes, cut: Cut | None, sign: int) -> None:
    """Cut off the worst values where they would squeeze all others, and say how many."""
    if cut is None:
        return
    ax.set_ylim(cut.low, cut.high)
    ax.annotate(
        f"{cut.beyond} trials {'above' if sign > 0 else 'below'}",
        (0.01, 0.98 if sign > 0 else 0.02),
        xycoords="axes fraction",
        va="top" if sign > 0 else "bottom",
        fontsize="small",
    )


def plot_best(trials: Trials, criterion: Criterion, baseline: Observation | None) -> Picture:
    """Draw the values of all trials, and the best one so far: one row for each objective."""
    picture, rows = panels(len(criterion.objectives), sharex=True)
    markers = {TRIAL: "o", VIOLATES: "x", PRUNED: "v"}
    for (ax,), trace in zip(rows, traces(trials, criterion, baseline), strict=True):
        for name, points in trace.points.items():
            if points:
                columns = zip(*points, strict=True)
                ax.plot(*columns, marker=markers[name], label=name, color="0.5", **_DOT)
        numbers = range(1, trace.count + 1)
        ax.plot(numbers, trace.best, drawstyle="steps-post", color="C0", label="best so far")
        if trace.baseline is not None:
            ax.axhline(trace.baseline, color="black", linestyle=":", label="baseline")
        if trace.failed:
            ax.plot(
                trace.failed,
                [0.02] * len(trace.failed),
                "|",
                color="C3",
                markersize=12,
                markeredgewidth=2,
                transform=ax.get_xaxis_transform(),
                label=f"{len(trace.failed)} failed",
            )
        _limit(ax, trace.cut, trace.objective.sign)
        ax.set_ylabel(_label(trace.objective))
        ax.legend(fontsize="small")
    count_trials(rows[-1][0], "trial")
    return finished(picture)


def _measured(trials: Trials, metric: str) -> list[Observation]:
    found = [each for each in trials if has_completed(each) and metric in each.metrics]
    if not found:
        raise UsageError(
            f"No trial completed with the metric {metric!r}: there is nothing to draw."
        )
    return found


def _parameters(trials: Trials, space: SearchSpace | None) -> list[str]:
    names = list(space or dict.fromkeys(name for each in trials for name in each.params))
    if not names:
        raise UsageError("No trial has parameters: there is nothing to draw.")
    return names


def _positions(
    parameter: Parameter | None, values: Sequence[Any]
) -> tuple[list[float], list[str] | None, bool]:
    """Return where values lie on an axis, the names of its places, and whether it is a log one."""
    if isinstance(parameter, (Float, Integer)):
        return [float(value) for value in values], None, parameter.log
    if parameter is None and all(type(value) in (int, float) for value in values):
        return [float(value) for value in values], None, False
    choices = list(parameter.values()) if parameter is not None else []
    keys = [repr(each) for each in choices] or sorted({repr(value) for value in values})
    return [float(keys.index(repr(value))) for value in values], keys, False


def plot_slices(
    trials: Trials, space: SearchSpace | None, objective: Objective, best: Observation | None
) -> Picture:
    """Draw the objective over each parameter; later trials are darker."""
    found = _measured(trials, objective.metric)
    names = _parameters(found, space)
    rows = -(-len(names) // _COLUMNS)
    picture, grid = panels(rows, min(_COLUMNS, len(names)), width=10.0, height=2.8, sharey=True)
    axes = [ax for row in grid for ax in row]
    for name, ax in zip(names, axes, strict=False):
        own = [(index, each) for index, each in enumerate(found) if name in each.params]
        parameter = None if space is None else space[name]
        places, keys, log = _positions(parameter, [each.params[name] for _, each in own])
        shades = [index for index, _ in own]
        values = [drawable(each[objective.metric]) for _, each in own]
        ax.scatter(
            places, values, c=shades, cmap="Greys", vmin=-len(found) / 3, s=16, ec="0.4", lw=0.3
        )
        for place, value, (_, each) in zip(places, values, own, strict=True):
            if each is best:
                ax.plot([place], [value], label="best", **_BEST)
                ax.legend(fontsize="small")
        if log:
            ax.set_xscale("log")
        if keys is not None:
            ax.set_xticks(range(len(keys)), [cut(key, 15) for key in keys], rotation=20)
            ax.set_xlim(-0.5, len(keys) - 0.5)
        ax.set_xlabel(cut(name, _NAME))
    for row in grid:
        row[0].set_ylabel(_label(objective))
    values = [drawable(each[objective.metric]) for each in found]
    _limit(axes[0], cut_off(values, objective.sign), objective.sign)
    for ax in axes[len(names) :]:
        ax.remove()
    return finished(picture)


def plot_parallel(trials: Trials, space: SearchSpace | None, objective: Objective) -> Picture:
    """Draw each trial as a line over all parameters; the best quarter is dark."""
    found = _measured(trials, objective.metric)
    names = _parameters(found, space)
    picture, ((ax,),) = panels(1, width=max(8.0, 1.3 * len(names)), height=3.6)
    order = sorted(found, key=lambda each: objective.sign * each[objective.metric])
    good = {id(each) for each in order[: max(1, len(order) // 4)]}
    scaled: dict[str, dict[int, float]] = {}
    for column, name in enumerate(names):
        own = [each for each in found if name in each.params]
        parameter = None if space is None else space[name]
        places, keys, log = _positions(parameter, [each.params[name] for each in own])
        if isinstance(parameter, (Float, Integer)):
            low, high = float(parameter.low), float(parameter.high)
        else:
            low, high = (0.0, float(len(keys) - 1)) if keys else (min(places), max(places))
        ends = [f"{low:.4g}", f"{high:.4g}"]
        if log:
            low, high, places = math.log(low), math.log(high), [math.log(each) for each in places]
        span = (high - low) or 1.0
        scaled[name] = {
            id(each): (place - low) / span for each, place in zip(own, places, strict=True)
        }
        shown = [
            (i / max(1, len(keys or ()) - 1), cut(key, 12)) for i, key in enumerate(keys or ())
        ]
        for height, text in shown or list(zip((0.0, 1.0), ends, strict=True)):
            ax.annotate(text, (column + 0.03, height), fontsize="x-small", va="center")
        ax.axvline(column, color="0.7", linewidth=0.8)
    for each in reversed(order):
        heights = [scaled[name].get(id(each), math.nan) for name in names]
        color, alpha = ("C0", 0.8) if id(each) in good else ("0.75", 0.5)
        ax.plot(range(len(names)), heights, lw=1.0, marker=".", color=color, alpha=alpha)
    labels = [cut(name, _NAME) for name in names]
    ax.set_xticks(range(len(names)), labels, rotation=15, ha="right", rotation_mode="anchor")
    ax.set_yticks([])
    ax.set_title(f"The best quarter by {_label(objective)} is dark", fontsize="medium")
    return finished(picture)


def importances(
    trials: Trials, space: SearchSpace | None, objective: Objective
) -> dict[str, float]:
    """Return the share of each parameter in the variance of an objective, the largest first.

    Raises:
        UsageError: Fewer than four trials completed, no parameter is in every trial, or all values
            of the objective are the same.
        MissingExtraError: Optuna or scikit-learn is not installed.
    """
    with needs("Importances need", "optuna", extra="optuna"):
        import optuna
    with needs("Importances need", "sklearn", "numpy"):
        import sklearn.ensemble  # noqa: F401  (optuna's evaluator imports it)
    found = _measured(trials, objective.metric)
    if len(found) > _MOST:
        found = [found[index * len(found) // _MOST] for index in range(_MOST)]
    names = [
        name
        for name in (space or dict.fromkeys(found[0].params))
        if all(name in each.params for each in found)
    ]
    columns: dict[str, list[float]] = {}
    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    for name in names:
        places, keys, log = _positions(
            None if space is None else space[name], [each.params[name] for each in found]
        )
        if len(set(places)) < 2:
            continue
        if keys is None:
            places = [math.log(each) for each in places] if log else places
            low, high = min(places), max(places)
            columns[name] = [(each - low) / (high - low) for each in places]
            distributions[name] = optuna.distributions.FloatDistribution(0.0, 1.0)
        else:
            columns[name] = places
            choices = [float(index) for index in range(len(keys))]
            distributions[name] = optuna.distributions.CategoricalDistribution(choices)
    if len(found) < 4 or not columns:
        raise UsageError(
            "Importances need at least four completed trials, and a parameter that all of them "
            f"have with different values; {len(found)} trials completed."
        )
    # The range of the values changes no share, but their squares must not overflow or vanish.
    values = [each[objective.metric] / 2 for each in found]
    low, high = min(values), max(values)
    if low == high:
        raise UsageError(
            f"Importances need values that differ: {objective.metric!r} is the same in all "
            f"{len(found)} completed trials."
        )
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # Else it announces the study.
    try:
        study = optuna.create_study(direction=objective.direction)
    finally:
        optuna.logging.set_verbosity(verbosity)
    for index, value in enumerate(values):
        params = {name: column[index] for name, column in columns.items()}
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=(value - low) / (high - low)
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=16, seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def plot_importance(
    trials: Trials, space: SearchSpace | None, objectives: Sequence[Objective]
) -> Picture:
    """Draw the importances of the parameters: one column for each objective."""
    found = [importances(trials, space, objective) for objective in objectives]
    height = 0.6 + 0.35 * max(map(len, found))
    picture, (row,) = panels(1, len(found), width=4.0 + 3.0 * len(found), height=height)
    for ax, objective, own in zip(row, objectives, found, strict=True):
        names = list(reversed(own))
        bars = ax.barh(
            range(len(names)), [own[name] for name in names], color="0.6", edgecolor="black"
        )
        ax.set_yticks(range(len(names)), [cut(name, _NAME) for name in names])
        ax.bar_label(bars, fmt="%.2f", padding=3, fontsize="small")
        ax.set_xlim(0, 1.1 * max(own.values()))
        ax.set_xlabel(f"share in the variance of\n{cut(objective.metric, _NAME)} (fANOVA)")
    return finished(picture)


def plot_front(
    trials: Trials, criterion: Criterion, front: Trials, best: Observation | None
) -> Picture:
    """Draw every pair of objectives: all trials, the Pareto front, the compromise."""
    pairs = list(combinations(criterion.objectives, 2))
    if not pairs:
        raise UsageError("A Pareto front needs several objectives; this run has one: see plot().")
    picture, (row,) = panels(1, len(pairs), width=1.5 + 4.5 * len(pairs), height=3.8)
    done = [each for each in trials if has_completed(each)]
    kinds = (
        ("trial", "o", "0.6", [each for each in done if criterion.is_candidate(each)]),
        ("violates a constraint", "x", "0.6", [e for e in done if not criterion.is_candidate(e)]),
    )
    for ax, (x, y) in zip(row, pairs, strict=True):
        for name, marker, color, own in kinds:
            if own:
                points = [(drawable(each[x.metric]), drawable(each[y.metric])) for each in own]
                ax.plot(*zip(*points, strict=True), marker=marker, color=color, label=name, **_DOT)
        if front:
            points = sorted((drawable(e[x.metric]), drawable(e[y.metric])) for e in front)
            # With three objectives, the front is a surface, and a line would mean nothing.
            line: dict[str, Any] = {"drawstyle": "steps-post" if x.sign > 0 else "steps-pre"}
            if len(criterion.objectives) > 2:
                line = {"linestyle": "none"}
            columns = zip(*points, strict=True)
            ax.plot(*columns, marker="s", color="C0", label="Pareto front", **line)
        if best is not None:
            place = [drawable(best[x.metric])], [drawable(best[y.metric])]
            ax.plot(*place, label="compromise", **_BEST)
        if x.threshold is not None and y.threshold is not None:
            ax.plot([x.threshold], [y.threshold], "P", color="C3", label="thresholds", **_DOT)
        ax.set_xlabel(_label(x))
        ax.set_ylabel(_label(y))
    row[0].legend(fontsize="small")
    return finished(picture)


def plot_curves(
    trials: Trials,
    metrics: Sequence[str],
    best: Observation | None,
    baseline: Observation | None,
) -> Picture:
    """Draw the learning curves of the first replicate of each trial: a row for each metric."""
    picture, rows = panels(len(metrics), sharex=True)
    for (ax,), metric in zip(rows, metrics, strict=True):
        labels: set[str] = set()
        for each in (*trials, *([] if baseline is None else [baseline])):
            curve = each.replicates[0].curves.get(metric, ()) if each.replicates else ()
            points = sorted((step, drawable(value)) for step, value in curve)
            if not points:
                continue
            name, style = "trial", dict[str, Any](color="0.6", lw=0.8)
            if each.status is Status.PRUNED:
                name, style = "pruned", dict[str, Any](color="0.6", lw=0.8, ls="--")
            if each is best:
                name, style = "best", dict[str, Any](color="black", lw=2.0, zorder=3)
            if each is baseline:
                name, style = "baseline", dict[str, Any](color="black", lw=1.2, ls=":", zorder=2)
            style |= {"label": None if name in labels else name, "marker": "o", "ms": 3}
            labels.add(name)
            # The mark at the end shows where a trial was ended.
            ax.plot(*zip(*points, strict=True), markevery=[-1], **style)
        ax.set_ylabel(cut(metric, _NAME))
        ax.legend(fontsize="small")
    rows[-1][0].set_xlabel("step")
    return finished(picture)


def plot_timeline(trials: Trials) -> Picture:
    """Draw when each trial ran; trials that ran at once lie above each other."""
    ran = sorted(
        (each for each in trials if each.started_at is not None and each.duration is not None),
        key=lambda each: each.started_at or 0.0,
    )
    if not ran:
        raise UsageError("No trial has a start and a duration: there is no timeline to draw.")
    begin = ran[0].started_at or 0.0
    free: list[float] = []  # When each row is free again.
    styles = {True: ("0.75", None, "completed"), False: ("white", "////", "failed")}
    lanes = []
    for each in ran:
        start, end = (each.started_at or 0.0) - begin, (each.started_at or 0.0) - begin
        end += each.duration or 0.0
        lane = next((i for i, until in enumerate(free) if until <= start + 1e-3), len(free))
        free[lane : lane + 1] = [end]
        lanes.append((lane, start, end, each))
    picture, ((ax,),) = panels(1, height=0.8 + 0.35 * len(free))
    labels: set[str] = set()
    for lane, start, end, each in lanes:
        color, hatch, name = styles[not each.status.has_failed]
        if each.status is Status.PRUNED:
            color, hatch, name = "white", "...", "pruned"
        label = None if name in labels else name
        labels.add(name)
        ax.barh(
            lane + 1,
            end - start,
            left=start,
            color=color,
            hatch=hatch,
            ec="black",
            lw=0.5,
            label=label,
        )
    ax.set_xlabel("seconds since the first trial began")
    ax.set_ylabel("trials at once")
    ax.set_yticks(range(1, len(free) + 1))
    ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    busy = sum(end - start for _, start, end, _ in lanes) / (len(free) * max(free))
    ax.set_title(f"{len(free)} at once, busy {100 * busy:.0f} % of the time", fontsize="medium")
    return finished(picture)
