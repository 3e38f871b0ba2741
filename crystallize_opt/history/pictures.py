"""The pictures of a history, as its methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from crystallize_opt.errors import UsageError
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.observation import Observation

if TYPE_CHECKING:
    from crystallize_opt.history.figure import Picture


class Pictures:
    """The pictures that `History` draws of itself; `history/plots.py` draws them."""

    if TYPE_CHECKING:
        _observations: Sequence[Observation]
        space: SearchSpace | None
        baseline: Observation | None

        @property
        def best(self) -> Observation | None: ...
        @property
        def objectives(self) -> tuple[Objective, ...]: ...
        @property
        def pareto_front(self) -> Sequence[Observation]: ...
        def _checked_criterion(self) -> Criterion: ...

    def plot(self) -> Picture:
        """Draw the value of each trial and the best so far, failures, and the baseline.

        Values so bad that they would squeeze all others are cut off, and counted.

        Returns:
            A matplotlib figure, which a notebook shows: `.savefig("run.png")` keeps it (extra
            `analysis`).

        Raises:
            UnknownMetricError: There are no objectives.
            MissingExtraError: matplotlib is not installed.
        """
        from crystallize_opt.history.plots import plot_best

        return plot_best(self._observations, self._checked_criterion(), self.baseline)

    def plot_parameters(
        self, kind: Literal["slices", "parallel"] = "slices", *, metric: str | None = None
    ) -> Picture:
        """Draw an objective over the parameters.

        Args:
            kind: "slices": one panel for each parameter, later trials darker. "parallel": parallel
                coordinates, each trial a line, the best quarter dark.
            metric: The objective's metric; by default, the first.

        Raises:
            UsageError: No trial completed, or an argument is not one of those allowed.
            UnknownMetricError: There are no objectives.
            MissingExtraError: matplotlib is not installed.
        """
        from crystallize_opt.history.plots import plot_parallel, plot_slices

        objective = self._objective(metric)
        if kind == "slices":
            return plot_slices(self._observations, self.space, objective, self.best)
        if kind != "parallel":
            raise UsageError(f"kind= is 'slices' or 'parallel', not {kind!r}.")
        return plot_parallel(self._observations, self.space, objective)

    def importance(self, metric: str | None = None) -> dict[str, float]:
        """Return the share of each parameter in the variance of an objective, the largest first.

        By fANOVA (F. Hutter, H. Hoos, K. Leyton-Brown, An efficient approach for assessing
        hyperparameter importance, ICML 2014), as Optuna computes it (extra `optuna`, and
        scikit-learn). Parameters that some trials do not have are left out. Of a long run, 200
        trials are taken, evenly spaced.

        Args:
            metric: The objective's metric; by default, the first.

        Raises:
            UsageError: Fewer than four trials completed.
            MissingExtraError: Optuna or scikit-learn is not installed.
        """
        from crystallize_opt.history.plots import importances

        return importances(self._observations, self.space, self._objective(metric))

    def plot_importance(self) -> Picture:
        """Draw `importance` for each objective.

        Raises:
            UsageError: Fewer than four trials completed.
            MissingExtraError: matplotlib, Optuna or scikit-learn is not installed.
        """
        from crystallize_opt.history.plots import plot_importance

        objectives = self._checked_criterion().objectives
        return plot_importance(self._observations, self.space, objectives)

    def plot_pareto(self) -> Picture:
        """Draw the trials and the Pareto front of every pair of objectives, and the compromise.

        Raises:
            UsageError: There is one objective only.
            MissingExtraError: matplotlib is not installed.
        """
        from crystallize_opt.history.plots import plot_front

        criterion = self._checked_criterion()
        return plot_front(self._observations, criterion, self.pareto_front, self.best)

    def plot_curves(self, metric: str | None = None) -> Picture:
        """Draw the learning curves of the trials and the baseline, in their first replicates.

        Args:
            metric: The metric of the curves; by default, each metric that has curves.

        Raises:
            UsageError: No trial has a curve of the metric.
            MissingExtraError: matplotlib is not installed.
        """
        from crystallize_opt.history.plots import plot_curves

        first = [each.replicates[0] for each in self._observations if each.replicates]
        names = list(dict.fromkeys(name for replicate in first for name in replicate.curves))
        if not names or metric not in (None, *names):
            raise UsageError(
                f"No trial has a learning curve{'' if metric is None else f' of {metric!r}'}. "
                f"Metrics with curves: {', '.join(map(repr, names)) or 'none'}. Steps record them "
                "with ctx.report(metric, value, step)."
            )
        best = self.best if self.objectives else None
        chosen = names if metric is None else [metric]
        return plot_curves(self._observations, chosen, best, self.baseline)

    def plot_timeline(self) -> Picture:
        """Draw when each trial ran, how many ran at once, and how busy the workers were.

        Raises:
            UsageError: No trial has a start and a duration.
            MissingExtraError: matplotlib is not installed.
        """
        from crystallize_opt.history.plots import plot_timeline

        return plot_timeline(self._observations)

    def _objective(self, metric: str | None) -> Objective:
        objectives = {each.metric: each for each in self._checked_criterion().objectives}
        if metric is None:
            return next(iter(objectives.values()))
        if metric not in objectives:
            raise UsageError(
                f"metric= is one of {', '.join(map(repr, objectives))}, not {metric!r}."
            )
        return objectives[metric]
