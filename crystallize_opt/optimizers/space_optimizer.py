"""The base of every optimizer over a search space."""

from __future__ import annotations

import copy
import dataclasses
import math
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

from crystallize_opt.errors import (
    InvalidParametersError,
    NoCompletedTrialError,
    SpaceExhausted,
    UnknownMetricError,
    UsageError,
)
from crystallize_opt.history.history import Front, History
from crystallize_opt.optimizers.base import BaseOptimizer
from crystallize_opt.optimizers.baseline import checked_baseline, point_of
from crystallize_opt.optimizers.capabilities import Capabilities, refuse_unsupported
from crystallize_opt.optimizers.last_step import LastStep, pruned
from crystallize_opt.optimizers.ledger import ABANDONED_BY_HAND, EXPIRED, Ledger, Measured
from crystallize_opt.optimizers.replay import replay
from crystallize_opt.optimizers.reports import Heard
from crystallize_opt.optimizers.unique import Dropped, Proposals, Repeats
from crystallize_opt.runtime.checks import checked_seed, drawn_seed, whole_number
from crystallize_opt.runtime.extras import versions_of
from crystallize_opt.runtime.shown import html_table, listed, number
from crystallize_opt.space.space import SearchSpace, as_space
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.calls import Event, Reported, ReportedPoint, SavedState
from crystallize_opt.trials.objective import Constraint, Objective, as_objectives
from crystallize_opt.trials.observation import Observation, Status, as_number
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd

Handle = TypeVar("Handle")

_FOR_ADAPTERS = (
    *("abandonment", "adopt_seed", "asks_in_a_row", "calls", "can_be_copied", "criterion"),
    *("hears_curve", "is_abandoned", "is_seed_drawn", "pairs_replicates", "report_replicate"),
    *(
        "ledger",
        "libraries",
        "may_use_global_random_state",
        "measured",
        "race_up_to",
        "races",
        "racing",
    ),
    *("required_metrics", "restore_state", "saved_state", "searched", "settings", "unfinished"),
)
"""What adapters and the loop of a search use. Tab completion does not list these names."""


_OTHER_CHOICES = (
    "Use recommend(), or run the best trials again: "
    "experiment.confirm(optimizer.history.top(5)).best."
)


