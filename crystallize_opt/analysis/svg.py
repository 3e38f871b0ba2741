"""The trace of an optimization as SVG: a small picture in the colors of the page around it.

It needs no matplotlib, and a thousandth of its time, so that a page can show a run while it runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from crystallize_opt.history.trace import LARGEST, PRUNED, TRIAL, VIOLATES, Trace
from crystallize_opt.runtime.shown import cut

_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 36
_MARKS = {TRIAL: "h0", VIOLATES: "m-3-3l6 6m0-6l-6 6", PRUNED: "m-3-2l6 0l-3 5z"}
_LINES = 4
"""About how many lines of the grid there are in each direction."""


@dataclass(frozen=True)
class _Axis:
    """Where values lie in the picture; the range may be as wide as numbers get."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, *, whole: bool = False) -> list[float]:
        span = self.high / _LINES - self.low / _LINES
        power = 10.0 ** math.floor(math.log10(span))
        step = next(power * each for each in (1, 2, 5, 10) if power * each >= 0.7 * span)
        step = max(1.0, step) if whole else step
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [each * step for each in range(first, last + 1)]


def svg_of(trace: Trace) -> str:
    """Return a picture of a trace: an `<svg>` element.

    Its classes are `grid`, `label`, `trial`, `pruned`, `violates`, `failed`, `best` and `baseline`.

    Args:
        trace: The trace of one objective; see `history/trace.py`.

    Example:
        >>> from crystallize_opt import Objective, Observation, Treatment
        >>> from crystallize_opt.history.trace import traces
        >>> from crystallize_opt.trials.best import Criterion
        >>> trials = [Observation(Treatment(f"t_{x}"), {"loss": x}) for x in (3.0, 1.0, 2.0)]
        >>> criterion = Criterion((Objective("loss", "minimize"),))
        >>> svg_of(traces(trials, criterion, None)[0])[:16]
        '<svg class="trac'
    """
    low, high = _range(trace)
    x = _Axis(0.5, max(trace.count, 1) + 0.5, _LEFT, _WIDTH - _RIGHT)
    y = _Axis(low, high, _HEIGHT - _BOTTOM, _TOP)
    label = f"{trace.objective.metric} ({trace.objective.direction})"
    parts = [
        f'<svg class="trace" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(label)}: the value of each trial, and the best so far</title>",
        *_grid(x, y),
        *_points(trace, x, y),
        *_best(trace, x, y),
        _text(_LEFT, _HEIGHT - 4, "trial"),
        _text(_WIDTH - _RIGHT, _HEIGHT - 4, cut(label, 60), "end"),
    ]
    if trace.cut is not None:
        side = "above" if trace.objective.sign > 0 else "below"
        place = _TOP + 14 if trace.objective.sign > 0 else _HEIGHT - _BOTTOM - 6
        parts.append(_text(_LEFT + 6, place, f"{trace.cut.beyond} trials {side}"))
    return "\n".join([*parts, "</svg>"])


def _range(trace: Trace) -> tuple[float, float]:
    """Return the range of values that is shown."""
    if trace.cut is not None:
        return trace.cut.low, trace.cut.high
    values = [value for points in trace.points.values() for _, value in points]
    values += [] if trace.baseline is None else [trace.baseline]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    # Values may be as large as numbers get, and all the same.
    low, high = (min(max(each, -LARGEST), LARGEST) for each in (low, high))
    margin = max(0.05 * high - 0.05 * low, 1e-9 * max(abs(low), abs(high)), 1e-300)
    return low - margin, high + margin


def _text(x: float, y: float, text: str, where: str = "") -> str:
    return f'<text class="{f"label {where}".strip()}" x="{x}" y="{y}">{escape(text)}</text>'


def _grid(x: _Axis, y: _Axis) -> Iterable[str]:
    for value in y.ticks():
        height = y.place(value)
        yield f'<path class="grid" d="M{_LEFT} {height}H{_WIDTH - _RIGHT}"/>'
        yield _text(_LEFT - 6, height + 4, f"{value:.4g}", "end")
    for value in x.ticks(whole=True):
        yield _text(x.place(value), _HEIGHT - _BOTTOM + 16, f"{value:.0f}", "middle")


def _points(trace: Trace, x: _Axis, y: _Axis) -> Iterable[str]:
    for kind, points in trace.points.items():
        marks = [
            f"M{x.place(number)} {y.place(value)}{_MARKS[kind]}"
            for number, value in points
            if y.low <= value <= y.high
        ]
        if marks:
            yield f'<path class="{kind.split()[0]}" d="{"".join(marks)}"/>'
    if trace.failed:
        marks = [f"M{x.place(number)} {_HEIGHT - _BOTTOM}v-9" for number in trace.failed]
        yield f'<path class="failed" d="{"".join(marks)}"/>'
    if trace.baseline is not None and y.low <= trace.baseline <= y.high:
        yield f'<path class="baseline" d="M{_LEFT} {y.place(trace.baseline)}H{_WIDTH - _RIGHT}"/>'


def _best(trace: Trace, x: _Axis, y: _Axis) -> Iterable[str]:
    """Return the line of the best so far: a step where it changes."""
    line, last = "", math.nan
    for number, value in enumerate(trace.best, 1):
        if value != last and not math.isnan(value):
            height = y.place(min(max(value, y.low), y.high))
            line += f"H{x.place(number)}V{height}" if line else f"M{x.place(number)} {height}"
            last = value
    if line:
        yield f'<path class="best" d="{line}H{x.place(trace.count)}"/>'


def legend(trace: Trace) -> Sequence[tuple[str, str]]:
    """Return the class and the name of each thing that the picture shows."""
    shown = [(kind.split()[0], kind) for kind, points in trace.points.items() if points]
    shown += [("best", "best so far")] if any(not math.isnan(each) for each in trace.best) else []
    shown += [("baseline", "baseline")] if trace.baseline is not None else []
    return [*shown, *([("failed", f"{len(trace.failed)} failed")] if trace.failed else [])]
