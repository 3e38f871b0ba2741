"""The base of every optimizer over a search space."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from crystallize_opt.errors import InvalidParametersError, NoCompletedTrialError, SpaceExhausted
from crystallize_opt.history.history import History
from crystallize_opt.optimizers.base import BaseOptimizer
from crystallize_opt.optimizers.capabilities import Capabilities, refuse_unsupported
from crystallize_opt.optimizers.ledger import Ledger, Measured
from crystallize_opt.optimizers.replay import replay
from crystallize_opt.optimizers.unique import Dropped, Proposals, Repeats
from crystallize_opt.plain_data import describe
from crystallize_opt.runtime.checks import checked_seed, whole_number
from crystallize_opt.runtime.extras import versions_of
from crystallize_opt.space.space import SearchSpace, as_space
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.calls import Event, Reported, SavedState
from crystallize_opt.trials.objective import Constraint, Objective, as_objectives
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd

Handle = TypeVar("Handle")


class SpaceOptimizer(BaseOptimizer, Generic[Handle]):
    """The base of all optimizers over a `SearchSpace`.

    It keeps the ledger, asks the backend again where a suggestion cannot be tried, and knows the
    best. A backend supplies `_suggest`, `_insert` and `_learn`, and `_drop` where it has handles.

    Args:
        space: A `SearchSpace`, or the mapping that builds one.
        objective: One objective, or several for a multi-objective search.
        constraints: Outcome constraints. A trial that violates one is never the best.
        seed: The seed of all random choices, at least 0 and less than 2**32; None for a random one.
        settings: The other arguments of the backend by name, by which a stored run recognizes the
            optimizer.
        capabilities: What was built, where it differs from the class' `capabilities`.
        repeats: Whether a point may be suggested again: `"allowed"`, `"not pending"` (not while it
            is pending) or `"never"`. Unless allowed, a finite space ends with `SpaceExhausted`.
        gives_up: Where given, the search ends with this message after too many suggestions that
            are dropped, and no random point takes their place.
        fidelity: The name of the parameter that is the fidelity of a trial: the best trial is one
            of the highest fidelity.

    Attributes:
        space: The search space.
        objective: The objective as it was given.
        objectives: The objectives, always as a tuple.
        constraints: The outcome constraints.
        criterion: What makes a trial the best.
        seed: The seed as it was given.
        required_metrics: The metrics of objectives and constraints: a completed trial has them all.
        settings: The other arguments, as plain data.
        ledger: What was asked, told and attached.
        calls: Every ask, enqueue, report, tell and attach, in order.
        measured: The extremes of what was measured. A backend that needs a value for a failed trial
            takes the worst.

    Raises:
        UnsupportedSpaceError: The space has something that `capabilities` does not declare.
        ObjectiveError: Several objectives are given to an optimizer that takes one.
    """

    libraries: tuple[str, ...] = ()
    """The names of the distributions a backend needs, for `.versions`."""

    capabilities: Capabilities = Capabilities()
    """What this optimizer can do. An instance may differ from its class: see its own."""

    may_use_global_random_state: bool = True
    """Whether a backend might draw from `random` or numpy's global generator.

    Where it surely does not, the loop saves the time of putting them back before each call.
    """

    asks_in_a_row: ClassVar[int | None] = 20
    """How many suggestions in a row may be dropped before a random point takes their place."""

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
        fidelity: str | None = None,
    ) -> None:
        self.space = as_space(space)
        self.objectives = as_objectives(objective)
        super().__init__(self.objectives[0] if len(self.objectives) == 1 else self.objectives)
        self.constraints = tuple(constraints)
        self.seed = None if seed is None else checked_seed(seed)
        self.criterion = Criterion(self.objectives, self.constraints, fidelity)
        self.required_metrics = self.criterion.metrics
        # At once, because an argument may change later: a sampler that has been used.
        self.settings = {name: describe(value) for name, value in (settings or {}).items()}
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
        self._proposals = Proposals(
            self.space,
            self.ledger,
            self._rng,
            repeats,
            asks_in_a_row=self.asks_in_a_row,
            gives_up=gives_up,
            apart_from=fidelity,
        )

    # What a backend supplies -------------------------------------------------------------------

    @abstractmethod
    def _suggest(self) -> tuple[Handle, dict[str, Any]] | None:
        """Return the next suggestion: the backend's own handle, and the active parameters.

        Returns:
            None where the backend has no suggestion: a random point takes its place.

        Raises:
            SpaceExhausted: The backend is at the end of the search, a grid for example.
        """

    @abstractmethod
    def _insert(self, params: Mapping[str, Any]) -> Handle:
        """Take a point that the backend did not suggest; return its handle for `_learn`.

        Args:
            params: The active parameters of a point, in canonical form and in the space's order.
        """

    @abstractmethod
    def _learn(self, handle: Handle, observation: Observation) -> None:
        """Tell the backend what came of a point, whether suggested or inserted.

        Args:
            handle: What `_suggest` or `_insert` returned.
            observation: Where its status is COMPLETED, every objective and constraint metric is a
                finite float.
        """

    def _drop(self, handle: Handle, why: Dropped) -> None:
        """Tell the backend that one of its suggestions is not tried, and asked for no outcome.

        Args:
            handle: What `_suggest` returned.
            why: Whether the point violates a linear constraint or was suggested before.
        """

    def _complete(self, params: Mapping[str, Any]) -> tuple[Handle, dict[str, Any]]:
        """Suggest a point that has some given values. By default the rest is drawn at random.

        Args:
            params: Some or all of the active parameters, in canonical form.
        """
        try:
            point = self.space.validate(params)
        except InvalidParametersError:  # A part of a point.
            point = self.space.validate(self.space.fixed(params).sample(self._rng))
        return self._insert(point), point

    def _report(self, handle: Handle, replicate: int, metrics: Mapping[str, float]) -> bool:
        """Tell the backend of one finished replicate; return whether it would end the trial here.

        Called only where `capabilities.pruning`.

        Args:
            handle: What `_suggest` or `_insert` returned.
            replicate: The replicate's index, from 0, in order.
            metrics: Its metrics.
        """
        return False

    # What users call ---------------------------------------------------------------------------

    def ask(self, n: int = 1) -> list[Treatment]:
        """Suggest `n` treatments, which are pending until they are told.

        Returns:
            `n` treatments; fewer where a finite space ends within the batch.

        Raises:
            SpaceExhausted: A finite space has been used up.
        """
        n = 1 if n == 1 else whole_number("The number of treatments to ask for", n)
        treatments: list[Treatment] = []
        try:
            for _ in range(n):
                try:
                    handle, params = self._proposals.next(self)
                except SpaceExhausted:
                    if treatments:
                        break
                    raise
                treatments.append(self.ledger.add(params, handle))
        finally:
            # Also where the backend raises within the batch: what is pending was asked for.
            if treatments:
                self.ledger.asked(treatments)
        return treatments

    def enqueue(self, *points: Mapping[str, Any]) -> None:
        """Have points suggested first, in this order, before the backend's own suggestions.

        Args:
            *points: Parameter names to values: of a whole point, or of some of its parameters (a
                parameter with a condition needs its parents). The backend chooses the rest where it
                can; else it is drawn at random.

        Raises:
            InvalidParametersError: A name or a value is not in the space. Then nothing is enqueued.

        Example:
            >>> from crystallize_opt.adapters import RandomOptimizer
            >>> optimizer = RandomOptimizer({"x": (0, 9), "y": (0, 9)}, Objective("m", "minimize"))
            >>> optimizer.enqueue({"x": 1, "y": 2}, {"y": 7})
            >>> [treatment.params["y"] for treatment in optimizer.ask(2)]
            [2, 7]
        """
        self.ledger.enqueue(points)

    def report(self, treatment: Treatment, replicate: int, metrics: Mapping[str, float]) -> bool:
        """Take note of one finished replicate of a pending treatment, in order.

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
        prune = self._report(self.ledger.find(treatment).handle, replicate, metrics)
        self.ledger.reported(Reported(treatment.name, replicate, dict(metrics), prune))
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
            objective_values = self.ledger.observation_of(objective_values)
        observation = objective_values.checked(self.required_metrics)
        handle = self.ledger.find(observation.treatment).handle
        if self.capabilities.pruning:
            self.ledger.report_rest(self._report, handle, observation)
        self.measured.teach(self._learn, handle, observation)
        self.ledger.told(observation)

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
            try:
                inside.append(self.ledger.canonical(observation))
            except InvalidParametersError as error:
                if not skip_outside:
                    raise InvalidParametersError(
                        f"Cannot attach {observation.treatment.name!r}: {error} (To leave out what "
                        "is outside of the space: skip_outside=True.)"
                    ) from None
        for observation in inside:
            params = observation.treatment.params
            handle = self._insert(params)
            if self.capabilities.pruning:
                self.ledger.report_rest(self._report, handle, observation)
            self.measured.teach(self._learn, handle, observation)
            self._proposals.add(params)
            self.ledger.attached(observation)
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
            state: What a stored run holds of an ask, where the backend has such a state
                (`SavesState`). The backend then takes the suggestions before it as its own, and
                only that ask and those after it are made again, and proved equal.

        Raises:
            ReplayDiverged: A suggestion, or a wish to prune, differs from the recorded one.
        """
        replay(self, self._proposals, events, versions, state)

    @property
    def events(self) -> list[Event]:
        """Every ask, enqueue, report, tell and attach, in order: what `replay` takes."""
        return list(self.ledger.calls)

    @property
    def versions(self) -> dict[str, str]:
        """The versions of Python, of this package and of the backend's libraries."""
        return versions_of(self.libraries)

    @property
    def pending(self) -> list[Treatment]:
        """The treatments asked for and not yet told, in order."""
        return [pending.treatment for pending in self.ledger.pending.values()]

    @property
    def observations(self) -> list[Observation]:
        """Everything that was told or attached, in order."""
        return list(self.ledger.observations)

    @property
    def history(self) -> History:
        """Everything that was told or attached, with its best, as a table, and to show."""
        return History(
            self.observations,
            self.objectives,
            self.constraints,
            space=self.space,
            pending=self.pending,
            fidelity=self.criterion.fidelity,
        )

    def get_best_treatment(self) -> Treatment:
        """Return the best treatment: of completed trials that satisfy the constraints.

        With several objectives: the one of `pareto_front()` that is closest to the best value of
        every objective, each scaled to its range over the front.

        Raises:
            NoCompletedTrialError: There is none.
        """
        best = self.ledger.best.best
        if best is None:
            raise NoCompletedTrialError(self.ledger.why_no_best())
        return best.treatment

    def pareto_front(self) -> list[Observation]:
        """Return the completed, feasible observations that no other one dominates, in order.

        With one objective: the best one, and those equal to it.
        """
        return self.criterion.front(self.ledger.observations)
