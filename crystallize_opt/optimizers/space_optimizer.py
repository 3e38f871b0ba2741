"""The ask/tell protocol, and the base of every optimizer over a search space."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Self, TypeVar

from crystallize_opt.errors import (
    InvalidParametersError,
    NoCompletedTrialError,
    ReplayDiverged,
    SpaceExhausted,
    TellError,
    UnknownMetricError,
    UsageError,
)
from crystallize_opt.optimizers.base import BaseOptimizer
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.plain_data import describe
from crystallize_opt.runtime.checks import checked_seed
from crystallize_opt.runtime.extras import versions_of
from crystallize_opt.space.space import SearchSpace, as_space
from crystallize_opt.trials.best import dominates
from crystallize_opt.trials.calls import Asked, Attached, Event, Reported, SavedState, Told
from crystallize_opt.trials.objective import Constraint, Objective, as_objectives
from crystallize_opt.trials.observation import Observation, Status, as_number
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd

    from crystallize_opt.history.history import History

Handle = TypeVar("Handle")


class _Pending(NamedTuple):
    treatment: Treatment
    handle: Any


class SpaceOptimizer(BaseOptimizer, Generic[Handle]):
    """The base of all optimizers over a `SearchSpace`.

    It keeps the ledger: names of trials, which are pending, what was told, the best. A backend
    supplies `_suggest` and `_learn`, and where it can `_learn_attached` and `report`.

    Args:
        space: A `SearchSpace`, or the mapping that builds one.
        objective: One objective, or several for a multi-objective search.
        constraints: Outcome constraints. A trial that violates one is never the best.
        seed: The seed of all random choices, at least 0 and less than 2**32; None for a random one.

    Attributes:
        space: The search space.
        objective: The objective as it was given.
        objectives: The objectives, always as a tuple.
        constraints: The outcome constraints.
        seed: The seed as it was given.
        required_metrics: The metrics of objectives and constraints: a completed trial has them all.
        settings: The other arguments it was built with, as plain data.
    """

    settings: dict[str, Any]
    __signature__: ClassVar[inspect.Signature]

    libraries: tuple[str, ...] = ()
    """The names of the distributions a backend needs, for `.versions`."""

    capabilities: Capabilities = Capabilities()
    """What this optimizer can do. An instance may differ from its class: see its own."""

    may_use_global_random_state: bool = True
    """Whether a backend might draw from `random` or numpy's global generator.

    Where it surely does not, the loop saves the time of putting them back before each call.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Else `help()` and editors show that of `__new__`.
        signature = inspect.signature(cls.__init__)
        own = [each for each in signature.parameters.values() if each.name != "self"]
        cls.__signature__ = signature.replace(parameters=own)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Describe the arguments, by which a stored run knows an optimizer again."""
        optimizer = super().__new__(cls)
        # What does not fit, `__init__` refuses with a better message.
        with contextlib.suppress(TypeError):
            optimizer.settings = _settings(cls.__signature__, args, kwargs)
        return optimizer

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
    ) -> None:
        self.space = as_space(space)
        self.objectives = as_objectives(objective)
        super().__init__(self.objectives[0] if len(self.objectives) == 1 else self.objectives)
        self.constraints = tuple(constraints)
        self.seed = None if seed is None else checked_seed(seed)
        self.required_metrics = (
            *(each.metric for each in self.objectives),
            *(each.metric for each in self.constraints),
        )
        self._pending: dict[str, _Pending] = {}
        self._observations: list[Observation] = []
        self._events: list[Event] = []
        self._best: Observation | None = None
        self._best_cost = math.inf
        self._count = 0
        self._attached_names: set[str] = set()

    # What a backend supplies -------------------------------------------------------------------

    @abstractmethod
    def _suggest(self) -> tuple[Handle, dict[str, Any]]:
        """Return the next suggestion: the backend's own handle, and the active parameters.

        Raises:
            SpaceExhausted: A finite space has been used up.
        """

    @abstractmethod
    def _learn(self, handle: Handle, observation: Observation) -> None:
        """Tell the backend what came of one of its suggestions.

        Args:
            handle: What `_suggest` returned.
            observation: Where its status is COMPLETED, every objective and constraint metric is a
                finite float.
        """

    @abstractmethod
    def _learn_attached(self, observation: Observation) -> None:
        """Tell the backend of a trial it did not suggest; its parameters are in the space."""

    def _report(self, handle: Handle, replicate: int, metrics: Mapping[str, float]) -> bool:
        """Tell the backend of one finished replicate; return whether it would end the trial here.

        Called only where `capabilities.pruning`.

        Args:
            handle: What `_suggest` returned.
            replicate: The replicate's index, from 0, in order.
            metrics: Its metrics.
        """
        return False

    def _state_before_ask(self) -> str | None:
        """Return what the next suggestion depends on besides events, as JSON.

        For a backend that can be told its own suggestions more cheaply than it makes them again.
        None: all asks are replayed.
        """
        return None

    def _repeat_suggestion(self, params: Mapping[str, Any]) -> Handle:
        """Do what `_suggest` does when it suggests these parameters, without choosing them.

        Called only where `_state_before_ask` returned a state.
        """
        raise NotImplementedError

    def _restore_state(self, state: str) -> None:
        """Put back what `_state_before_ask` returned."""
        raise NotImplementedError

    # What users call ---------------------------------------------------------------------------

    def ask(self, n: int = 1) -> list[Treatment]:
        """Suggest `n` treatments, which are pending until they are told.

        Returns:
            `n` treatments; fewer where a finite space ends within the batch.

        Raises:
            SpaceExhausted: A finite space has been used up.
        """
        if not isinstance(n, int) or n < 1:
            raise UsageError(f"ask() takes a whole number of treatments, at least 1, not {n!r}.")
        treatments: list[Treatment] = []
        try:
            for _ in range(n):
                try:
                    handle, params = self._suggest()
                except SpaceExhausted:
                    if treatments:
                        break
                    raise
                treatment = Treatment(self._new_name(), params)
                self._pending[treatment.name] = _Pending(treatment, handle)
                treatments.append(treatment)
        finally:
            # Also where the backend raises within the batch: what is pending was asked for.
            if treatments:
                self._events.append(Asked(tuple(treatments)))
        return treatments

    def report(self, treatment: Treatment, replicate: int, metrics: Mapping[str, float]) -> bool:
        """Hear of one finished replicate of a pending treatment, in order.

        Args:
            treatment: A pending treatment.
            replicate: The replicate's index, from 0.
            metrics: Its metrics.

        Returns:
            Whether the backend would end the trial here: its observation is then to be `PRUNED`.

        Raises:
            TellError: The treatment is not pending.
        """
        if not self.capabilities.pruning:
            return False
        prune = self._report(self._pending_for(treatment).handle, replicate, metrics)
        self._events.append(Reported(treatment.name, replicate, dict(metrics), prune))
        return prune

    def tell(self, objective_values: Mapping[str, float]) -> None:
        """Learn what came of a pending treatment.

        A COMPLETED observation whose objective is nan, infinite, missing or no number is recorded,
        and told to the backend, as INVALID.

        Args:
            objective_values: An `Observation`; or a plain mapping of metric to value, where exactly
                one treatment is pending.

        Raises:
            TellError: The treatment was told before or never asked for; or a plain mapping while
                none or several treatments are pending.
            UnknownMetricError: A plain mapping without an objective.
        """
        if not isinstance(objective_values, Observation):
            objective_values = self._observation_of_pending(objective_values)
        observation = objective_values.checked(self.required_metrics)
        pending = self._pending_for(observation.treatment)
        self._learn(pending.handle, observation)
        del self._pending[pending.treatment.name]
        self._events.append(Told(observation))
        self._record(observation)

    def attach(
        self,
        observations: Observation | Iterable[Observation] | pd.DataFrame | str | PathLike[str],
        *,
        skip_outside: bool = False,
    ) -> int:
        """Learn from trials this optimizer did not ask for: a warm start, or another backend's.

        Args:
            observations: A `History`, or observations; or a DataFrame, or the path of a CSV file,
                as `History.to_frame` makes them (the columns may also have the bare names of
                parameters and metrics). The parameters must be points of the space.
            skip_outside: Whether to leave out those that are not, instead of refusing all.

        Returns:
            How many were left out.

        Raises:
            InvalidParametersError: One is not a point of the space; then none has been attached.
        """
        if (
            isinstance(observations, str)
            or hasattr(observations, "__fspath__")
            or hasattr(observations, "columns")
        ):
            from crystallize_opt.history.tables import observations_in

            observations = observations_in(observations, self.space, self.required_metrics)
        given = [observations] if isinstance(observations, Observation) else list(observations)
        inside: list[Observation] = []
        for observation in given:
            treatment = observation.treatment
            try:
                point = self.space.validate(treatment.params)
            except InvalidParametersError as error:
                if skip_outside:
                    continue
                raise InvalidParametersError(
                    f"Cannot attach {observation.treatment.name!r}: {error} (To leave out what is "
                    "outside of the space: skip_outside=True.)"
                ) from None
            if any(
                type(point[name]) is not type(value) for name, value in treatment.params.items()
            ):
                plain = Treatment(treatment.name, point)
                observation = dataclasses.replace(observation, treatment=plain)
            inside.append(observation)
        for observation in inside:
            checked = observation.checked(self.required_metrics)
            self._learn_attached(checked)
            self._count += 1
            self._attached_names.add(checked.treatment.name)
            self._events.append(Attached(checked))
            self._record(checked)
        return len(given) - len(inside)

    def replay(
        self,
        events: Iterable[Event],
        versions: Mapping[str, str] | None = None,
        state: SavedState | None = None,
    ) -> None:
        """Go through a recorded order of asks and tells again, proving each suggestion equal.

        A fresh optimizer with the same arguments is then where the recorded one was.

        Args:
            events: The `.events` of the recorded optimizer.
            versions: Its `.versions`, for the message of the error.
            state: What a stored run holds of an ask, where the backend has such a state. The
                backend then takes the suggestions before it as its own, and only that ask and those
                after it are made again, and proved equal.

        Raises:
            ReplayDiverged: A suggestion, or a wish to prune, differs from the recorded one.
        """
        asks = 0
        for event in events:
            if isinstance(event, Asked):
                asks += 1
                if state is not None and asks <= state.asks:
                    self._repeat(event)
                    continue
                if state is not None and asks == state.asks + 1:
                    self._restore_state(state.data)
                try:
                    asked = self.ask(len(event.treatments))
                except SpaceExhausted:
                    asked = []
                self._compare(event.treatments, asked, versions)
            elif isinstance(event, Attached):
                self.attach(event.observation)
            else:
                name = (
                    event.name if isinstance(event, Reported) else event.observation.treatment.name
                )
                if name not in self._pending:
                    raise TellError(f"The recorded order tells {name!r} before it asks for it.")
                treatment = self._pending[name].treatment
                if isinstance(event, Told):
                    self.tell(dataclasses.replace(event.observation, treatment=treatment))
                elif self.report(treatment, event.replicate, event.metrics) != event.prune:
                    raise self._diverged(name, f"prune={event.prune}", "the opposite", versions)

    def _repeat(self, event: Asked) -> None:
        treatments = []
        for recorded in event.treatments:
            handle = self._repeat_suggestion(recorded.params)
            treatment = Treatment(self._new_name(), recorded.params)
            self._pending[treatment.name] = _Pending(treatment, handle)
            treatments.append(treatment)
        self._events.append(Asked(tuple(treatments)))

    @property
    def events(self) -> list[Event]:
        """Every ask, report, tell and attach, in order: what `replay` takes."""
        return list(self._events)

    def events_after(self, count: int) -> list[Event]:
        """Return the events after the first `count`, without a copy of all."""
        return self._events[count:]

    @property
    def versions(self) -> dict[str, str]:
        """The versions of Python, of this package and of the backend's libraries."""
        return versions_of(self.libraries)

    @property
    def pending(self) -> list[Treatment]:
        """The treatments asked for and not yet told, in order."""
        return [pending.treatment for pending in self._pending.values()]

    @property
    def observations(self) -> list[Observation]:
        """Everything that was told or attached, in order."""
        return list(self._observations)

    @property
    def history(self) -> History:
        """Everything that was told or attached, with its best, as a table, and to show."""
        from crystallize_opt.history.history import History

        return History(
            self.observations,
            self.objectives,
            self.constraints,
            space=self.space,
            pending=self.pending,
        )

    def get_best_treatment(self) -> Treatment:
        """Return the best treatment: of completed trials that satisfy the constraints.

        With several objectives: the one of `pareto_front()` that is closest to the best value of
        every objective, each scaled to its range over the front.

        Raises:
            NoCompletedTrialError: There is none.
        """
        if self._best is None:
            raise NoCompletedTrialError(self._why_no_best())
        if len(self.objectives) == 1:
            return self._best.treatment
        front = self.pareto_front()
        costs = [self._costs(observation) for observation in front]
        lows = [min(column) for column in zip(*costs, strict=True)]
        spans = [
            max(column) - low for column, low in zip(zip(*costs, strict=True), lows, strict=True)
        ]

        def distance(cost: Sequence[float]) -> float:
            return math.hypot(
                *((c - low) / span for c, low, span in zip(cost, lows, spans, strict=True) if span)
            )

        return min(zip(front, costs, strict=True), key=lambda pair: distance(pair[1]))[0].treatment

    def pareto_front(self) -> list[Observation]:
        """Return the completed, feasible observations that no other one dominates, in order.

        With one objective: the best one, and those equal to it.
        """
        candidates = [
            (observation, self._costs(observation))
            for observation in self._observations
            if self._is_candidate(observation)
        ]
        return [
            observation
            for observation, costs in candidates
            if not any(dominates(other, costs) for _, other in candidates)
        ]

    # The ledger --------------------------------------------------------------------------------

    def _new_name(self) -> str:
        """Return a name that no trial has, not even one that was attached."""
        while (name := f"trial_{self._count}") in self._attached_names:
            self._count += 1
        self._count += 1
        return name

    def _observation_of_pending(self, told: Mapping[str, float]) -> Observation:
        """Return the observation that a plain mapping stands for."""
        if not isinstance(told, Mapping):
            raise TellError(
                "tell() takes an Observation, or a mapping such as "
                f"{{{self.objectives[0].metric!r}: 0.5}}, not {told!r}."
            )
        if len(self._pending) != 1:
            raise TellError(
                "A plain mapping can be told only while exactly one treatment is pending; "
                f"{len(self._pending)} are: {', '.join(map(repr, self._pending)) or 'none'}. Tell "
                "Observation(treatment, metrics) instead."
            )
        for metric in self.required_metrics:
            if metric not in told:
                raise UnknownMetricError(
                    f"The metric {metric!r} is missing. Given: "
                    f"{', '.join(map(repr, told)) or 'none'}."
                )
        (pending,) = self._pending.values()
        metrics = dict(told)
        for name, value in told.items():
            # What is no number at all stays as it is: `checked` then names it.
            if type(value) is not float and (number := as_number(value)) is not None:
                metrics[name] = number
        return Observation(pending.treatment, metrics)

    def _pending_for(self, treatment: Treatment) -> _Pending:
        """Find the pending entry of a treatment, which may have been to another process."""
        pending = self._pending.get(treatment.name)
        if pending is None:
            told = any(treatment.name == each.treatment.name for each in self._observations)
            what = "has already been told" if told else "was never asked for"
            raise TellError(
                f"{treatment.name!r} {what}. Pending: "
                f"{', '.join(map(repr, self._pending)) or 'none'}. For trials of your own use "
                "attach()."
            )
        if treatment is not pending.treatment and not self._same(treatment, pending.treatment):
            raise TellError(
                f"{treatment.name!r} with {dict(treatment.params)!r} is not the treatment this "
                f"optimizer asked for under that name, {dict(pending.treatment.params)!r}."
            )
        return pending

    def _compare(
        self,
        recorded: Sequence[Treatment],
        asked: Sequence[Treatment],
        versions: Mapping[str, str] | None,
    ) -> None:
        for old, new in zip_longest(recorded, asked):
            if old is None or new is None or old.name != new.name or not self._same(old, new):
                before, now = (str(each and dict(each.params)) for each in (old, new))
                raise self._diverged((old or new).name, before, now, versions)

    def _same(self, one: Treatment, other: Treatment) -> bool:
        """Whether two treatments are the same point; of choices, equal ones are the same."""
        try:
            keys = [self.space.key(self.space.validate(each.params)) for each in (one, other)]
        except InvalidParametersError:
            return False
        return keys[0] == keys[1]

    def _diverged(
        self, name: str, recorded: str, now: str, versions: Mapping[str, str] | None
    ) -> ReplayDiverged:
        return ReplayDiverged(
            f"The replay diverges at {name!r}: recorded {recorded}, now {now}. Versions recorded: "
            f"{dict(versions) if versions else 'unknown'}; now: {self.versions}. With the same "
            "space, objective, seed, settings and versions it would not."
        )

    def _record(self, observation: Observation) -> None:
        self._observations.append(observation)
        if self._is_candidate(observation):
            objective = self.objectives[0]
            cost = objective.sign * observation.metrics[objective.metric]
            if self._best is None or cost < self._best_cost:
                self._best, self._best_cost = observation, cost

    def _is_candidate(self, observation: Observation) -> bool:
        if observation.status is not Status.COMPLETED:
            return False
        return not self.constraints or all(
            each.violation(observation[each.metric]) <= 0 for each in self.constraints
        )

    def _costs(self, observation: Observation) -> tuple[float, ...]:
        return tuple(each.sign * observation[each.metric] for each in self.objectives)

    def _why_no_best(self) -> str:
        if not self._observations:
            return "There is no best treatment: nothing has been told yet."
        if any(o.status is Status.COMPLETED for o in self._observations):
            return f"There is no best treatment: no trial satisfies {list(self.constraints)!r}."
        last = self._observations[-1]
        return (
            f"There is no best treatment: none of {len(self._observations)} trials completed. The "
            f"last, {last.treatment.name!r}, is {last.status.value}: {last.error}"
        )


def _settings(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    given = signature.bind(*args, **kwargs)
    given.apply_defaults()
    described = ("space", "objective", "constraints", "seed")
    return {
        name: describe(value) for name, value in given.arguments.items() if name not in described
    }
