"""The trials of a run: from memory (`optimizer.history`), from storage, from a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

from crystallize_opt.errors import UnknownMetricError
from crystallize_opt.history.pictures import Pictures
from crystallize_opt.runtime.checks import whole_number
from crystallize_opt.runtime.shown import html_table, number
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.objective import Constraint, Objective, as_constraints
from crystallize_opt.trials.observation import Observation, as_observations
from crystallize_opt.trials.treatment import Params, Treatment

if TYPE_CHECKING:
    import pandas as pd


_ROWS_SHOWN = 10
_WIDEST_PARAMETER, _WIDEST_ERROR = 40, 100  # characters


class Front(list[Observation]):
    """The observations of a Pareto front, a list. To call it returns it.

    So `pareto_front` and `pareto_front()` are the same, for a history and for an optimizer.
    """

    def __call__(self) -> Self:
        """Return this list."""
        return self


class History(Pictures, Sequence[Observation]):
    """The observations of a run in the order of their reports: a read-only sequence.

    Args:
        observations: The observations, in order. A completed one whose objective or constraint is
            nan, infinite, missing or not a number becomes INVALID.
        objectives: The objectives by which `best` and `pareto_front` compare trials.
        constraints: Outcome constraints; a trial that violates one is never the best.
        space: The search space, or None if it is not known. If it has a fidelity, the best trial
            is one of the highest fidelity that enough trials reached: see `trials/best.py`.
        pending: The treatments that were asked for and not yet told.
        name: The name of the run.
        notes: What a conversion from another library left out or changed, or what a stored run
            lacks: one sentence for each.
        left_out: Trials that are not among the observations, because they do not fit the space,
            objectives and constraints.
        baseline: The outcome of the search's baseline, or None; it is none of the observations.
        about: What made the run, for a report: the optimizer, seeds, versions; or a function that
            returns it.
        are_checked: Whether a completed observation is known to have finite metrics, as those of an
            optimizer or of a stored run are. Others without them become invalid.

    Attributes:
        criterion: The rule for the best: objectives, constraints and fidelity.

    Example:
        >>> trials = [Observation(Treatment(f"t_{x}", {"x": x}), {"loss": x}) for x in (3, 1, 2)]
        >>> history = History(trials, [Objective("loss", "minimize")])
        >>> len(history), history.best.treatment.params["x"]
        (3, 1)
    """

    def __init__(
        self,
        observations: Sequence[Observation],
        objectives: Objective | Sequence[Objective] = (),
        constraints: Sequence[Constraint] = (),
        *,
        space: SearchSpace | None = None,
        pending: Sequence[Treatment] = (),
        name: str | None = None,
        notes: Sequence[str] = (),
        left_out: Sequence[Observation] = (),
        baseline: Observation | None = None,
        about: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        are_checked: bool = False,
    ) -> None:
        fidelity = None if space is None else space.fidelity
        goals = (objectives,) if isinstance(objectives, Objective) else tuple(objectives)
        self.criterion = Criterion(goals, as_constraints(constraints), fidelity)
        if not are_checked:
            given = as_observations(observations)
            observations = [each.checked(self.criterion.metrics) for each in given]
        self._observations = observations
        self.space = space
        self.pending = list(pending)
        self.name = name
        self.notes = list(notes)
        self.left_out = list(left_out)
        self.baseline = baseline
        self._about = about
        if baseline is not None:
            self.criterion.set_baseline(baseline)

    @overload
    def __getitem__(self, index: int | str) -> Observation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Observation]: ...
    def __getitem__(self, index: int | str | slice) -> Observation | list[Observation]:
        """Return an observation by its number or by its trial's name; a slice gives a list.

        Raises:
            KeyError: No trial has the name.
        """
        if isinstance(index, slice):
            return list(self._observations[index])
        if not isinstance(index, str):
            return self._observations[index]
        for observation in self._observations:
            if observation.treatment.name == index:
                return observation
        raise KeyError(f"No trial is called {index!r}; there are {len(self)} trials.")

    def __contains__(self, value: object) -> bool:
        """Whether this is one of the observations, or the name of a trial."""
        if isinstance(value, str):
            return any(value == each.treatment.name for each in self._observations)
        return value in self._observations

    def __len__(self) -> int:
        return len(self._observations)

    def __iter__(self) -> Iterator[Observation]:
        return iter(self._observations)

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        pending = f", {len(self.pending)} pending" if self.pending else ""
        return f"<History{name}: {len(self)} trials{pending}>"

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        run: str | None = None,
        *,
        space: SearchSpace | None = None,
    ) -> History:
        """Read a stored run, also while it is being written.

        A service that was killed may have recorded observations that its optimizer was not told,
        so that the run lacks them. Then a `RuntimeWarning`, and `notes`, say how many, and how to
        get them. While the service runs, only `notes` says so.

        Args:
            path: The file given to `optimize(storage=...)`.
            run: The run's name; may be left out if the file holds one run.
            space: The run's search space. Only needed if choices or constants are functions or
                objects of your own classes: the file holds only their descriptions. Values of the
                standard library are stored, such as numbers, texts, tuples, sets, dates and paths.

        Raises:
            StorageError: There is no such file or run, or the file is damaged.
            RunChanged: `space` differs from the run's space.
        """
        # Imported here, because this module imports sqlite3, which takes long.
        from crystallize_opt.storage.reading import read_observations

        stored = read_observations(path, run, space)
        return cls(
            stored,
            stored.objectives,
            stored.constraints,
            space=stored.space,
            pending=stored.pending,
            name=stored.name,
            notes=stored.notes,
            left_out=stored.left_out,
            baseline=stored.baseline,
            about=stored.about,
            are_checked=True,
        )

    @staticmethod
    def runs(path: str | os.PathLike[str]) -> list[str]:
        """Return the names of the runs in a file, the oldest first.

        Raises:
            StorageError: There is no such file, or the file is damaged.
        """
        from crystallize_opt.storage.journal import run_names

        return run_names(path)

    @property
    def about(self) -> dict[str, str]:
        """What made the run: optimizer, seeds and versions, as far as they are known."""
        about = self._about() if callable(self._about) else self._about or {}
        return {name: str(value) for name, value in about.items() if value is not None}

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives by which `best` and `pareto_front` compare trials."""
        return self.criterion.objectives

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The outcome constraints: a trial that violates one is never the best."""
        return self.criterion.constraints

    @property
    def observations(self) -> list[Observation]:
        """The observations, in order."""
        return list(self._observations)

    @property
    def best(self) -> Observation | None:
        """The best completed observation within the constraints, at the highest fidelity.

        With several objectives, the point of the Pareto front that is closest to the best value of
        every objective, each scaled to its range over the front.

        Raises:
            UnknownMetricError: There are no objectives.
        """
        return self._checked_criterion().best(self._observations)

    @property
    def best_params(self) -> Params | None:
        """The parameters of the best observation, or None if there is none.

        Raises:
            UnknownMetricError: There are no objectives.
        """
        best = self.best
        return None if best is None else best.params

    @property
    def pareto_front(self) -> Front:
        """The candidates for the best that no other candidate dominates, in order.

        With one objective: the best observation and all equal ones.

        Raises:
            UnknownMetricError: There are no objectives.
        """
        return Front(self._checked_criterion().front(self._observations))

    def compromise(self, weights: Mapping[str, float] | None = None) -> Observation | None:
        """Return the point of the Pareto front that is closest to the best of every objective.

        Each objective is scaled to its range over the front.

        Args:
            weights: How much the distance in an objective counts, by metric; 1 where it is left
                out. None: all count the same, as for `best`.

        Raises:
            ObjectiveError: There are weights, but one objective only; or a weight names no
                objective, is negative or is not finite; or all are 0.
            UnknownMetricError: There are no objectives.

        Example:
            >>> both = [Objective("loss", "minimize"), Objective("seconds", "minimize")]
            >>> values = [(0.1, 9.0), (0.2, 4.0), (0.9, 1.0)]
            >>> trials = [Observation(Treatment(f"t_{s}"), {"loss": x, "seconds": s})
            ...           for x, s in values]
            >>> history = History(trials, both)
            >>> history.compromise()["seconds"], history.compromise({"loss": 9})["seconds"]
            (4.0, 9.0)
        """
        return self._checked_criterion().compromise(self.pareto_front, weights)

    def top(self, count: int) -> list[Observation]:
        """Return the best observations, the best first, to run them again with `confirm`.

        Of trials with equal parameters only the first is returned. With several objectives, these
        are the points of the Pareto front that are closest to the best of every objective.

        Args:
            count: How many, at least 1; there may be fewer.

        Raises:
            UsageError: The count is no whole number, or below 1.
            UnknownMetricError: There are no objectives.

        Example:
            >>> trials = [Observation(Treatment(f"t_{x}"), {"loss": x}) for x in (3, 1, 2)]
            >>> history = History(trials, [Objective("loss", "minimize")])
            >>> [each.treatment.name for each in history.top(2)]
            ['t_1', 't_2']
        """
        count = whole_number("The number of observations", count)
        return self._checked_criterion().top(self._observations, count)

    def hypervolume(self, reference: Mapping[str, float] | None = None) -> float:
        """Return how much of the space of objectives the Pareto front dominates (extra `analysis`).

        That is the volume of what is worse than a point of the front and better than the reference.
        Hypervolumes can be compared only if they are measured from the same reference, so that none
        is taken from the trials.

        Args:
            reference: A value of each objective. None: the objectives' thresholds.

        Raises:
            ObjectiveError: There is one objective only.
            UsageError: An objective has neither a reference value nor a threshold.
            MissingExtraError: moocore is not installed.

        Example:
            >>> both = [Objective("loss", "minimize"), Objective("hits", "maximize")]
            >>> history = History([Observation(Treatment("t"), {"loss": 1.0, "hits": 5.0})], both)
            >>> history.hypervolume({"loss": 3.0, "hits": 0.0})
            10.0
        """
        return (self.hypervolume_trace(reference) or [0.0])[-1]

    def hypervolume_trace(self, reference: Mapping[str, float] | None = None) -> list[float]:
        """Return the hypervolume after each observation of this history, in order.

        Args:
            reference: As for `hypervolume`.

        Raises:
            ObjectiveError: As for `hypervolume`.
            UsageError: As for `hypervolume`.
            MissingExtraError: moocore is not installed.
        """
        from crystallize_opt.history.hypervolume import hypervolume_trace

        return hypervolume_trace(self._checked_criterion(), self._observations, reference)

    def _checked_criterion(self) -> Criterion:
        if not self.objectives:
            raise UnknownMetricError(
                "This history has no objectives. Give them: History(observations, objectives)."
            )
        return self.criterion

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per trial, which `attach` can read (extra `analysis`).

        The columns are `trial`, `params.<name>`, `metrics.<name>`, `sem.<name>` for metrics with
        standard errors, `shared_noise` (whether trials share the noise of these errors, as with
        common random numbers), `status`, `error`, `started_at` and `duration`. Further columns are
        there only if needed: `repeats`, if a search reported known outcomes again; `beaten_by`, if
        trials got no further replicates because another one was better; `replicates`, if completed
        trials differ in their number; `raced`, if trials are those of a race; `failed_replicates`,
        if trials completed in spite of some. `attach` refuses a table of a race whose trials differ
        in their number of replicates, because the best of them is one with the most.
        """
        from crystallize_opt.history.tables import frame_of

        return frame_of(self, self.space, self.criterion.metrics)

    def curves(self) -> pd.DataFrame:
        """Return the learning curves that steps recorded by `ctx.report` (extra `analysis`).

        The table has one row for each point, and the columns `trial`, `replicate`, `metric`, `step`
        and `value`. The points are in the order in which they were reported, after those of the
        baseline, if there is one.

        Example:
            >>> from crystallize_opt import Replicate
            >>> replicate = Replicate(0, 7, {"loss": 0.5}, curves={"loss": ((0, 0.9), (1, 0.5))})
            >>> trial = Observation.of_replicates(Treatment("t", {"x": 1}), [replicate])
            >>> History([trial]).curves().groupby("trial")["step"].max()["t"].item()
            1
        """
        from crystallize_opt.history.curves import frame_of_curves

        return frame_of_curves([*([] if self.baseline is None else [self.baseline]), *self])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV file with the columns of `to_frame`, which `attach` reads back.

        Choices that have the same text, such as `1` and `"1"`, stay distinct. A text that a
        spreadsheet would run as a formula has an apostrophe before it, which `attach` removes.
        Learning curves are not in this file: write them with `history.curves().to_csv(...)`.

        Args:
            path: The file; an existing file is replaced.

        Raises:
            UsageError: Two choices have the same text, and are no plain data.

        Example:
            >>> import tempfile
            >>> history = History([Observation(Treatment("t", {"x": 1}), {"loss": 0.5})])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     history.to_csv(f"{folder}/trials.csv")
        """
        from crystallize_opt.history.tables import write_trials

        write_trials(self, self.space, self.criterion.metrics, path)

    def _repr_html_(self) -> str:
        """Show the best and the last trials in a notebook."""
        best = self.best if self.objectives else None
        shown = [] if best is None else [best]
        shown += [o for o in self._observations[-_ROWS_SHOWN:] if o is not best]
        metrics = [o.metric for o in self.objectives] or list(shown[0] if shown else ())
        names = list(self.space or dict.fromkeys(n for o in shown for n in o.treatment.params))
        errors = any(observation.error for observation in shown)
        head = ["", "trial", "status", *metrics, *names, *(["error"] if errors else [])]
        rows = []
        for observation in shown:
            params = observation.treatment.params
            rows.append(
                [
                    "best" if observation is best else "",
                    observation.treatment.name,
                    str(observation.status),
                    *(number(observation.metrics.get(metric)) for metric in metrics),
                    *(number(params[name]) if name in params else "" for name in names),
                    *([(observation.error or "").split("\n")[0]] if errors else []),
                ]
            )
        # Long choices would move other parameters and the errors out of sight.
        widths = [
            *(_WIDEST_PARAMETER for _ in head[: 3 + len(metrics) + len(names)]),
            _WIDEST_ERROR,
        ]
        return html_table(repr(self)[1:-1], head, rows, widths)
