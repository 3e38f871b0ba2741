"""A report of runs, comparisons and confirmations: one HTML file without any other."""

from __future__ import annotations

import base64
import functools
import io
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crystallize_opt.analysis.comparison import Comparison
from crystallize_opt.analysis.confirmation import Confirmation
from crystallize_opt.errors import CrystallizeOptError, MissingExtraError, UsageError, printable
from crystallize_opt.history.history import History
from crystallize_opt.runtime.extras import needs, versions_of
from crystallize_opt.runtime.shown import cut
from crystallize_opt.trials.status import Status

_TRIALS = 20
"""How many of the best trials a report shows, and how many causes of failures."""


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers; without a head, names and values."""

    rows: Sequence[Sequence[Any]]
    head: Sequence[str] = ()


@dataclass(frozen=True)
class Image:
    """A picture as base64 of a PNG file."""

    data: str
    caption: str


@dataclass
class Section:
    """A part of a report: sentences, tables, pictures, in this order."""

    title: str
    lines: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Image] = field(default_factory=list)

    def draw(self, draw: Callable[[], Any], caption: str) -> None:
        """Add a picture; where it cannot be drawn, add a sentence that says why."""
        try:
            picture = draw()
        except MissingExtraError as error:
            self.lines.append(f"{caption}: {error}")
            return
        except CrystallizeOptError:  # There is nothing to draw, such as a front of one objective.
            return
        file = io.BytesIO()
        picture.savefig(file, format="png", dpi=80)
        self.pictures.append(Image(base64.b64encode(file.getvalue()).decode(), caption))


def report(
    about: History | Comparison | Confirmation | Sequence[Any],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> None:
    """Write a report: one HTML file, which needs no network and no other file.

    Of a run it shows what was searched, the values and the best so far, the parameters, the best
    trials, failures with their causes, the noise of replicates, the baseline, versions and seeds.

    Args:
        about: A history, a comparison, a confirmation, or a list of them, for example a run and the
            confirmation of its winner.
        path: The file; an existing one is replaced.
        title: The title; by default, the name of the first run.

    Raises:
        UsageError: `about` is something else.
        MissingExtraError: Jinja2 or matplotlib is not installed (extra `analysis`).

    Example:
        >>> import tempfile
        >>> from crystallize_opt import Experiment, Objective
        >>> from crystallize_opt.adapters import RandomOptimizer
        >>> optimizer = RandomOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=0)
        >>> best = Experiment.of(lambda x: x, metric="loss").optimize(optimizer, num_trials=5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report(optimizer.history, f"{folder}/report.html")
    """
    parts = list(about) if isinstance(about, (list, tuple)) else [about]
    sections = [section for part in parts for section in _sections(part)]
    if not sections:
        raise UsageError("A report needs a History, a Comparison or a Confirmation.")
    text = page("report.html.jinja", title=title or _title(parts[0]), sections=sections)
    Path(path).write_text(text, encoding="utf-8")


def page(template: str, *, package: str = "crystallize_opt.analysis", **values: Any) -> str:
    """Return a page: a template filled in.

    Args:
        template: The name of the template, which may extend `page.html.jinja` and import from
            `parts.html.jinja`, as the report does.
        package: The package whose folder has the template.
        **values: What the template shows; texts are escaped.

    Raises:
        MissingExtraError: Jinja2 is not installed (extra `analysis`).
    """
    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    return str(_environment(package).get_template(template).render(now=now, **values))


@functools.cache
def _environment(package: str) -> Any:
    with needs("Pages need", "jinja2", extra="analysis"):
        import jinja2
    packages = dict.fromkeys([package, "crystallize_opt.analysis"])
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(each, ".") for each in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": _shown, "time": _time}
    environment.globals["version"] = versions_of(())["crystallize-opt"]
    return environment


def _title(first: Any) -> str:
    if isinstance(first, History):
        return first.name or "A run"
    return "A comparison" if isinstance(first, Comparison) else "A confirmation"


def _sections(part: Any) -> list[Section]:
    if isinstance(part, History):
        return _of_run(part)
    if isinstance(part, Comparison):
        return _of_comparison(part)
    if isinstance(part, Confirmation):
        return _of_confirmation(part)
    raise UsageError(f"A report shows a History, a Comparison or a Confirmation, not {part!r}.")


# A run --------------------------------------------------------------------------------------------


def _of_run(history: History) -> list[Section]:
    sections = [_searched(history), _course(history)]
    if history.objectives:
        sections += [_parameters(history), _best(history)]
    sections += [_failures(history), _noise(history)]
    return [each for each in sections if each.lines or each.tables or each.pictures]


def overview(history: History) -> list[Section]:
    """Return what a page shows of a run while it runs, without pictures: see `report`.

    Args:
        history: The trials so far.
    """
    found = [_searched(history), _best(history), _failures(history)]
    return [each for each in found if each.lines or each.tables]


def _searched(history: History) -> Section:
    section = Section("What was searched")
    counts = Counter(str(each.status) for each in history)
    trials = ", ".join(f"{count} {status}" for status, count in counts.items())
    rows: list[Sequence[Any]] = [("trials", f"{len(history)} ({trials})")]
    rows += [("objective", f"{each.direction} {each.metric}") for each in history.objectives]
    rows += [("constraint", each.text) for each in history.constraints]
    rows += [(name, value) for name, value in history.about.items()]
    begun = [each.started_at for each in history if each.started_at is not None]
    if begun:
        rows.append(("first trial", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(min(begun)))))
    if (spent := [each.duration for each in history if each.duration is not None]) != []:
        rows.append(("time in trials", f"{sum(spent):.4g} s"))
    section.tables.append(Table(rows))
    if history.space is not None:
        space = [(name, cut(repr(parameter))) for name, parameter in history.space.items()]
        space += [("constraint", repr(each)) for each in history.space.constraints]
        section.tables.append(Table(space, ["parameter", "range"]))
    section.lines += history.notes
    return section


def _course(history: History) -> Section:
    section = Section("The course of the search")
    if history.objectives:
        section.draw(history.plot, "The value of each trial, and the best so far")
        section.draw(history.plot_pareto, "The Pareto front")
    section.draw(history.plot_curves, "Learning curves of the first replicates")
    if len(history) <= 2000:  # More bars would be thinner than a pixel.
        section.draw(history.plot_timeline, "When the trials ran")
    return section


def _parameters(history: History) -> Section:
    section = Section("The parameters")
    section.draw(history.plot_parameters, "The objective over each parameter; later trials darker")
    section.draw(history.plot_importance, "The importance of the parameters")
    return section


def _best(history: History) -> Section:
    section = Section("The best trials")
    metrics = [each.metric for each in history.objectives]
    names = list(history.space or dict.fromkeys(n for each in history for n in each.params))
    best = history.top(_TRIALS)  # Of equal points only the first.
    section.lines.append(
        f"The Pareto front, the best compromise first; at most {_TRIALS} points."
        if len(metrics) > 1
        else f"The best {len(best)} of {len(history.criterion.candidates(history))}."
    )
    shown = [("baseline", history.baseline)] if history.baseline is not None else []
    shown += [(each.treatment.name, each) for each in best]
    rows = [
        [
            f"{name} (best)" if each is history.best else name,
            *(each.metrics.get(metric) for metric in metrics),
            *(each.params.get(parameter, "") for parameter in names),
        ]
        for name, each in shown
    ]
    section.tables.append(Table(rows, ["trial", *metrics, *names]))
    return section


def _failures(history: History) -> Section:
    section = Section("Failures")
    failed = [each for each in history if each.status.has_failed]
    if not failed:
        return section
    causes: dict[tuple[str, str], list[str]] = {}
    for each in failed:
        cause = (str(each.status), (each.error or "").splitlines()[0] if each.error else "")
        causes.setdefault(cause, []).append(each.treatment.name)
    section.lines.append(f"{len(failed)} of {len(history)} trials failed.")
    common = sorted(causes.items(), key=lambda item: -len(item[1]))[:_TRIALS]
    rows = [[len(trials), status, cut(error), trials[0]] for (status, error), trials in common]
    section.tables.append(Table(rows, ["trials", "status", "error", "first"]))
    return section


def _noise(history: History) -> Section:
    section = Section("Noise")
    repeated = [each for each in history if each.sem and len(each.replicates) > 1]
    rows = []
    for objective in history.objectives:
        errors = sorted(
            error
            for each in repeated
            if each.status is Status.COMPLETED
            and (error := each.sem.get(objective.metric)) is not None
        )
        if errors:
            counts = sorted(len(each.replicates) for each in repeated)
            rows.append(
                [objective.metric, f"{counts[0]} to {counts[-1]}", errors[len(errors) // 2]]
            )
    if rows:
        head = ["metric", "replicates", "median standard error of a trial's mean"]
        section.tables.append(Table(rows, head))
        section.lines.append(
            "The best of noisy trials looks better than it is: confirm it on fresh seeds."
        )
    return section


# Comparisons and confirmations --------------------------------------------------------------------


def _of_comparison(comparison: Comparison) -> list[Section]:
    section = Section("The comparison", [comparison.verdict])
    head, rows = _columns(comparison.summary())
    section.tables.append(Table(rows, head))
    section.draw(comparison.plot, "The mean best value so far, with bootstrap intervals")
    if len(comparison.optimizers) > 1:
        section.draw(comparison.plot_ranks, "Mean ranks; a bar joins what shows no difference")
    lost = [each for each in comparison.cells if each.error is not None]
    if lost:
        errors = [
            [each.experiment, each.optimizer, each.seed, cut(str(each.error).splitlines()[0])]
            for each in lost
        ]
        section.tables.append(Table(errors, ["experiment", "optimizer", "seed", "error"]))
    return [section]


def _of_confirmation(confirmation: Confirmation) -> list[Section]:
    section = Section("The confirmation", str(confirmation).splitlines()[:3])
    head, rows = _columns(confirmation.to_frame())
    section.tables.append(Table(rows, head))
    return [section]


def _columns(frame: Any) -> tuple[list[str], list[list[Any]]]:
    return list(frame.columns), frame.astype(object).where(frame.notna(), None).values.tolist()


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
