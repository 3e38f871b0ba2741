"""Drives a plain optimizer, which knows only the ask/tell protocol, like a `SpaceOptimizer`.

Only this module distinguishes the two: `driven` wraps every optimizer that is not a
`SpaceOptimizer`.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import (
    NoCompletedTrialError,
    ObjectiveError,
    ReplayDiverged,
    TellError,
    UsageError,
)
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.ledger import ABANDONED_BY_HAND
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.optimizers.unique import KnownInARow
from crystallize_opt.runtime.sync import resolve
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.calls import Asked, BaselineSet, Event, SavedState, Told
from crystallize_opt.trials.objective import Objective, as_objectives
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    from crystallize_opt.history.history import History
    from crystallize_opt.space.space import SearchSpace

_NEEDED = ("ask", "tell", "get_best_treatment", "objective")


@dataclass(slots=True, eq=False)
class _Turn:
    """A treatment that was asked for and not yet told, and its outcome once it has finished."""

    treatment: Treatment
    observation: Observation | None = None


class PlainDriver:
    """Drives an object with `ask`, `tell`, `get_best_treatment` and `objective`.

    Such an optimizer knows neither statuses nor pending trials. The driver asks again only after it
    has told the optimizer the outcome of every suggestion, and tells outcomes in the order of the
    suggestions, even if trials finish in another order. The optimizer's methods may be coroutine
    functions.

    Args:
        optimizer: The optimizer.

    Attributes:
        optimizer: The optimizer.
        criterion: What makes a trial the best.
        required_metrics: The metrics a completed trial has.
        observations: The observations that the optimizer was told, in order.
        calls: Every ask and tell, in order.
        baseline: The baseline of the last search that ran one, or None.

    Raises:
        ObjectiveError: An objective has no metric, or no known direction.
    """

    space: SearchSpace | None = None
    seed: int | None = None
    libraries: tuple[str, ...] = ()
    capabilities = Capabilities(pending=False)
    may_use_global_random_state = True
    asks_when_all_is_told = True
    races = False
    baseline: Observation | None = None
    asks_in_a_row = 20

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.settings: dict[str, Any] = {}
        self.criterion = Criterion(_objectives_of(optimizer))
        self.required_metrics = tuple(each.metric for each in self.criterion.objectives)
        self.observations: list[Observation] = []
        self._turns: deque[_Turn] = deque()
        self.calls: list[Event] = []
        self._known = KnownInARow()
        self._has_value = False

    @property
    def duplicates(self) -> bool:
        """Whether a search runs a point again whose outcome it knows: the optimizer may say so."""
        return bool(getattr(self.optimizer, "duplicates", False))

    @property
    def stands_for(self) -> type:
        """The class of the optimizer that the user built."""
        return type(self.optimizer)

    @property
    def runs_known(self) -> bool:
        """Whether the suggestions of the last ask run even if their outcomes are known.

        After many known ones in a row an unseen point would be due; but without a space there is
        none to be found, and an optimizer that repeats itself would never end.
        """
        return self._known.count >= self.asks_in_a_row

    @property
    def pending(self) -> list[Treatment]:
        """The treatments that were asked for and have not finished, in order."""
        return [turn.treatment for turn in self._turns if turn.observation is None]

    @property
    def held(self) -> list[Observation]:
        """The finished trials that wait for trials suggested before them, in order."""
        return [turn.observation for turn in self._turns if turn.observation is not None]

    @property
    def history(self) -> History:
        """The observations that the optimizer was told."""
        from crystallize_opt.history.history import History

        return History(
            list(self.observations),
            self.criterion.objectives,
            pending=self.pending,
            baseline=self.baseline,
            are_checked=True,
        )

    @property
    def unfinished(self) -> list[Treatment]:
        """The same as `pending`."""
        return self.pending

    async def ask(self, n: int = 1, *, ttl: float | None = None) -> list[Treatment]:
        """Ask the optimizer, which decides how many treatments it suggests at once.

        Raises:
            UsageError: `ttl` is given.
            TypeError: The optimizer returns something other than a list of treatments.
        """
        if ttl is not None:
            raise UsageError(
                "ask(ttl=) needs a SpaceOptimizer: a plain optimizer is asked again only when all "
                "of its suggestions have been told, and takes no late outcomes. Give a trial up by "
                "abandon()."
            )
        asked = await resolve(self.optimizer.ask())
        is_sequence = isinstance(asked, (list, tuple)) and asked
        if not is_sequence or not all(isinstance(each, Treatment) for each in asked):
            raise TypeError(f"ask() must return a list of at least one Treatment, not {asked!r}.")
        treatments = list(asked)
        self._known.begin()
        self._known.asked += len(treatments)
        self._turns.extend(map(_Turn, treatments))
        self.calls.append(Asked(tuple(treatments)))
        return treatments

    async def tell(self, observation: Observation) -> list[Observation]:
        """Tell the optimizer the outcome of a trial once all earlier suggestions have been told.

        Returns:
            The observations that this call told the optimizer, in order.

        Raises:
            TellError: The trial is not pending.
        """
        observation = observation.checked(self.required_metrics)
        for turn in self._turns:
            if turn.treatment is observation.treatment and turn.observation is None:
                turn.observation = observation
                if observation.repeats is not None:
                    self._known.known += 1
                break
        else:
            raise TellError(f"{observation.treatment.name!r} is not pending: {self.pending!r}.")
        told: list[Observation] = []
        while self._turns and (first := self._turns[0].observation) is not None:
            self._turns.popleft()
            await resolve(self.optimizer.tell(self._in_plain_words(first)))
            self._has_value |= first.status.has_value
            self.observations.append(first)
            self.calls.append(Told(first))
            told.append(first)
        return told

    def abandonment(self, treatment: Treatment | str) -> Observation:
        """Return the observation that ends a pending treatment without an outcome.

        Raises:
            TellError: The treatment is not pending, or several pending ones have the name.
        """
        found = [each for each in self.pending if treatment in (each, each.name)]
        if len(found) != 1:
            what = "is not pending" if not found else "is the name of several pending treatments"
            raise TellError(f"{treatment!r} {what}. Pending: {self.pending!r}.")
        return Observation(found[0], status=Status.ABANDONED, error=ABANDONED_BY_HAND)

    def is_abandoned(self, treatment: Treatment) -> bool:
        """Always false: a plain optimizer is told once, and takes no late outcome."""
        return False

    def set_baseline(self, baseline: Observation, point: Mapping[str, Any] | None = None) -> None:
        """Keep the outcome of the baseline; a plain optimizer does not learn it."""
        self.baseline = baseline
        self.calls.append(BaselineSet(baseline, point))

    async def get_best_treatment(self) -> Treatment:
        """Return the optimizer's best treatment.

        Raises:
            NoCompletedTrialError: No trial completed. (The optimizer, which knows no failures,
                might return a failed trial.)
        """
        if not self._has_value:
            raise NoCompletedTrialError(
                f"There is no best treatment: {self.criterion.why_none(self.observations)}"
            )
        best: Treatment = await resolve(self.optimizer.get_best_treatment())
        return best

    async def replay(
        self,
        events: Iterable[Event],
        versions: Mapping[str, str] | None = None,
        state: SavedState | None = None,
    ) -> None:
        """Repeat recorded asks and tells on a fresh optimizer, and compare its suggestions.

        Args:
            events: The recorded events. A trial that is told there has finished.
            versions: Not used: a plain optimizer names no libraries.
            state: Not used: a plain optimizer has no state to restore.

        Raises:
            ReplayDiverged: A suggestion differs from the recorded one.
        """
        now: dict[int, Treatment] = {}
        for event in events:
            if isinstance(event, Asked):
                asked = await self.ask()
                texts = [list(map(_text, each)) for each in (event.treatments, asked)]
                if texts[0] != texts[1]:
                    raise ReplayDiverged(
                        f"The replay diverges at {event.treatments[0].name!r}: recorded "
                        f"{texts[0]}, now {texts[1]}. Give a fresh optimizer with a fixed seed."
                    )
                now.update(zip(map(id, event.treatments), asked, strict=True))
            elif isinstance(event, Told):
                treatment = now[id(event.observation.treatment)]
                await self.tell(dataclasses.replace(event.observation, treatment=treatment))
            elif isinstance(event, BaselineSet):
                self.set_baseline(event.observation, event.point)

    def _in_plain_words(self, observation: Observation) -> Observation:
        """Return an observation with the objectives' metrics only.

        For a trial that did not complete they are infinite on the worse side, so the optimizer
        learns of the trial but never chooses it.
        """
        completed = observation.status is Status.COMPLETED
        metrics = {
            each.metric: observation[each.metric] if completed else each.worst
            for each in self.criterion.objectives
        }
        return dataclasses.replace(observation, metrics=metrics)


Driven = SpaceOptimizer[Any] | PlainDriver
"""An optimizer that a search can drive."""


def driven(optimizer: Any) -> Driven:
    """Return a `SpaceOptimizer` itself, and any other optimizer wrapped in a `PlainDriver`.

    Raises:
        TypeError: The optimizer lacks a method.
        ObjectiveError: An objective has no metric, or no known direction.
    """
    if isinstance(optimizer, (SpaceOptimizer, PlainDriver)):
        return optimizer
    missing = [name for name in _NEEDED if not hasattr(optimizer, name)]
    if isinstance(optimizer, type) or missing:
        what = "a class; build it first" if isinstance(optimizer, type) else f"without {missing}"
        raise TypeError(f"An optimizer has {', '.join(_NEEDED)}; {optimizer!r} is {what}.")
    return PlainDriver(optimizer)


def hears_replicates(optimizer: Driven) -> bool:
    """Whether the optimizer uses reports of single replicates."""
    inherited = SpaceOptimizer.report_replicate
    own = getattr(type(optimizer), "report_replicate", inherited)
    return optimizer.capabilities.pruning or own is not inherited


def heard_metric(optimizer: Driven, replicates: int) -> str | None:
    """Return the metric of whose curve an optimizer hears; None if it hears of none.

    Args:
        optimizer: The optimizer.
        replicates: How many replicates a trial has.
    """
    if isinstance(optimizer, PlainDriver) or not optimizer.hears_curve(replicates):
        return None
    return optimizer.objectives[0].metric


def _objectives_of(optimizer: Any) -> tuple[Objective, ...]:
    """Return the objectives of an optimizer, which may use its own class for them."""
    objective = optimizer.objective
    several = objective if isinstance(objective, (list, tuple)) else (objective,)
    for each in several:
        if not hasattr(each, "metric") or not hasattr(each, "direction"):
            raise ObjectiveError(
                f"The objective of {type(optimizer).__name__} needs a metric and a direction, such "
                f"as Objective('loss', 'minimize'); {each!r} lacks them."
            )
    return as_objectives(
        [
            each if isinstance(each, Objective) else Objective(each.metric, each.direction)
            for each in several
        ]
    )


def _text(treatment: Treatment) -> str:
    from crystallize_opt.storage.records import TrialFormat, to_text  # JSON is slow to import.

    return to_text(TrialFormat(None).write_treatment(treatment))
