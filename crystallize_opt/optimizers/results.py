"""What an optimizer knows: its calls, its trials, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from crystallize_opt.errors import (
    NoCompletedTrialError,
    UsageError,
)
from crystallize_opt.history.history import Front, History
from crystallize_opt.optimizers.hooks import Handle, Hooks
from crystallize_opt.runtime.extras import versions_of
from crystallize_opt.runtime.shown import html_table, number
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.calls import Event
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment

_OTHER_CHOICES = (
    "Use recommend(), or run the best trials again: "
    "experiment.confirm(optimizer.history.top(5)).best."
)


class Results(Hooks[Handle]):
    """What a `SpaceOptimizer` knows, read-only."""

    if TYPE_CHECKING:
        objectives: tuple[Objective, ...]
        constraints: tuple[Constraint, ...]
        criterion: Criterion
        seed: int

    @property
    def events(self) -> list[Event]:
        """Every ask, enqueue, report, tell and attach, in order; `replay` repeats them."""
        return list(self.ledger.calls)

    @property
    def versions(self) -> dict[str, str]:
        """The versions of Python, of this package and of the backend's libraries."""
        # The points of a narrow region are drawn with numpy and SciPy.
        also = ("numpy", "scipy") if self.space.region is not None else ()
        return versions_of(tuple(dict.fromkeys((*self.libraries, *also))))

    @property
    def pending(self) -> list[Treatment]:
        """The treatments asked for and not yet told, in order, without those that have expired."""
        expired = self.ledger.expired()
        return [each for each in self.unfinished if each not in expired]

    @property
    def unfinished(self) -> list[Treatment]:
        """The treatments asked for and not yet told, in order, also those that have expired."""
        return [pending.treatment for pending in self.ledger.pending.values()]

    @property
    def observations(self) -> list[Observation]:
        """Every observation that was told or attached, in order."""
        return list(self.ledger.observations)

    @property
    def history(self) -> History:
        """Every observation that was told or attached, with the best trial and a table of all."""
        return History(
            self.observations,
            self.objectives,
            self.constraints,
            space=self.space,
            pending=self.pending,
            left_out=self.ledger.left_out,
            baseline=self.baseline,
            about=self._about,
            are_checked=True,
        )

    def _about(self) -> dict[str, Any]:
        name = self.stands_for.__name__
        return {"optimizer": name, "optimizer's seed": self.seed, **self.versions}

    def get_best_treatment(self, weights: Mapping[str, float] | None = None) -> Treatment:
        """Return the treatment of the best completed trial that satisfies the constraints.

        With several objectives, that is the compromise: the trial of `pareto_front()` closest to
        the best value of every objective, each scaled to its range over the front.

        Args:
            weights: With several objectives, how much the distance in each one counts, by metric; 1
                where it is left out. None: all count the same.

        Raises:
            NoCompletedTrialError: No completed trial satisfies the constraints; the message names
                the nearest one.
            ObjectiveError: There are weights, but one objective only; or a weight names no
                objective, is negative or is not finite; or all are 0.
        """
        best = self.ledger.best.best
        if weights is not None:
            best = self.criterion.compromise(self.pareto_front, weights)
        if best is None:
            raise NoCompletedTrialError(self.ledger.why_no_best())
        return best.treatment

    def recommend(self, by: Literal["mean", "model"] = "mean") -> Treatment:
        """Return the treatment to use, chosen by the observed means or by the optimizer's model.

        The mean of few noisy replicates flatters the best of many trials. Where trials are noisy, a
        third way is to run the best ones again: `experiment.confirm(history.top(5)).best`.

        Args:
            by: `"mean"`: the best observed mean, as `get_best_treatment`. `"model"`: the best
                choice of the optimizer's model, if it has one (Ax, Nevergrad).

        Raises:
            NoCompletedTrialError: No completed trial satisfies the constraints, or none does so
                according to the model.
            UsageError: The optimizer has no model that recommends a trial, or there are several
                objectives.
        """
        if by == "mean":
            return self.get_best_treatment()
        if by != "model":
            raise UsageError(f"recommend() takes 'mean' or 'model', not {by!r}.")
        if not self.capabilities.recommends or len(self.objectives) > 1:
            why = "has no model that recommends a trial; AxOptimizer has one"
            if self.capabilities.recommends:
                why = "recommends by its model for one objective only"
            raise UsageError(f"{type(self).__name__} {why}. {_OTHER_CHOICES}")
        best = self.get_best_treatment()  # Its error says why there is nothing to recommend.
        recommended = self._recommend()
        if recommended is None:
            raise NoCompletedTrialError(
                f"To the model, no trial surely satisfies the constraints; the best mean has "
                f"{best.name!r}. {_OTHER_CHOICES}"
            )
        return recommended

    @property
    def pareto_front(self) -> Front:
        """The completed, feasible observations that no other one dominates, in order.

        With one objective: every observation with the best value. `pareto_front()` is the same.
        """
        return Front(self.criterion.front(self.ledger.observations))

    def __repr__(self) -> str:
        goals = ", ".join(f"{each.direction} {each.metric}" for each in self.objectives)
        parts = [f"{len(self.ledger.observations)} trials"]
        if self.ledger.pending:
            parts.append(f"{len(self.ledger.pending)} pending")
        best = self.ledger.best.best
        if best is not None:
            parts += [f"best {o.metric}={number(best[o.metric])}" for o in self.objectives]
        names = f"{len(self.space)} parameter{'s' * (len(self.space) != 1)}"
        return f"<{type(self).__name__}: {goals} over {names}; {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        """Show the space, and the best and the last trials, in a notebook."""
        caption = html_table(repr(self)[1:-1], [], [])
        return f"{caption}{self.space._repr_html_()}{self.history._repr_html_()}"
