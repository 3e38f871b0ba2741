"""What a comparison of optimizers found: numbers, a verdict, tables, a picture."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Self

from crystallize_opt.analysis.cells import Cell, Goal
from crystallize_opt.analysis.curves import Curve, at, interval, mean_curve
from crystallize_opt.analysis.ranks import Pair, friedman, mean_ranks, pairs
from crystallize_opt.errors import StorageError, UsageError
from crystallize_opt.runtime.extras import needs
from crystallize_opt.runtime.shown import html_table, number, text_table

if TYPE_CHECKING:
    import pandas as pd

    from crystallize_opt.history.figure import Picture

_FORMAT = "crystallize-opt comparison 1"
_MOST_NAMED = 9  # Pairs without a difference that a verdict names; more are counted.


@dataclass(frozen=True, repr=False)
class Comparison:
    """The outcome of `compare`. Printed, it says in words what was found, and shows a table.

    Attributes:
        cells: The searches: every optimizer on every experiment with every seed.
        goals: What is compared, for each experiment.
        num_trials: How many trials each search had.
        alpha: The probability of at most this is an error among all verdicts about pairs.

    Example:
        >>> cells = [
        ...     Cell("f", name, seed, best=(2.0, 1.0 + seed / 10 + shift), seconds=(1.0, 2.0))
        ...     for name, shift in (("a", 0.0), ("b", 0.5)) for seed in range(8)
        ... ]
        >>> comparison = Comparison(cells, {"f": Goal("loss", "minimize")}, 2)
        >>> comparison.verdict
        'a is better than b (corrected p = 0.0078).'
        >>> comparison.ranks
        {'a': 1.0, 'b': 2.0}
    """

    cells: Sequence[Cell]
    goals: Mapping[str, Goal]
    num_trials: int
    alpha: float = 0.05
    versions: Mapping[str, str] = field(default_factory=dict)

    # What was found -------------------------------------------------------------------------------

    @property
    def optimizers(self) -> list[str]:
        """The names of the optimizers, in the order given."""
        return list(dict.fromkeys(cell.optimizer for cell in self.cells))

    @property
    def experiments(self) -> list[str]:
        """The names of the experiments, in the order given."""
        return list(self.goals)

    @property
    def seeds(self) -> list[int]:
        """The seeds, in the order given."""
        return list(dict.fromkeys(cell.seed for cell in self.cells))

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, int], Cell]:
        return {(each.experiment, each.optimizer, each.seed): each for each in self.cells}

    def cell(self, optimizer: str, seed: int, experiment: str | None = None) -> Cell:
        """Return one search.

        Args:
            optimizer: The name of the optimizer.
            seed: The seed.
            experiment: The name of the experiment; may be left out if there is one.

        Raises:
            UsageError: There are several experiments, and none is named.
            KeyError: There is no such search.
        """
        return self._by_key[self._experiment(experiment), optimizer, seed]

    def _experiment(self, given: str | None) -> str:
        if given is None and len(self.goals) == 1:
            return self.experiments[0]
        if given is None or given not in self.goals:
            raise UsageError(
                f"experiment= is one of {', '.join(map(repr, self.goals))}, not {given!r}."
            )
        return given

    @cached_property
    def costs(self) -> dict[str, list[float]]:
        """The cost of each optimizer in each block, an experiment with a seed.

        That is the final value of the search, scaled to the range of all final values of the
        experiment, so that 0 is the best; infinite for a search without a result.
        """
        found: dict[str, list[float]] = {name: [] for name in self.optimizers}
        for experiment, goal in self.goals.items():
            finals = {
                key: math.inf if cell.final is None else goal.sign * cell.final
                for key, cell in self._by_key.items()
                if key[0] == experiment
            }
            known = [each for each in finals.values() if math.isfinite(each)]
            low, span = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)
            for name in self.optimizers:
                for seed in self.seeds:
                    cost = finals[experiment, name, seed]
                    found[name].append((cost - low) / (span or 1.0))
        return found

    @property
    def ranks(self) -> dict[str, float]:
        """The mean rank of each optimizer over the blocks, the best first; 1 is the best."""
        ranks = mean_ranks(self.costs)
        return dict(sorted(ranks.items(), key=lambda item: item[1]))

    @cached_property
    def p_value(self) -> float | None:
        """The p-value of Friedman's test that all optimizers rank alike; None for two of them."""
        return friedman(self.costs)

    @cached_property
    def pairs(self) -> list[Pair]:
        """Wilcoxon's test of every pair, corrected by Holm's method.

        If Friedman's test shows no difference, no pair has a better one.
        """
        found = pairs(self.costs, self.alpha)
        if self.p_value is not None and self.p_value > self.alpha:
            return [Pair(e.one, e.other, None, e.p_value, e.raw_p_value) for e in found]
        return found

    @property
    def verdict(self) -> str:
        """What the tests show, in words."""
        if len(self.optimizers) < 2:
            return "There is one optimizer, and nothing to compare it with."
        lines = []
        for name in self.ranks:
            beaten = {
                each.other if each.one == name else each.one: each.p_value
                for each in self.pairs
                if each.better == name
            }
            if beaten:
                largest = f"{max(beaten.values()):.2g}"
                lines.append(
                    f"{name} is better than {_listed(list(beaten))} (corrected p "
                    f"{'=' if len(beaten) == 1 else '<='} {largest})."
                )
        undecided = [f"{each.one} and {each.other}" for each in self.pairs if each.better is None]
        if not lines:
            tested = "" if self.p_value is None else f", Friedman's test: p = {self.p_value:.2g}"
            blocks = len(self.seeds) * len(self.experiments)
            return f"No difference shown ({blocks} blocks{tested})."
        if len(undecided) > _MOST_NAMED:
            lines.append(f"No difference shown between the other {len(undecided)} pairs.")
        elif undecided:
            lines.append(f"No difference shown between {'; '.join(undecided)}.")
        return " ".join(lines)

    # Numbers --------------------------------------------------------------------------------------

    def curve(
        self, optimizer: str, experiment: str | None = None, *, over: str = "trials"
    ) -> Curve:
        """Return the mean best value so far over the seeds, with a bootstrap interval.

        Searches without a result are left out, and a curve begins where each of the others has a
        value.

        Args:
            optimizer: The name of the optimizer.
            experiment: The name of the experiment; may be left out if there is one.
            over: "trials", or "seconds": the time since the search began, with the asks.

        Raises:
            MissingExtraError: SciPy is not installed.
        """
        cells = [
            cell
            for seed in self.seeds
            if (cell := self.cell(optimizer, seed, experiment)).error is None
            and cell.best
            and cell.best[-1] is not None
        ]
        return mean_curve(cells, self.num_trials, over, self.alpha)

    def area(self, cell: Cell) -> float | None:
        """Return the area under the best value so far, divided by the number of trials.

        Before the first value of a search, the worst value of all searches of the experiment
        counts; after a search that ended early, its last one.
        """
        if cell.searched is None:
            return None
        sign = self.goals[cell.experiment].sign
        own = [each for each in self.cells if each.experiment == cell.experiment]
        known = [value for each in own for value in each.best if value is not None]
        worst = max(known, key=lambda value: sign * value)
        places = [float(n) for n in range(1, self.num_trials + 1)]
        values = at(places, [float(n) for n in range(1, len(cell.best) + 1)], cell.best)
        return fmean(worst if value is None else value for value in values)

    def to_frame(self) -> pd.DataFrame:
        """Return a tidy table, one row for each trial of each search (extra `analysis`).

        The columns are `experiment`, `optimizer`, `seed`, `trial` (from 1), `best` (so far),
        `seconds` (since the search began) and `ask_seconds`.
        """
        with needs("Tables need", "pandas", extra="analysis"):
            import pandas as pd
        rows = [
            (cell.experiment, cell.optimizer, cell.seed, trial, *values)
            for cell in self.cells
            for trial, values in enumerate(
                zip(cell.best, cell.seconds, cell.asks, strict=True), start=1
            )
        ]
        names = ["experiment", "optimizer", "seed", "trial", "best", "seconds", "ask_seconds"]
        return pd.DataFrame(rows, columns=names)

    def summary(self) -> pd.DataFrame:
        """Return a table with one row for each optimizer on each experiment (extra `analysis`).

        The columns are `experiment`, `optimizer`, `rank` (mean over the seeds), `final` (mean of
        the values that count), `low` and `high` (their bootstrap interval), `area` (mean best value
        so far), `ask_seconds` (median), `seconds` (mean of the whole search), `failures` (trials)
        and `no_result` (searches).
        """
        with needs("Tables need", "pandas", extra="analysis"):
            import pandas as pd
        head, rows = self._rows()
        return pd.DataFrame(rows, columns=head)

    def _rows(self) -> tuple[list[str], list[list[Any]]]:
        head = ["experiment", "optimizer", "rank", "final", "low", "high", "area", "ask_seconds"]
        head += ["seconds", "failures", "no_result"]
        rows: list[list[Any]] = []
        for number_of, experiment in enumerate(self.experiments):
            block = slice(number_of * len(self.seeds), (number_of + 1) * len(self.seeds))
            ranks = mean_ranks({name: own[block] for name, own in self.costs.items()})
            for name in sorted(ranks, key=ranks.__getitem__):
                cells = [self.cell(name, seed, experiment) for seed in self.seeds]
                finals = [cell.final for cell in cells if cell.final is not None]
                areas = [area for cell in cells if (area := self.area(cell)) is not None]
                asks = [ask for cell in cells for ask in cell.asks]
                ends = [cell.seconds[-1] for cell in cells if cell.seconds]
                low, high = interval([[each] for each in finals], self.alpha)
                rows.append(
                    [
                        experiment,
                        name,
                        ranks[name],
                        fmean(finals) if finals else None,
                        low[0] if low else None,
                        high[0] if high else None,
                        fmean(areas) if areas else None,
                        median(asks) if asks else None,
                        fmean(ends) if ends else None,
                        sum(cell.failures for cell in cells),
                        len(cells) - len(finals),
                    ]
                )
        return head, rows

    # Pictures -------------------------------------------------------------------------------------

    def plot(self) -> Picture:
        """Draw the mean best value so far of each optimizer, with bootstrap intervals.

        One row for each experiment; over trials on the left, over wall time on the right.

        Raises:
            MissingExtraError: matplotlib or SciPy is not installed (extra `analysis`).
        """
        from crystallize_opt.analysis.comparison_plots import plot_curves

        curves = {
            experiment: {
                over: {name: self.curve(name, experiment, over=over) for name in self.optimizers}
                for over in ("trials", "seconds")
            }
            for experiment in self.experiments
        }
        labels = {
            experiment: f"best {goal.metric} so far ({goal.direction})"
            for experiment, goal in self.goals.items()
        }
        return plot_curves(curves, labels, f"{self.verdict}\nMean of {len(self.seeds)} seeds")

    def plot_ranks(self) -> Picture:
        """Draw the critical-difference diagram: mean ranks; a bar joins what shows no difference.

        Raises:
            MissingExtraError: scikit-posthocs is not installed (extra `analysis`).
        """
        from crystallize_opt.analysis.comparison_plots import plot_ranks

        # A pair without a better one is joined, also where Friedman's test decides so.
        found = {
            (each.one, each.other): 1.0 if each.better is None else each.p_value
            for each in self.pairs
        }
        return plot_ranks(self.ranks, found, self.alpha)

    # Kept -----------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the comparison as JSON; `load` reads it."""
        data = {"format": _FORMAT, **asdict(self)}
        Path(path).write_text(json.dumps(data, indent=1, allow_nan=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            StorageError: There is no such file, or it is none of a comparison.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data.pop("format") != _FORMAT:
                raise KeyError("format")
            cells = [Cell(**each) for each in data.pop("cells")]
            goals = {name: Goal(**each) for name, each in data.pop("goals").items()}
            return cls(cells=cells, goals=goals, **data)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(
                f"{os.fspath(path)!r} is no comparison that save() wrote: {error!r}."
            ) from error

    # Shown ----------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        counts = {
            "optimizer": len(self.optimizers),
            "experiment": len(self.experiments),
            "seed": len(self.seeds),
        }
        shown = [f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items()]
        return f"<Comparison of {shown[0]} on {shown[1]} with {shown[2]}: {self.verdict}>"

    def __str__(self) -> str:
        return text_table(self._caption(), *self._table())

    def _repr_html_(self) -> str:
        """Show the verdict and a table in a notebook."""
        return html_table(self._caption().replace("\n", " "), *self._table())

    def _caption(self) -> str:
        goals = {name: f"{goal.direction} {goal.metric}" for name, goal in self.goals.items()}
        if len(set(goals.values())) == 1:
            (goal,) = set(self.goals.values())
            what = f"{goal.direction.capitalize()} {goal.metric}"
        else:
            what = "; ".join(f"{name}: {goal}" for name, goal in goals.items())
        return (
            f"{self.verdict}\n{what}. {self.num_trials} trials, {len(self.seeds)} seeds; intervals "
            f"{100 * (1 - self.alpha):g} %, by bootstrap."
        )

    def _table(self) -> tuple[list[str], list[list[str]]]:
        head, rows = self._rows()
        return head, [[_shown(value) for value in row] for row in rows]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else number(value)


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
