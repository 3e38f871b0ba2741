"""The run of one experiment: its optimizer, and what the optimizer knows of the records."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from crystallize_opt.errors import InvalidParametersError
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.service.priors import draw, drawn_first
from crystallize_opt.service.problem import metric_name, problem_of
from crystallize_opt.service.store import ACTIVE, CLOSED, DELETED, OPEN, Record, Store
from crystallize_opt.space.parameter import same_value
from crystallize_opt.storage.journal import rename_run
from crystallize_opt.storage.served import completed, name_in_run, revision_of
from crystallize_opt.storage.settings import Storage
from crystallize_opt.trials.calls import Asked
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment


class ServedRun:
    """The optimizer of an experiment and its run. One thread uses it.

    The run's name is the number of the experiment. What an optimizer cannot unlearn (an observation
    that was edited or deleted, other bounds) begins the run anew: the experiment's `revision` is
    then one higher. The earlier run stays in the file under another name.

    Args:
        store: The records.
        record: The record of the experiment.

    Attributes:
        revision: The experiment's revision.
        last: The newest observation that the optimizer was told, or that was deleted.
        has_handed_out: Whether a suggestion was handed out since this object exists.

    Raises:
        Refusal: The optimizer cannot search the experiment.
        StorageError: The run cannot be read.
    """

    def __init__(self, store: Store, record: Record) -> None:
        self._store = store
        self._number, self._data = record.id, record.data
        self.revision = record.data["revision"]
        self.has_handed_out = False
        self.last = 0
        self._open: dict[int, Treatment] = {}  # By the numbers of suggestions.
        self._expires: dict[int, float] = {}
        self._recorded = self._begin()
        self.optimizer: Any = self._recorded.optimizer
        self._known = {each.treatment.name for each in self.optimizer.observations}
        self._drawn_first = drawn_first(self._data)
        self._asked = sum(isinstance(each, Asked) for each in self.optimizer.calls)

    def _begin(self) -> RecordedOptimizer:
        """Return the optimizer, where its run has ended."""
        problem = problem_of(self._data)
        run, path = self._data["run"], self._store.path
        storage = None if path is None else Storage(path, run)
        recorded = RecordedOptimizer(problem.build(), storage)
        about: dict[str, Any] = {"service": {"revision": self.revision}}
        stored = recorded.stored_description
        if stored and revision_of(stored) != self.revision:
            recorded.close()
            rename_run(path or "", run, f"{run} (before revision {self.revision})")
            recorded = RecordedOptimizer(problem.build(), storage)
        elif stored:
            about = {key: stored[key] for key in stored if key not in _OF_OPTIMIZERS}
        try:
            recorded.describe(about)
            run_sync(recorded.resume())
        except BaseException:
            recorded.close()
            raise
        return recorded

    def update(self, record: Record) -> None:
        """Take the experiment's record as it is now, of the same revision."""
        self._data = record.data

    def close(self) -> None:
        """Release the run."""
        self._recorded.close()

    # What the records say -------------------------------------------------------------------------

    def settle(self) -> list[Treatment]:
        """Bring the optimizer up to the records.

        Returns:
            The suggestions that were asked for and not handed out.
        """
        for record in self._store.page("observation", self._number):
            if record.state == ACTIVE:
                self._learn(record)
            self.last = record.id
        for record in self._store.page("suggestion", self._number, states=(DELETED,)):
            self._abandon(record)
        mine = {}
        left = {each.name: each for each in self.optimizer.pending}
        for record in self._store.page("suggestion", self._number, states=(OPEN,)):
            if record.data["revision"] == self.revision:
                if (treatment := left.pop(record.data["trial"], None)) is not None:
                    self._note_open(record, treatment)
            else:
                mine[record.id] = record
        for record in mine.values():
            self._open_again(record, left)
        while self.optimizer.ledger.enqueued:  # The process died before it asked for the point.
            treatment = self._ask()
            left[treatment.name] = treatment
        return [*left.values()]

    def _open_again(self, record: Record, left: dict[str, Treatment]) -> None:
        """Let an open suggestion of an earlier revision be pending in this one."""
        params = record.data["assignments"]
        if not self._fits(params):
            return
        treatment = next((t for t in left.values() if same_value(dict(t.params), params)), None)
        if treatment is None:
            treatment = self.ask_for(params)
        else:
            del left[treatment.name]
        with self._store.writing():
            current = self._store.get("suggestion", record.id) or record
            if current.state == OPEN:
                data = {**current.data, "trial": treatment.name, "revision": self.revision}
                current = current._replace(data=data)
                self._store.put("suggestion", current)
        if current.state == OPEN:
            self._note_open(current, treatment)
        else:  # It was observed or deleted meanwhile.
            run_sync(self._recorded.abandon(treatment))

    def _fits(self, params: Mapping[str, Any]) -> bool:
        try:
            self.optimizer.space.validate(params)
        except InvalidParametersError:
            return False
        return True

    def tell(self, number: int) -> float | None:
        """Tell an observation; return how long its trial took, if that is known."""
        record = self._store.get("observation", number, self._number)
        self.last = max(self.last, number)
        if record is None or record.state != ACTIVE:
            return None
        return self._learn(record)

    def _learn(self, record: Record) -> float | None:
        """Tell or attach an observation, unless the optimizer knows it."""
        data, ledger = record.data, self.optimizer.ledger
        trial = data["trial"] if data["revision"] == self.revision else None
        if trial is not None:
            asked = ledger.pending.get(trial) or ledger.abandoned.get(trial)
            if asked is not None:
                observation = observation_of(record, asked.treatment)
                run_sync(self._recorded.tell(observation))
                if data["suggestion"] is not None:
                    self._open.pop(data["suggestion"], None)
                    self._expires.pop(data["suggestion"], None)
                return observation.duration
            return None
        name = name_in_run(record.id, data, self.revision)
        if name not in self._known:
            params = completed(data["assignments"], self._data, self.optimizer.space)
            treatment = Treatment(name, params)
            observation = observation_of(record, treatment)
            self._recorded.attach([observation], skip_outside=True)
            self._known.add(name)
        return None

    def give_up(self, number: int) -> None:
        """Abandon a suggestion that was deleted."""
        if (record := self._store.get("suggestion", number, self._number)) is not None:
            self._abandon(record)

    def _abandon(self, record: Record) -> None:
        trial = record.data["trial"]
        if record.data["revision"] == self.revision and trial in self.optimizer.ledger.pending:
            run_sync(self._recorded.abandon(trial))
        self._open.pop(record.id, None)
        self._expires.pop(record.id, None)

    def expire(self) -> None:
        """Abandon the suggestions whose time is over; a late observation is taken all the same."""
        now = time.time()
        for number in [number for number, at in self._expires.items() if at <= now]:
            record = self._store.get("suggestion", number, self._number)
            if record is not None and record.state == OPEN:
                self._abandon(record)
                with self._store.writing():
                    current = self._store.get("suggestion", number) or record
                    if current.state == OPEN:
                        data = {**current.data, "expired": True}
                        self._store.put("suggestion", Record(number, self._number, CLOSED, data))
            self._expires.pop(number, None)

    # Asking ---------------------------------------------------------------------------------------

    def ask(self) -> Treatment:
        """Ask for a suggestion.

        Raises:
            SpaceExhausted: No point is left.
        """
        if self._asked < self._drawn_first:
            optimizer = self.optimizer
            point = draw(self._data, optimizer.space, optimizer.seed, self._asked)
            return self.ask_for(point)
        return self._ask()

    def _ask(self) -> Treatment:
        (treatment,) = run_sync(self._recorded.ask())
        self._asked += 1
        return treatment

    def ask_for(self, params: Mapping[str, Any]) -> Treatment:
        """Let the optimizer suggest a given point."""
        self._recorded.enqueue(params)
        return self._ask()

    def next_queued(self) -> Record | None:
        """Return the first queued suggestion that is a point of the space.

        Parameters may have been added or removed since it was queued: it is completed as an
        observation is. One outside of the bounds stays in the queue, and holds up no other.
        """
        after = 0
        while page := self._store.page(
            "queued", self._number, states=(OPEN,), after=after, limit=1
        ):
            (record,) = page
            params = completed(record.data["assignments"], self._data, self.optimizer.space)
            if self._fits(params):
                return record._replace(data={**record.data, "assignments": params})
            after = record.id
        return None

    def handed_out(
        self, treatment: Treatment, data: Mapping[str, Any], ttl: float | None
    ) -> Record:
        """Record that a client got a suggestion, within `store.writing`."""
        now = time.time()
        found = {
            "assignments": dict(treatment.params),
            "metadata": data.get("metadata"),
            "created": now,
            "trial": treatment.name,
            "revision": self.revision,
            "observation": None,
            "expires": None if ttl is None else now + ttl,
        }
        number = self._store.add("suggestion", self._number, OPEN, found)
        record = Record(number, self._number, OPEN, found)
        self.has_handed_out = True
        self._note_open(record, treatment)
        return record

    def _note_open(self, record: Record, treatment: Treatment) -> None:
        self._open[record.id] = treatment
        if record.data["expires"] is not None:
            self._expires[record.id] = record.data["expires"]

    @property
    def budget_left(self) -> float:
        """How many suggestions are left until the budget is used up; infinity without a budget."""
        if self._data["budget"] is None:
            return math.inf
        told = len(self.optimizer.observations)
        return float(self._data["budget"] - told - len(self._open))


_OF_OPTIMIZERS = ("space", "objectives", "constraints", "optimizer", "choices")


def observation_of(record: Record, treatment: Treatment) -> Observation:
    """Return what the record of an observation says of a treatment."""
    data = record.data
    began = data["began"]
    ended = data.get("ended", data["created"])  # Files of earlier versions have no `ended`.
    duration = None if began is None else max(0.0, ended - began)
    if data["failed"]:
        return Observation(
            treatment,
            status=Status.FAILED,
            error="It was reported as failed.",
            started_at=began,
            duration=duration,
        )
    return Observation(
        treatment,
        dict(_values(data, "value")),
        sem=dict(_values(data, "value_stddev")),
        started_at=began,
        duration=duration,
    )


def _values(data: Mapping[str, Any], key: str) -> Iterator[tuple[str, float]]:
    for each in data["values"]:
        if each[key] is not None:
            yield metric_name(each), float(each[key])
