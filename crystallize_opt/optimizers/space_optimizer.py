"""The base of every optimizer over a search space."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Self

from crystallize_opt.errors import (
    InvalidParametersError,
    SpaceExhausted,
    UnknownMetricError,
    UsageError,
)
from crystallize_opt.optimizers.base import BaseOptimizer
from crystallize_opt.optimizers.baseline import checked_baseline, point_of
from crystallize_opt.optimizers.capabilities import Capabilities, refuse_unsupported
from crystallize_opt.optimizers.hooks import Handle
from crystallize_opt.optimizers.last_step import LastStep, pruned
from crystallize_opt.optimizers.ledger import ABANDONED_BY_HAND, EXPIRED, Ledger
from crystallize_opt.optimizers.measured import Measured
from crystallize_opt.optimizers.replay import replay
from crystallize_opt.optimizers.reports import Heard
from crystallize_opt.optimizers.results import Results
from crystallize_opt.optimizers.unique import Proposals, Repeats
from crystallize_opt.runtime.checks import checked_seed, drawn_seed, whole_number
from crystallize_opt.runtime.shown import listed
from crystallize_opt.space.space import SearchSpace, as_space
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.calls import Event, Reported, ReportedPoint, SavedState
from crystallize_opt.trials.objective import Constraint, Objective, as_constraints, as_objectives
from crystallize_opt.trials.observation import Observation, as_observations
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.trials.values import as_number

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd


_FOR_ADAPTERS = (
    "abandonment", "adopt_seed", "asks_in_a_row", "asks_when_all_is_told", "calls",
    "can_be_copied", "criterion", "hears_curve", "held", "is_abandoned", "is_seed_drawn",
    "ledger", "libraries", "may_start_threads", "may_use_global_random_state", "measured",
    "pairs_replicates", "race_up_to", "races", "racing", "report_replicate", "required_metrics",
    "restore_state", "runs_known", "saved_state", "searched", "settings", "stands_for",
    "unfinished",
)  # fmt: skip
"""What adapters and the loop of a search use. Tab completion does not list these names."""


class SpaceOptimizer(Results[Handle], BaseOptimizer):
    """The base of all optimizers over a `SearchSpace`.

    The base keeps the ledger, asks the backend again if a suggestion may not be tried, and finds
    the best trial. A backend supplies `_suggest`, `_insert` and `_learn`, and `_drop` if it must
    know which suggestions were discarded.

    Args:
        space: A `SearchSpace`, or the mapping that builds one.
        objective: One objective, or several for a multi-objective search.
        constraints: Outcome constraints. A trial that violates one is never the best.
        seed: The seed of all random choices, at least 0 and less than 2**32; None to draw one.
        settings: The backend's other arguments, by name. A stored run is resumed exactly only by an
            optimizer with the same settings.
        capabilities: The capabilities of this instance, if they differ from those of the class.
        repeats: Whether a point may be suggested again: `"allowed"`, `"not pending"` (not while it
            is pending) or `"never"`. Unless allowed, a finite space ends with `SpaceExhausted`.
        gives_up: If given: after too many discarded suggestions in a row, end the search with this
            message, instead of suggesting a random point.
        positions: Whether the backend searches `.searched`, which has positions and no constraints
            where few points of the space satisfy its linear constraints. If not, it is asked again
            while its suggestions violate them.
        ends_before_fidelity: Whether the fidelity of the space is the last step of a trial, before
            which the backend may end it: see `optimizers/last_step.py`. `.searched` and the points
            that the backend gets then lack it.

    Attributes:
        space: The search space.
        searched: The space that the backend searches: `space` itself, but for a narrow region.
        objective: The `objective` argument.
        objectives: The objectives, always as a tuple.
        constraints: The outcome constraints.
        criterion: What makes a trial the best.
        seed: The `seed` argument, or the seed that was drawn.
        is_seed_drawn: Whether the seed was drawn; a resumed run then goes on with its stored seed.
        required_metrics: The metrics of objectives and constraints: a completed trial has them all.
        settings: The backend's other arguments, as plain data.
        ledger: The asks, tells, attached and pending trials.
        calls: Every ask, enqueue, report, tell and attach, in order.
        measured: The extremes of the measured values. A backend that needs a value for a failed
            trial takes the worst.

    Raises:
        UnsupportedSpaceError: `capabilities` does not cover something in the space.
        ObjectiveError: There are several objectives, and the optimizer takes one.
    """

    # In these, a plain optimizer differs; see `PlainDriver`.
    asks_when_all_is_told = False
    runs_known = False
    held: Sequence[Observation] = ()

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
        settings: Mapping[str, Any] | None = None,
        capabilities: Capabilities | None = None,
        repeats: Repeats = "allowed",
        gives_up: str | None = None,
        positions: bool = False,
        ends_before_fidelity: bool = False,
    ) -> None:
        self.space = as_space(space)
        self.objectives = as_objectives(objective)
        super().__init__(self.objectives[0] if len(self.objectives) == 1 else self.objectives)
        self.constraints = as_constraints(constraints)
        self.is_seed_drawn = seed is None
        self.seed = drawn_seed() if seed is None else checked_seed(seed)
        self.criterion = Criterion(self.objectives, self.constraints, self.space.fidelity)
        self.required_metrics = self.criterion.metrics
        # Describe the arguments now, because some, such as a sampler, change when they are used.
        self.settings: dict[str, Any] = {}
        if settings:
            from crystallize_opt.identity import describe  # Most scripts need no encoder.

            self.settings = {name: describe(value) for name, value in settings.items()}
        self.capabilities = dataclasses.replace(
            capabilities or self.capabilities,
            unique_points=repeats == "never"
            or (self.capabilities.unique_points and self.space.size == math.inf),
        )
        refuse_unsupported(type(self).__name__, self.capabilities, self.space, self.objectives)
        self.ledger = Ledger(self.space, self.criterion)
        self.calls = self.ledger.calls
        self.measured = Measured(self.criterion)
        self._rng = Random(self.seed)
        self._baseline_point: Mapping[str, Any] | None = None
        found = None
        if positions and self.space.region is not None:
            from crystallize_opt.space.positions import positions_in  # It needs numpy.

            found = positions_in(self.space)
        self.searched = self.space if found is None else found.space
        self._last_step = None
        if ends_before_fidelity and self.space.fidelity is not None:
            self._last_step = LastStep(type(self).__name__, self.space, self.space.fidelity)
            self.searched = self.searched.without_fidelity
        self._proposals = Proposals(
            self.space,
            self.ledger,
            self._rng,
            repeats,
            asks_in_a_row=self.asks_in_a_row,
            gives_up=gives_up,
            positions=found,
            last_step=self._last_step,
        )

    def ask(self, n: int = 1, *, ttl: float | None = None) -> list[Treatment]:
        """Suggest `n` treatments, which are pending until they are told.

        Args:
            n: How many treatments. A backend with joint batches chooses them together.
            ttl: Time to live: after so many seconds on the system's clock, a treatment that is
                still pending expires. It is no longer in `pending`, and the next `ask` abandons it.
                A late outcome can still be told. None: no limit.

        Returns:
            `n` treatments; fewer where a finite space ends within the batch.

        Raises:
            SpaceExhausted: No point is left to suggest.
            UsageError: A constraint is relative to the baseline, and `set_baseline` was not called.
        """
        if self.criterion.lacks_baseline:
            _ = self.criterion.limits  # This raises the error that says what to do.
        n = 1 if n == 1 else whole_number("The number of treatments to ask for", n)
        expires = None if ttl is None else self.ledger.clock() + _seconds(ttl)
        if self.ledger.deadlines:
            for expired in self.ledger.expired():
                self.tell(self.ledger.abandonment(expired, EXPIRED))
        treatments: list[Treatment] = []
        wanted = None
        try:
            wanted = self._fill(treatments, n)
        finally:
            # If the backend raises within a batch, the treatments before stay pending: record them.
            if treatments:
                self.ledger.asked(treatments, wanted, expires)
        return treatments

    def _fill(self, treatments: list[Treatment], n: int) -> int | None:
        """Add `n` suggestions to a list; return `n` if a finite space ended before.

        Raises:
            SpaceExhausted: No point is left to suggest.
        """
        proposals = self._proposals
        proposals.known.begin()
        try:
            for left in range(n, 0, -1):
                handle, params = proposals.next(self, left)
                treatments.append(self._pend(params, handle))
        except SpaceExhausted:
            if not treatments:
                raise
            return n
        finally:
            proposals.known.asked += len(treatments)
            if n > 1:
                proposals.end(self)
        return None

    def _accept(self, points: Sequence[Mapping[str, Any]]) -> list[Handle]:
        """Take the suggestions of a recorded ask, without making them; return their handles."""
        self._proposals.known.begin()
        self._proposals.known.asked += len(points)
        return [self._proposals.repeat(self, params) for params in points]

    def enqueue(self, *points: Mapping[str, Any]) -> None:
        """Suggest these points first, in this order, before the backend's own suggestions.

        Args:
            *points: Mappings of parameter names to values, for a whole point or for some of its
                parameters (a parameter with a condition needs its parents). The backend chooses the
                other parameters if it can; otherwise they are drawn at random. A fidelity that is
                left out is the highest.

        Raises:
            InvalidParametersError: A name or a value is not in the space; no point is enqueued.

        Example:
            >>> from crystallize_opt.adapters import RandomOptimizer
            >>> optimizer = RandomOptimizer({"x": (0, 9), "y": (0, 9)}, Objective("m", "minimize"))
            >>> optimizer.enqueue({"x": 1, "y": 2}, {"y": 7})
            >>> [treatment.params["y"] for treatment in optimizer.ask(2)]
            [2, 7]
        """
        self.ledger.enqueue(points)

    def report(self, treatment: Treatment, step: int, value: float | Mapping[str, float]) -> bool:
        """Report an intermediate value of a pending treatment, so that the backend can prune it.

        For a loop by hand; in a search, steps call `ctx.report`. The points are in
        `observation.replicates[0].curves` of the trial after it was told. A step that was reported
        before changes nothing, and gets the answer that it got: so a trial can begin again.

        Args:
            treatment: A pending treatment. Of an abandoned one, the backend hears nothing before
                its outcome is told.
            step: For example the epoch: a whole number, at least 0.
            value: The value of the objective; or a mapping of metrics to values.

        Returns:
            Whether the backend would end the trial here. If so, tell it with the status `PRUNED`:
            its value is the one at the highest step.

        Raises:
            TellError: The treatment is not pending.
            UsageError: The step is not a whole number, or a value is not a number.
            ObjectiveError: One value is given, but there are several objectives.

        Example:
            >>> from crystallize_opt.adapters import RandomOptimizer
            >>> optimizer = RandomOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"))
            >>> (treatment,) = optimizer.ask()
            >>> for epoch in range(3):
            ...     if optimizer.report(treatment, epoch, 1 / (1 + epoch)):
            ...         optimizer.tell(Observation(treatment, status=Status.PRUNED))
            ...         break
            ... else:
            ...     optimizer.tell({"loss": 0.25})
            >>> optimizer.observations[0].replicates[0].curves
            {'loss': ((0, 1.0), (1, 0.5), (2, 0.3333333333333333))}
        """
        handle = self.ledger.find(treatment).handle
        metric = self.objectives[0].metric if len(self.objectives) == 1 else None
        heard = self.ledger.heard(treatment)
        step, points, new = heard.add(step, value, metric)
        hears = self.capabilities.pruning and treatment.name not in self.ledger.abandoned
        prune = False
        if metric is not None and metric in points and hears:
            prune = heard.point(step, points[metric], partial(self._report, handle))
        for name in new:  # Also what no backend hears: a resumed run must have the whole curves.
            point = ReportedPoint(treatment.name, step, points[name], prune=False, metric=name)
            self.calls.append(point._replace(prune=prune, metric=None) if name == metric else point)
        return prune

    def report_replicate(
        self, treatment: Treatment, replicate: int, metrics: Mapping[str, float]
    ) -> bool:
        """Report one finished replicate of a pending treatment, so that the backend can prune it.

        Args:
            treatment: A pending treatment.
            replicate: The replicate's index, from 0; report replicates in order.
            metrics: The replicate's metrics.

        Returns:
            Whether the backend would end the trial here. If so, tell it with the status `PRUNED`.
            Of an abandoned trial nothing is reported before its outcome is told.

        Raises:
            TellError: The treatment is not pending.
        """
        if not self.capabilities.pruning:
            return False
        handle = self.ledger.find(treatment).handle
        if treatment.name in self.ledger.abandoned:
            return False
        prune = self._report_replicate(treatment, handle, replicate, metrics)
        self.calls.append(Reported(treatment.name, replicate, dict(metrics), prune))
        return prune

    def _report_replicate(
        self, treatment: Treatment, handle: Handle, replicate: int, metrics: Mapping[str, float]
    ) -> bool:
        """Report a finished replicate to the backend; return whether it would end the trial."""
        report, heard = partial(self._report, handle), self.ledger.heard(treatment)
        value = metrics.get(self.objectives[0].metric, math.nan)
        return heard.replicate(replicate, value, report, paired=self.pairs_replicates)

    def hears_curve(self, replicates: int) -> bool:
        """Whether the backend hears of the learning curves of trials with so many replicates."""
        return self.capabilities.pruning and not (self.pairs_replicates and replicates > 1)

    def _teach(self, handle: Handle, observation: Observation) -> None:
        """Report to the backend how a trial has ended, and what it has not heard before of it."""
        if not self.capabilities.pruning:
            if self.ledger.reported:
                self.ledger.forget_heard(observation)
        else:
            heard = self.ledger.forget_heard(observation) or Heard()
            metric, report = self.objectives[0].metric, partial(self._report, handle)
            heard.rest(observation, metric, report, paired=self.pairs_replicates)
            step = None if self._last_step is None else self._last_step.ended_at(observation)
            if step is not None:
                heard.point(step, observation.metrics[metric], report)
                observation = pruned(observation)
        self.measured.teach(self._learn, handle, observation)

    def tell(self, objective_values: Mapping[str, float]) -> None:
        """Learn the outcome of a pending treatment, or the late outcome of an abandoned one.

        A COMPLETED observation whose objective is nan, infinite, missing or not a number is
        recorded as INVALID, and the backend learns it as a failure.

        Args:
            objective_values: An `Observation`; or, if exactly one treatment is pending, a plain
                mapping of metric to value.

        Raises:
            TellError: The treatment was already told or never asked for; or a plain mapping was
                given while none or several treatments are pending.
            UnknownMetricError: A plain mapping lacks a required metric.
        """
        told = objective_values
        if type(told) is dict or not isinstance(told, Observation):
            told = self.ledger.observation_of(told)
        observation = told.checked(self.required_metrics)
        asked, handle = self.ledger.find(observation.treatment)
        if asked.name in self.ledger.abandoned:
            if observation.status is Status.ABANDONED:
                self.ledger.refuse_abandoned(asked)
            handle = self._proposals.reopen(self, handle, asked.params)
        if self.ledger.reported:
            observation = self.ledger.with_curves(observation)
        self._teach(handle, observation)
        if observation.repeats is not None:
            self._proposals.known.known += 1
        self.ledger.told(observation)

    def abandon(self, treatment: Treatment | str) -> None:
        """Give up a pending treatment, for example because its worker will not come back.

        It is told as `ABANDONED`, which says nothing about its parameters. If an outcome comes
        after all, tell it: it then takes the place of the abandonment.

        Args:
            treatment: The treatment, or its name.

        Raises:
            TellError: The treatment was already told or abandoned, or never asked for.

        Example:
            >>> from crystallize_opt.adapters import RandomOptimizer
            >>> optimizer = RandomOptimizer({"x": (0.0, 1.0)}, Objective("m", "minimize"), seed=0)
            >>> first, second = optimizer.ask(2)
            >>> optimizer.abandon(first)
            >>> [treatment.name for treatment in optimizer.pending]
            ['trial_1']
            >>> optimizer.tell(Observation(first, {"m": 0.5}))  # It came back.
            >>> optimizer.observations
            [<Observation trial_0: m=0.5, completed>]
        """
        self.tell(self.abandonment(treatment))

    def abandonment(self, treatment: Treatment | str) -> Observation:
        """Return the observation that `abandon` tells.

        Raises:
            TellError: The treatment was already told or abandoned, or never asked for.
        """
        return self.ledger.abandonment(treatment, ABANDONED_BY_HAND)

    def is_abandoned(self, treatment: Treatment) -> bool:
        """Whether a treatment was abandoned, and had no outcome since."""
        return treatment.name in self.ledger.abandoned

    def set_baseline(
        self, baseline: Mapping[str, float], point: Mapping[str, Any] | None = None
    ) -> None:
        """Learn the outcome of the baseline, to which constraints may be relative.

        A search with `baseline=` does this. By hand, call it before the first `ask` or `attach`.
        The baseline is none of the observations. Ax gets it as its status quo.

        Args:
            baseline: An `Observation`, or a mapping of metric to mean.
            point: The parameters of the baseline. None: those of the observation's treatment, if
                they are a point of the space.

        Raises:
            UsageError: The baseline did not complete, or lacks a metric of an objective or
                constraint; or trials were judged by another one.
            ObjectiveError: A constraint is relative to a mean of 0.

        Example:
            >>> from crystallize_opt.adapters import RandomOptimizer
            >>> limit = Constraint("seconds", "<=", 5, relative_to_baseline=True)
            >>> optimizer = RandomOptimizer(
            ...     {"x": (0, 9)}, Objective("loss", "minimize"), constraints=[limit], seed=0
            ... )
            >>> optimizer.set_baseline({"loss": 1.0, "seconds": 20.0})
            >>> for _ in range(2):
            ...     (treatment,) = optimizer.ask()
            ...     optimizer.tell({"loss": 0.5, "seconds": 22.0})
            >>> optimizer.get_best_treatment()
            Traceback (most recent call last):
            ...
            crystallize_opt.errors.NoCompletedTrialError: There is no best treatment: no ...
        """
        observation = checked_baseline(baseline, self.required_metrics)
        point = point_of(observation, point, self.space)
        if (
            self.baseline is not None
            and dict(self.baseline) == dict(observation)
            and self._baseline_point == point
        ):
            return
        self.criterion.set_baseline(observation)
        stored = None if point is None else self._proposals.encoded(point)
        self._learn_baseline(self.measured.as_told(observation), stored)
        self.baseline, self._baseline_point = observation, point
        self.ledger.baseline_set(observation, point)

    def attach(
        self,
        observations: Observation | Iterable[Observation] | pd.DataFrame | str | PathLike[str],
        *,
        skip_outside: bool = False,
    ) -> int:
        """Learn from trials this optimizer did not ask for, such as those of another backend.

        Args:
            observations: A `History`, or observations; or a DataFrame, or the path of a CSV file,
                as `History.to_frame` makes them (the columns may also have the bare names of
                parameters and metrics). The parameters must be points of the space. Standard errors
                of a table are learnt only where its column `shared_noise` is False.
                A trial whose name another trial has is renamed: `"trial_0 (attached)"`.
            skip_outside: Whether to skip trials that do not fit, instead of refusing all. They are
                then in `history.left_out`.

        Returns:
            How many trials were skipped.

        Raises:
            InvalidParametersError: A trial is not a point of the space; no trial was attached.
            UnknownMetricError: A completed trial lacks the metric of an objective or constraint; no
                trial was attached.
            UsageError: A constraint is relative to the baseline, and `set_baseline` was not called.
        """
        if self.criterion.lacks_baseline:
            _ = self.criterion.limits
        if (
            isinstance(observations, str)
            or hasattr(observations, "__fspath__")
            or hasattr(observations, "columns")
        ):
            from crystallize_opt.history.tables import observations_in

            observations = observations_in(
                observations,
                self.space,
                self.required_metrics,
                learns_errors=self.capabilities.standard_errors,
            )
        given = as_observations(observations)
        inside: list[Observation] = []
        left_out: list[Observation] = []
        for observation in given:
            try:
                inside.append(self.ledger.canonical(observation))
            except (InvalidParametersError, UnknownMetricError) as error:
                if not skip_outside:
                    raise type(error)(
                        f"Cannot attach {observation.treatment.name!r}: {error} skip_outside=True "
                        "leaves out trials that do not fit."
                    ) from None
                left_out.append(observation)
        self.ledger.left_out += left_out
        for observation in map(self.ledger.renamed, inside):
            if self.races:
                observation = dataclasses.replace(observation, raced=True)
            params = observation.treatment.params
            handle = self._proposals.insert(self, params)
            self._teach(handle, observation)
            self._proposals.add(params)
            self.ledger.attached(observation)
        return len(left_out)

    def replay(
        self,
        events: Iterable[Event],
        versions: Mapping[str, str] | None = None,
        state: SavedState | None = None,
    ) -> None:
        """Repeat recorded calls, and check that each suggestion equals the recorded one.

        This brings a fresh optimizer with the same arguments to the state of the recorded one.

        Args:
            events: The `.events` of the recorded optimizer.
            versions: The `.versions` of the recorded optimizer, for the error message.
            state: The backend's state before an ask, from a stored run (see `SavesState`). The
                backend accepts the suggestions before that ask without making them, and only that
                ask and later ones are repeated and checked.

        Raises:
            ReplayDiverged: A suggestion, or a decision to prune, differs from the recorded one.
        """
        replay(self, events, versions, state)

    def __copy__(self) -> Self:
        return copy.deepcopy(self)  # Two optimizers must not share a ledger.

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self.can_be_copied:
            raise TypeError(
                f"{type(self).__name__} cannot be copied or pickled, because its library cannot. "
                "Build another one with the same arguments and seed, and call its "
                "replay(optimizer.events)."
            )
        return super().__reduce_ex__(protocol)

    def adopt_seed(self, seed: int) -> None:
        """Begin again with another seed: a resumed run goes on with the seed that it has stored.

        Raises:
            UsageError: The optimizer has been used.
        """
        if self.calls:
            raise UsageError("An optimizer that has been used cannot take another seed.")
        self.seed = checked_seed(seed)
        self._rng.seed(self.seed)
        self._reseed()

    def __dir__(self) -> list[str]:
        return listed(self, _FOR_ADAPTERS)


def _seconds(ttl: Any) -> float:
    seconds = as_number(ttl)
    if seconds is None or isinstance(ttl, bool) or not 0 < seconds < math.inf:
        raise UsageError(f"ask(ttl=) is a number of seconds, more than 0, not {ttl!r}.")
    return seconds
