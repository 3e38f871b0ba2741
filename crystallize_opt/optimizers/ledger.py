"""The ledger of an optimizer over a search space: its asks, tells, attached and pending trials."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from crystallize_opt.errors import InvalidParametersError, TellError, UnknownMetricError
from crystallize_opt.optimizers.reports import Heard
from crystallize_opt.space.parameter import canonical_value, refuse_unknown
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.best_so_far import BestSoFar
from crystallize_opt.trials.calls import (
    Asked,
    Attached,
    BaselineSet,
    Enqueued,
    Event,
    Told,
    replaced_by,
)
from crystallize_opt.trials.curves import HEARD_REPLICATE, last_value
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.raced import joined
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import RacedReplicate, Treatment

ABANDONED_BY_HAND = "It was abandoned."
EXPIRED = "It had no outcome in the time that ask(ttl=...) allows."


class Pending(NamedTuple):
    """A treatment that was asked for and not yet told, with the backend's handle."""

    treatment: Treatment
    handle: Any


class Ledger:
    """Keeps the names of trials, pending treatments, observations, and every call in order.

    Args:
        space: The search space.
        criterion: What makes a trial the best.

    Attributes:
        calls: Every ask, enqueue, report, tell and attach, in order.
        pending: The pending treatments, by name, in order.
        abandoned: The abandoned treatments, by name: a late outcome of them may still be told.
        observations: Every observation that was told or attached, in order.
        deadlines: Of pending treatments with a time limit: when they expire.
        clock: Returns the seconds since the epoch. The only clock of deadlines.
        enqueued: The points to suggest first, in order.
        best: The best trial so far.
        reported: What was reported of treatments that have not ended, by name.
        left_out: The trials that were not attached, because they do not fit.
    """

    def __init__(self, space: SearchSpace, criterion: Criterion) -> None:
        self.calls: list[Event] = []
        self.pending: dict[str, Pending] = {}
        self.abandoned: dict[str, Pending] = {}
        self.deadlines: dict[str, float] = {}
        self.clock: Callable[[], float] = time.time
        self._is_replaying = False
        self.observations: list[Observation] = []
        self.enqueued: deque[dict[str, Any]] = deque()
        self.best = BestSoFar(criterion)
        self.left_out: list[Observation] = []
        self._space = space
        self._criterion = criterion
        self._count = 0
        self._names: set[str] = set()  # Of all trials: a name stands for one trial only.
        self._last_number: dict[str, int] = {}  # Of attached trials, by the name they had before.
        self.reported: dict[str, Heard] = {}
        self._positions: dict[str, int] = {}  # In a race: of observations, by the trial's name.

    def add(self, params: Mapping[str, Any], handle: Any) -> Treatment:
        """Name a suggestion, and return it as a pending treatment."""
        while (name := f"trial_{self._count}") in self._names:
            self._count += 1
        self._count += 1
        self._names.add(name)
        treatment = Treatment(name, params)
        self.pending[name] = Pending(treatment, handle)
        return treatment

    def add_replicate(
        self, params: Mapping[str, Any], handle: Any, replicate: int, of: str | None
    ) -> RacedReplicate:
        """Name a suggestion of a race: one replicate of a new trial, or of a known one.

        Args:
            params: The parameters.
            handle: The backend's handle.
            replicate: The number of the replicate.
            of: The name of the trial; None for a new one.
        """
        treatment = self.add(params, handle)
        del self.pending[treatment.name]
        if of is None:
            of = name = treatment.name
        else:
            self._names.remove(treatment.name)
            self._count -= 1  # The number is that of the next new trial.
            name, again = f"{of}, replicate {replicate}", 1
            while name in self._names:  # The first attempt was abandoned.
                again += 1
                name = f"{of}, replicate {replicate} ({again})"
            self._names.add(name)
        raced = RacedReplicate(treatment.named(of), replicate, name=name)
        self.pending[name] = Pending(raced, handle)
        return raced

    def asked(
        self,
        treatments: Sequence[Treatment],
        wanted: int | None = None,
        expires: float | None = None,
    ) -> None:
        """Record a call of `ask`.

        Args:
            treatments: What it suggested.
            wanted: How many treatments were asked for, if a finite space ended before; or None.
            expires: When the treatments expire; None: never.
        """
        self.calls.append(Asked(tuple(treatments), wanted, expires))
        if expires is not None:
            self.deadlines.update(dict.fromkeys([each.name for each in treatments], expires))

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Nothing expires in a replay: what had expired is in the record, as an abandonment."""
        self._is_replaying = True
        try:
            yield
        finally:
            self._is_replaying = False

    def expired(self) -> list[Treatment]:
        """Return the pending treatments whose time is over."""
        if self._is_replaying:
            return []
        now = self.clock()
        return [self.pending[name].treatment for name, at in self.deadlines.items() if at <= now]

    def enqueue(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Record points to suggest first.

        Raises:
            InvalidParametersError: One is not a part of a point of the space; none is recorded.
        """
        for params in [_part(self._space, point) for point in points]:
            self.enqueued.append(params)
            self.calls.append(Enqueued(params))

    def heard(self, treatment: Treatment) -> Heard:
        """Return what was reported of a pending treatment so far."""
        heard = self.reported.get(treatment.name)
        if heard is None:
            heard = self.reported[treatment.name] = Heard()
        return heard

    def forget_heard(self, observation: Observation) -> Heard | None:
        """Return what was reported of a trial that has ended, or None, and forget it."""
        heard = self.reported.pop(observation.treatment.name, None)
        if heard is not None and observation.status is Status.ABANDONED:
            # The backend forgets an abandoned trial: it hears all of a late outcome again.
            self.reported[observation.treatment.name] = Heard(curves=heard.curves)
        return heard

    def with_curves(self, observation: Observation) -> Observation:
        """Return an observation without replicates with the points that were reported by hand.

        A pruned trial without a value takes that of its highest step.
        """
        heard = self.reported.get(observation.treatment.name)
        if heard is None or not heard.curves or observation.replicates:
            return observation
        if observation.status is Status.ABANDONED:
            return observation
        curves = {metric: tuple(curve.items()) for metric, curve in heard.curves.items()}
        metrics = dict(observation.metrics)
        if observation.status is Status.PRUNED:
            last = {metric: last_value(curve) for metric, curve in curves.items()}
            metrics = {m: value for m, value in last.items() if value is not None} | metrics
        replicate = Replicate(
            HEARD_REPLICATE,
            None,
            metrics,
            observation.status,
            observation.error,
            observation.traceback,
            observation.started_at,
            observation.duration,
            curves,
        )
        return dataclasses.replace(observation, metrics=metrics, replicates=(replicate,))

    def canonical(self, observation: Observation) -> Observation:
        """Return the observation of a trial that was not asked for, with canonical parameters.

        Raises:
            InvalidParametersError: Its parameters are not a point of the space.
            UnknownMetricError: It completed, but without a metric that trials must have here.
        """
        treatment = observation.treatment
        for metric in self._criterion.metrics:
            if observation.status is Status.COMPLETED and metric not in observation.metrics:
                raise UnknownMetricError(
                    f"It has no metric {metric!r}, which this optimizer needs. Its metrics: "
                    f"{', '.join(map(repr, observation.metrics)) or 'none'}."
                )
        point = self._space.validate(treatment.params)
        if any(type(point[name]) is not type(value) for name, value in treatment.params.items()):
            plain = Treatment(treatment.name, point)
            observation = dataclasses.replace(observation, treatment=plain)
        return observation.checked(self._criterion.metrics)

    def told(self, observation: Observation) -> None:
        """Record the outcome of a treatment."""
        name = observation.treatment.name
        pending = self.pending.pop(name, None)
        if self.deadlines:
            self.deadlines.pop(name, None)
        asked = (pending or self.abandoned[name]).treatment
        if isinstance(asked, RacedReplicate):
            self._told_of_race(observation, asked, pending)
            return
        if pending is None:
            # A late outcome takes the place of the abandonment: a trial has one observation.
            del self.abandoned[name]
            self.observations[:] = replaced_by(observation, self.observations)
        elif observation.status is Status.ABANDONED:
            self.abandoned[name] = pending
        self.calls.append(Told(observation))
        self.observations.append(observation)
        self.best.add(observation)

    def _told_of_race(
        self, observation: Observation, asked: RacedReplicate, pending: Pending | None
    ) -> None:
        """Record the outcome of one replicate of a trial in a race."""
        if pending is None:
            del self.abandoned[asked.name]
        elif observation.status is Status.ABANDONED:
            self.abandoned[asked.name] = pending
        if observation.treatment is not asked:  # A copy from another process, perhaps.
            observation = dataclasses.replace(observation, treatment=asked)
        self.calls.append(Told(observation))
        positions = self._positions
        for position in range(len(positions), len(self.observations)):
            positions[self.observations[position].treatment.name] = position
        position = positions.get(asked.condition, len(self.observations))
        known = self.observations[position] if position < len(self.observations) else None
        trial = joined(known, observation)
        self.observations[position : position + 1] = [trial]
        self.best.add(trial)

    def renamed(self, observation: Observation) -> Observation:
        """Return an observation under a name that no other trial has."""
        given = name = observation.treatment.name
        if given not in self._names:
            return observation
        number = self._last_number.get(given, 0)
        while name in self._names:
            number += 1
            name = f"{given} (attached)" if number == 1 else f"{given} (attached {number})"
        self._last_number[given] = number
        treatment = Treatment(name, observation.treatment.params)
        return dataclasses.replace(observation, treatment=treatment)

    def attached(self, observation: Observation) -> None:
        """Record an attached trial."""
        self._count += 1
        self._names.add(observation.treatment.name)
        self.calls.append(Attached(observation))
        self.observations.append(observation)
        self.best.add(observation)

    def baseline_set(self, observation: Observation, point: Mapping[str, Any] | None) -> None:
        """Record the outcome of the baseline."""
        self.calls.append(BaselineSet(observation, point))

    def leave_out(self, observations: Sequence[Observation]) -> None:
        """Keep trials of a run that do not fit. No other trial of the run gets their names."""
        self.left_out += observations
        self._names.update(each.treatment.name for each in observations)

    def find(self, treatment: Treatment) -> Pending:
        """Return the entry of a pending or abandoned treatment; it may be another process's copy.

        Raises:
            TellError: The treatment was already told, was never asked for, or has other parameters
                than the pending treatment of its name.
        """
        pending = self.pending.get(treatment.name) or self.named(treatment.name)
        if treatment is not pending.treatment and not self.same(treatment, pending.treatment):
            raise TellError(
                f"{treatment.name!r} with {dict(treatment.params)!r} is not the treatment this "
                f"optimizer asked for under that name, {dict(pending.treatment.params)!r}."
            )
        return pending

    def named(self, name: str) -> Pending:
        """Return the entry of a pending or abandoned treatment.

        Raises:
            TellError: It was already told, or was never asked for.
        """
        found = self.pending.get(name) or self.abandoned.get(name)
        if found is None:
            told = any(name == each.treatment.name for each in self.observations)
            what = "has already been told" if told else "was never asked for"
            raise TellError(
                f"{name!r} {what}. Pending: {', '.join(map(repr, self.pending)) or 'none'}. To add "
                "trials of others, use attach()."
            )
        return found

    def abandonment(self, treatment: Treatment | str, why: str) -> Observation:
        """Return the observation that ends a pending treatment without an outcome.

        Raises:
            TellError: The treatment is not pending.
        """
        if isinstance(treatment, Treatment):
            pending = self.find(treatment)
        elif isinstance(treatment, str):
            pending = self.named(treatment)
        else:
            raise TellError(f"abandon() takes a treatment or its name, not {treatment!r}.")
        self.refuse_abandoned(pending.treatment)
        return Observation(pending.treatment, status=Status.ABANDONED, error=why)

    def refuse_abandoned(self, treatment: Treatment) -> None:
        """Check that a treatment was not abandoned before.

        Raises:
            TellError: It was.
        """
        if treatment.name in self.abandoned:
            raise TellError(
                f"{treatment.name!r} has already been abandoned. If it has an outcome after all, "
                "tell it."
            )

    def observation_of(self, told: Mapping[str, float]) -> Observation:
        """Return the observation that a plain mapping stands for.

        Raises:
            TellError: `told` is not a mapping, or none or several treatments are pending.
            UnknownMetricError: A required metric is missing.
        """
        required = self._criterion.metrics
        if type(told) is not dict and not isinstance(told, Mapping):  # `type` is fast.
            raise TellError(
                "tell() takes an Observation, or a mapping such as "
                f"{{{required[0]!r}: 0.5}}, not {told!r}."
            )
        if len(self.pending) != 1:
            raise self._not_one_pending()
        for metric in required:
            if metric not in told:
                raise UnknownMetricError(
                    f"The metric {metric!r} is missing. Given: "
                    f"{', '.join(map(repr, told)) or 'none'}."
                )
        (pending,) = self.pending.values()
        return Observation(pending.treatment, told)

    def _not_one_pending(self) -> TellError:
        if not self.pending:
            return TellError(
                "No treatment is pending: call ask() first. For trials of your own use attach()."
            )
        return TellError(
            "A plain mapping can be told only while exactly one treatment is pending; "
            f"{len(self.pending)} are pending: {', '.join(map(repr, self.pending))}. Tell an "
            "Observation(treatment, metrics) instead."
        )

    def same(self, one: Treatment, other: Treatment) -> bool:
        """Whether two treatments are the same point; equal choices count as the same."""
        try:
            keys = [self._space.key(self._space.validate(each.params)) for each in (one, other)]
        except InvalidParametersError:
            return False
        return keys[0] == keys[1]

    def why_no_best(self) -> str:
        """Return, in words, why there is no best treatment."""
        return f"There is no best treatment: {self._criterion.why_none(self.observations)}"


def _part(space: SearchSpace, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given parameters of a point in canonical form, in the space's order."""
    if not isinstance(given, Mapping):
        raise InvalidParametersError(f"enqueue() takes mappings of names to values, not {given!r}.")
    refuse_unknown(given, space)
    part: dict[str, Any] = {}
    for name in space:
        if name not in given:
            continue
        if not space.is_active(name, part):
            needed = {each.parent: list(each.values) for each in space[name].conditions}
            raise InvalidParametersError(
                f"Parameter {name!r} cannot be enqueued without its parents: it needs {needed!r}."
            )
        part[name] = canonical_value(name, space[name], given[name])
    for constraint in space.constraints:
        if not constraint.holds(part):
            raise InvalidParametersError(f"{part!r} violates {constraint!r}.")
    return part