class SpaceOptimizer(BaseOptimizer, Generic[Handle]):
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

    libraries: tuple[str, ...] = ()
    """The distributions that the backend needs; their versions are in `.versions`."""

    baseline: Observation | None = None
    """The outcome of the baseline, which `set_baseline` was given; `history.baseline`."""

    capabilities: Capabilities = Capabilities()
    """What this optimizer can do. An instance's capabilities may differ from those of its class."""

    can_be_copied: bool = True
    """Whether `copy` and `pickle` work; if not, `replay` brings another optimizer to this state."""

    may_use_global_random_state: bool = True
    """Whether the backend might draw from `random` or numpy's global generator.

    If it never does, set this to False: the loop then need not restore them before each call.
    """

    asks_in_a_row: int | None = 20
    """After how many suggestions in a row that were discarded, or of which a search knew the
    outcome, a random point takes their place; None: any number, until the backend has no more."""

    races: bool = False
    """Whether the optimizer asks for each replicate of a trial on its own."""

    pairs_replicates: bool = False
    """Whether the backend prunes by comparing replicates of the same seed, not running means."""

    duplicates: bool = False
    """Whether a search runs a point again whose outcome it knows, instead of reporting that."""

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
        self.constraints = tuple(constraints)
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

    # What a backend supplies -------------------------------------------------------------------

    @abstractmethod
    def _suggest(self) -> tuple[Handle, dict[str, Any]] | None:
        """Return the next suggestion: a handle that the backend defines, and active parameters.

        Returns:
            The suggestion, or None if the backend has none: a random point takes its place.

        Raises:
            SpaceExhausted: The backend has no points left, for example at the end of a grid.
        """

    def _suggest_batch(self, n: int) -> Sequence[tuple[Handle, dict[str, Any]]]:
        """Return up to `n` suggestions for one ask, chosen jointly.

        Called for batches only. By default there are none: `_suggest` is then called for each.

        Args:
            n: How many are needed.
        """
        return ()

    @abstractmethod
    def _insert(self, params: Mapping[str, Any]) -> Handle:
        """Accept a point that the backend did not suggest; return its handle for `_learn`.

        Args:
            params: The active parameters of a point, in canonical form and in the space's order.
        """

    @abstractmethod
    def _learn(self, handle: Handle, observation: Observation) -> None:
        """Report the outcome of a suggested or inserted point to the backend.

        Args:
            handle: The handle from `_suggest` or `_insert`.
            observation: The outcome. If its status is COMPLETED, the metrics of all objectives and
                constraints are finite floats.
        """

    def _drop(self, handle: Handle, why: Dropped) -> None:
        """Tell the backend that one of its suggestions was discarded and will have no outcome.

        Args:
            handle: The handle from `_suggest`.
            why: Whether the point violates a linear constraint or was suggested before.
        """

    def _reopen(self, handle: Handle, params: Mapping[str, Any]) -> Handle:
        """Return the handle for `_learn` of an abandoned trial that has an outcome after all.

        By default it is that of the same point, inserted once more. A backend that can take back
        what it learnt of the abandoned trial does so here, and returns `handle`.

        Args:
            handle: The handle with which `_learn` got the status ABANDONED.
            params: The trial's parameters, as for `_insert`.
        """
        return self._insert(params)

    def _complete(self, params: Mapping[str, Any]) -> tuple[Handle, dict[str, Any]]:
        """Suggest a point with the given values. By default the rest is drawn at random.

        Args:
            params: Some or all of the active parameters, in canonical form.
        """
        space = self.space if self._last_step is None else self.space.without_fidelity
        try:
            point = space.validate(params)
        except InvalidParametersError:  # Only a part of a point was given.
            point = space.validate(space.fixed(params).sample(self._rng))
        return self._insert(point), point

    def _reseed(self) -> None:
        """Begin again with `self.seed`, which has changed. Called only before the first call.

        By default nothing happens: the backend has no random choices of its own.
        """

    def _learn_baseline(self, observation: Observation, point: Mapping[str, Any] | None) -> None:
        """Learn the outcome of the baseline. By default nothing happens.

        Args:
            observation: The outcome, completed, with all required metrics.
            point: Its active parameters in canonical form and in the space's order; None if the
                baseline is no point of the space.
        """

    def _recommend(self) -> Treatment | None:
        """Return the treatment that the model takes for the best; None if there is none.

        Called only if `capabilities.recommends` is true, and if a trial may be the best.
        """
        return None

    def _report(self, handle: Handle, step: int, value: float) -> bool:
        """Report an intermediate value to the backend; return whether it would end the trial here.

        Called only if `capabilities.pruning` is true, and once for each step of a trial. The values
        are the trial's learning curve or, if it reports none, running means over its replicates:
        see `optimizers/reports.py`. Do not draw from global random generators here: a trial is
        running.

        Args:
            handle: The handle from `_suggest` or `_insert`.
            step: The step, at least 0.
            value: The value of the only objective; it may be nan or infinite.
        """
        return False

    def _pend(self, params: Mapping[str, Any], handle: Handle) -> Treatment:
        """Name a suggestion. A backend that races says here of which trial it is a replicate."""
        return self.ledger.add(params, handle)

    def race_up_to(self, replicates: int) -> None:
        """Take the largest number of replicates of a trial. Called if `races` is true."""

    def racing(self) -> Collection[str] | None:
        """Return the trials whose configuration may be suggested again with a higher fidelity.

        Their checkpoints are kept. By default none is suggested again.

        Returns:
            The names of completed trials; None if this optimizer never suggests one again.
        """
        return None

    # What users call ---------------------------------------------------------------------------

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
        for expired in self.ledger.expired():
            self.tell(self.ledger.abandonment(expired, EXPIRED))
        treatments: list[Treatment] = []
        wanted = None
        self._proposals.begin()
        try:
            for left in range(n, 0, -1):
                try:
                    handle, params = self._proposals.next(self, left)
                except SpaceExhausted:
                    if not treatments:
                        raise
                    wanted = n
                    break
                treatments.append(self._pend(params, handle))
        finally:
            # If the backend raises within a batch, the treatments before stay pending: record them.
            if treatments:
                self._proposals.known.asked += len(treatments)
                self.ledger.asked(treatments, wanted, expires)
            if n > 1:
                self._proposals.end(self)
        return treatments

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
        step, points = heard.add(step, value, metric)
        hears = self.capabilities.pruning and treatment.name not in self.ledger.abandoned
        if metric is None or metric not in points or not hears:
            return False
        known = len(heard.answers)
        prune = heard.point(step, points[metric], partial(self._report, handle))
        if len(heard.answers) > known:
            self.calls.append(ReportedPoint(treatment.name, step, points[metric], prune))
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
        report, heard = partial(self._report, handle), self.ledger.heard(treatment)
        value = metrics.get(self.objectives[0].metric, math.nan)
        prune = heard.replicate(replicate, value, report, paired=self.pairs_replicates)
        self.calls.append(Reported(treatment.name, replicate, dict(metrics), prune))
        return prune

    def hears_curve(self, replicates: int) -> bool:
        """Whether the backend hears of the learning curves of trials with so many replicates."""
        return self.capabilities.pruning and not (self.pairs_replicates and replicates > 1)

    def _teach(self, handle: Handle, observation: Observation) -> None:
        """Report to the backend how a trial has ended, and what it has not heard before of it."""
        if not self.capabilities.pruning:
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
        if not isinstance(objective_values, Observation):
            objective_values = self.ledger.observation_of(objective_values)
        observation = objective_values.checked(self.required_metrics)
        asked, handle = self.ledger.find(observation.treatment)
        if asked.name in self.ledger.abandoned:
            if observation.status is Status.ABANDONED:
                self.ledger.refuse_abandoned(asked)
            handle = self._proposals.reopen(self, handle, asked.params)
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
        given = [observations] if isinstance(observations, Observation) else list(observations)
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
        replay(self, self._proposals, events, versions, state)

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
        return {"optimizer": type(self).__name__, "optimizer's seed": self.seed, **self.versions}

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
                trial according to the model of the optimizer, if it has one (Ax).

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

    def __dir__(self) -> list[str]:
        return listed(self, _FOR_ADAPTERS)

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


def _seconds(ttl: Any) -> float:
    seconds = as_number(ttl)
    if seconds is None or isinstance(ttl, bool) or not 0 < seconds < math.inf:
        raise UsageError(f"ask(ttl=) is a number of seconds, more than 0, not {ttl!r}.")
    return seconds
