"""Writes an optimizer's asks and tells to a stored run as they happen."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from crystallize_opt.errors import RunChanged, StorageError, UsageError
from crystallize_opt.identity import describe
from crystallize_opt.optimizers.plain import Driven
from crystallize_opt.optimizers.replay import SavesState
from crystallize_opt.plain_data import encode
from crystallize_opt.recording.own_changes import not_by_searches
from crystallize_opt.storage.description import changes
from crystallize_opt.storage.journal import Row, RunWriter
from crystallize_opt.storage.lease import Lease
from crystallize_opt.storage.reading import StoredRun
from crystallize_opt.storage.records import (
    OF_ASK,
    HeldCurves,
    TrialFormat,
    to_text,
    write_curve,
    write_observation,
    write_replicate,
)
from crystallize_opt.storage.settings import Storage
from crystallize_opt.trials.calls import (
    Asked,
    Attached,
    BaselineSet,
    Enqueued,
    Event,
    Reported,
    ReportedPoint,
    SavedState,
    Told,
)
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

_STATE_EVERY = 8
"""Save the optimizer's state every 8 asks, so that a resume repeats at most 8."""


_VERSION = (
    " If a value differs that has no effect on the results (a cache, a counter, a time), give the "
    "part that uses it a version, and change the version when the part changes: "
    "@pipeline_step(version='1'), @data_source(version='1'), or the attribute `version` of a class "
    "of a step, source, plugin or optimizer. The version is then a change itself, once."
)
_SHOWN = 20
_CODE = (".(source)", ".(bytecode)")
_ATTACH = "To continue from its data with the new settings, give resume='attach'. "


def _by_version(path: str) -> bool:
    """Whether a version would stand for what differs at a path of the description."""
    parts = ("experiment.datasource", "experiment.pipeline", "experiment.plugins")
    return path.startswith((*parts, "optimizer.attributes")) and not path.endswith(_CODE)


class RunLog:
    """Writes the calls of one optimizer to one run, and locks the run against other writers.

    Args:
        optimizer: The optimizer.
        storage: The file, the run's name, and how to resume an existing run.

    Attributes:
        stored: The run as it was when this object opened it.
        resumes: Whether the run exists and is resumed exactly.
        attaches: Whether the run exists and its trials are attached.
        asks: How many calls of `ask` the current segment has.
        seen: How many of the optimizer's calls have been written.

    Raises:
        StorageError: The file cannot be read.
        RunLocked: Another process or search is writing the run.
    """

    def __init__(self, optimizer: Driven, storage: Storage) -> None:
        self._optimizer = optimizer
        self._format = TrialFormat(optimizer.space)
        self._writer = RunWriter(storage.path, storage.run or "run")
        try:
            self.stored = StoredRun(self._writer.name, self._writer.rows, optimizer.space)
        except BaseException:
            self._writer.close()
            raise
        self._writer.rows = ()
        self.attaches = bool(self.stored.segments) and storage.resume == "attach"
        self.resumes = bool(self.stored.segments) and not self.attaches
        self.asks = self.seen = 0
        self._next = self.stored.trials
        self._numbers: dict[str | int, list[tuple[int, Treatment]]] = {}  # Of pending trials.
        # Finished trials that have not been told to the optimizer: a few at most.
        self._written: list[str | int] = []
        self._numbers_written: dict[str | int, int | None] = {}
        self._set_aside: list[str | int] = []
        # Abandoned trials, of which an outcome may come after all.
        self._abandoned: dict[str | int, tuple[int, Treatment]] = {}
        # Of pending and abandoned trials.
        self._held: defaultdict[int | None, HeldCurves] = defaultdict(HeldCurves)
        self._may_ask = True
        self._state: str | None = None
        self._has_begun = False
        self._replicate: Replicate | None = None

    @property
    def checkpoint_folder(self) -> str:
        """The folder of the run's checkpoints, which may not exist."""
        return self._writer.checkpoint_folder

    @property
    def lease(self) -> Lease:
        """By which workers know that this object still writes the run."""
        return self._writer.lease

    @property
    def identity(self) -> str:
        """Identifies the run, also after its file was moved."""
        return self._writer.identity

    # Beginning and resuming ----------------------------------------------------------------------

    def refuse_changes(self, description: Mapping[str, Any]) -> None:
        """Check that a run to be resumed exactly has the same description.

        Raises:
            RunChanged: The description differs; the message says how.
        """
        if not self.resumes:
            return
        recorded = self.stored.segments[-1].description
        if found := not_by_searches(changes(recorded, description), description):
            raise RunChanged(
                f"The run {self.stored.name!r} in {str(self._writer.path)!r} was made with other "
                "settings:\n"
                + "\n".join(f"  {change}" for change in [*found.values()][:_SHOWN])
                + (f"\n  … and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
                + "\nTo resume the run exactly, restore these settings. "
                + (_ATTACH if hasattr(self._optimizer, "attach") else "")
                + "To begin another run, give run=."
                + (_VERSION if any(map(_by_version, found)) else "")
            )

    def begin(self, description: Mapping[str, Any], versions: Any, settled: Sequence[Row]) -> None:
        """Write the rows that settle the previous segment, and begin a new one.

        A baseline that was taken over from the previous segment is written to the new one.
        """
        asked = 0
        if not self.attaches:
            calls = self._optimizer.calls
            asked = sum(len(each.treatments) for each in calls if isinstance(each, Asked))
        data = {"description": description, "versions": versions, "asked_before": asked}
        rows = [*settled, ("begin", None, to_text(data))]
        if self.attaches:
            calls = self._optimizer.calls
            rows += [self._row_of_baseline(each) for each in calls if isinstance(each, BaselineSet)]
        self._writer.append(rows)
        self._has_begun = True
        if self.attaches:
            self.seen = len(self._optimizer.calls)
        else:
            self.sync()

    def resume(self, versions: Any, own: Sequence[Event], held: Sequence[Observation] = ()) -> None:
        """Continue the last segment, after its events have been replayed on the optimizer.

        Args:
            versions: The versions of Python and the libraries.
            own: The optimizer's calls that the segment does not have.
            held: The finished trials that have not been told to the optimizer.
        """
        events = self._optimizer.calls
        self.seen = len(events)
        segment = self.stored.segments[-1]
        recorded = [t for e in segment.events if isinstance(e, Asked) for t in e.treatments]
        asked = [t for e in events if isinstance(e, Asked) for t in e.treatments]
        told = [e.observation.treatment for e in own if isinstance(e, Told)]
        unfinished = {self._key(each) for each in (*self._optimizer.unfinished, *told)}
        for old, now in zip(recorded, asked, strict=False):  # More may have been asked since.
            if self._key(now) in unfinished:
                self._pend(self.stored.numbers[id(old)], now)
            elif self._optimizer.is_abandoned(now):
                self._abandoned[self._key(now)] = self.stored.numbers[id(old)], now
        self._written += [self._key(each.treatment) for each in held]
        self._held.update(self.stored.held)
        self.asks = sum(isinstance(event, Asked) for event in segment.events)
        self._writer.append([("resume", None, to_text({"versions": versions}))])
        self._has_begun = True
        self._write(own)

    def rows_given_up(self, observations: Iterable[Observation]) -> list[Row]:
        """Return the rows that end trials of the stored run."""
        numbers = self.stored.numbers
        return [
            ("observation", numbers[id(each.treatment)], to_text(write_observation(each)))
            for each in observations
        ]

    def saved_state(self, before: Sequence[Event]) -> SavedState | None:
        """Return the optimizer's stored state, if there is one that this optimizer can restore.

        Args:
            before: The events of the segment that the optimizer already has.
        """
        try:
            stored = json.loads(self._writer.state or "{}")
            if stored.get("segment") != len(self.stored.segments):
                return None
            asks = stored["asks"] - sum(isinstance(event, Asked) for event in before)
            return SavedState(asks, stored["state"]) if asks >= 0 else None
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise StorageError(
                f"The optimizer's state in the run {self.stored.name!r} is damaged: {error!r}. "
                "Restore the file from a copy, or give resume='attach'."
            ) from error

    def stored_baseline(self, treatment: Treatment) -> Observation | None:
        """Return the resumed run's outcome of a baseline.

        That of a run to attach was perhaps another one, unless the optimizer has taken it over.

        Raises:
            RunChanged: The run has another baseline.
        """
        if not self.stored.segments or (self.attaches and self._optimizer.baseline is None):
            return None
        if (stored := self.stored.segments[-1].baseline) is None:
            return None
        before, now = self.stored.segments[-1].of_baseline, self._of_baseline(treatment)
        if before != json.loads(to_text(now)):
            raise RunChanged(
                f"The run {self.stored.name!r} in {str(self._writer.path)!r} has another baseline: "
                f"it was {before!r}, and is now {now!r}. Give the same baseline=, or begin another "
                "run with run=."
            )
        return stored

    def _of_baseline(self, treatment: Treatment) -> dict[str, Any]:
        return {
            "params": {name: encode(value) for name, value in treatment.params.items()},
            "function": treatment.function and describe(treatment.function),
        }

    def _row_of_baseline(self, event: BaselineSet) -> Row:
        data = self._of_baseline(event.observation.treatment)
        data |= write_observation(event.observation)
        if event.point is not None and self._optimizer.space is not None:
            data["point"] = self._format.write_params(event.point)
        return ("baseline", None, to_text(data))

    # Writing -------------------------------------------------------------------------------------

    def before_ask(self) -> None:
        """Note the optimizer's state before every eighth ask; it may be too large for every ask.

        Raises:
            UsageError: A trial was set aside.
        """
        if not self._may_ask:
            raise UsageError(
                f"The run {self.stored.name!r} has trials that were set aside to run again when it "
                "is resumed, so it takes no further asks. Close it, and resume it with a fresh "
                "optimizer; or give trials up by abandon()."
            )
        if self.asks % _STATE_EVERY == 0:
            optimizer = self._optimizer
            state = optimizer.saved_state() if isinstance(optimizer, SavesState) else None
            if state is not None:
                segment = len(self.stored.segments) + (not self.resumes)
                self._state = json.dumps({"segment": segment, "asks": self.asks, "state": state})

    def reported(self, replicate: Replicate) -> None:
        """Write a replicate that was just reported to the optimizer."""
        self._replicate = replicate
        self.sync()

    def replicate(self, treatment: Treatment, replicate: Replicate) -> None:
        """Write a replicate after which a pending trial goes on; the optimizer does not hear of it.

        A run that is resumed begins with the next one, as if it had not been interrupted.
        """
        number = self.number_of(treatment)
        data = {"name": treatment.name, "replicate": self._written_replicate(number, replicate)}
        self._writer.append([("replicate", number, to_text(data))])

    def _written_replicate(self, number: int, replicate: Replicate) -> dict[str, Any]:
        held = self._held[number]
        data = write_replicate(replicate, {"status": "completed"}, held)
        held.replicates[replicate.index] = replicate.curves
        return data

    def number_of(self, treatment: Treatment) -> int:
        """Return the number of a pending trial in the run."""
        return self._numbers[self._key(treatment)][0][0]

    def finished(self, observation: Observation) -> bool:
        """Write the outcome of a trial before the optimizer is told.

        Returns:
            Whether the outcome is on disk.
        """
        treatment = observation.treatment
        key = self._key(treatment)
        if key in self._written:
            return True  # Points that were reported since are written when this outcome is told.
        if self.seen < len(self._optimizer.calls):
            # Others have called the optimizer, perhaps to abandon this trial; or learning curves
            # have been reported, whose points come before the outcome.
            self.sync()
        found = self._numbers.get(key)
        asked = found[0] if found else None
        if asked is None and observation.status is not Status.ABANDONED:
            asked = self._abandoned.get(key)
        if asked is None:  # The trial was never asked for.
            return False
        if asked[1] is not treatment and self.text_of(asked[1]) != self.text_of(treatment):
            return False  # The optimizer will refuse a treatment with other parameters.
        if key in self._set_aside:
            return False
        row = self._row_of(observation)
        self._append([row])
        self._written.append(key)
        self._numbers_written[key] = row[1]
        return True

    def set_aside(self, observation: Observation) -> None:
        """Let a trial stay pending in the run, although the optimizer will be told otherwise."""
        self._set_aside.append(self._key(observation.treatment))
        self._may_ask = False

    def sync(self) -> None:
        """Write the optimizer's calls since the last call of this method."""
        self._write(self._new_events())

    def _new_events(self) -> Sequence[Event]:
        events = self._optimizer.calls[self.seen :]
        self.seen += len(events)
        return events

    def close(self) -> None:
        """Write down the optimizer's last calls, and let others write the run."""
        try:
            if self._has_begun:
                self.sync()  # Points may have been enqueued since the last tell.
        finally:
            self._writer.close()

    def text_of(self, treatment: Treatment) -> str:
        """Return the text by which treatments are compared and stored."""
        return to_text(self._format.write_treatment(treatment))

    def _write(self, events: Sequence[Event]) -> None:
        rows = self._rows_of(events)
        if rows:
            self._append(rows)
        self._state = None

    def _append(self, rows: Sequence[Row]) -> None:
        self._writer.append(rows, self._state)
        self._state = None

    def _rows_of(self, events: Sequence[Event]) -> list[Row]:
        rows: list[Row] = []
        for curve, some in groupby(events, _curve_of_point):
            if curve is not None:
                points = [each for each in some if isinstance(each, ReportedPoint)]
                rows.append(self._row_of_points(points))
                continue
            for event in some:
                rows += self._rows_of_event(event, follows=bool(rows))
        return rows

    def _rows_of_event(self, event: Event, *, follows: bool) -> list[Row]:
        """Return the rows of an event.

        Args:
            event: The event.
            follows: Whether the optimizer was called since the last write: perhaps by a thread of a
                trial, which reported a point after an outcome was written and before it was told.
        """
        if isinstance(event, Asked):
            self.asks += 1
            return self._rows_of_ask(event)
        if isinstance(event, Reported):
            return [self._row_of_report(event)]
        if isinstance(event, Attached):
            return [self._row_of_attached(event.observation)]
        if isinstance(event, BaselineSet):
            return [self._row_of_baseline(event)]
        if isinstance(event, Enqueued):
            return [("enqueue", None, self.text_of_params(event.params))]
        if isinstance(event, Told):
            key = self._key(event.observation.treatment)
            if key in self._written:
                self._written.remove(key)
                number = self._numbers_written.pop(key, None)
                if not follows or number is None:
                    return []
                return [("told", number, to_text({"name": event.observation.treatment.name}))]
            if key in self._set_aside:
                self._set_aside.remove(key)
                return []
            return [self._row_of(event.observation)]
        return [self._row_of_points([event])]

    def text_of_params(self, params: Mapping[str, Any]) -> str:
        """Return the text of an enqueued point or part of a point."""
        return to_text({"params": self._format.write_params(params)})

    def _rows_of_ask(self, event: Asked) -> list[Row]:
        rows: list[Row] = []
        for treatment in event.treatments:
            self._pend(self._next, treatment)
            rows.append(("batch" if rows else "ask", self._next, self.text_of(treatment)))
            self._next += 1
        about = {name: getattr(event, name) for name in OF_ASK}
        if any(value is not None for value in about.values()):
            data = {name: value for name, value in about.items() if value is not None}
            data = self._format.write_treatment(event.treatments[0]) | data
            rows[0] = ("ask", rows[0][1], to_text(data))
        return rows

    def _pend(self, number: int, treatment: Treatment) -> None:
        self._numbers.setdefault(self._key(treatment), []).append((number, treatment))

    def _key(self, treatment: Treatment) -> str | int:
        """Return the key of a pending trial. An optimizer without a space may reuse names."""
        return id(treatment) if self._optimizer.space is None else treatment.name

    def _row_of(self, observation: Observation) -> Row:
        key = self._key(observation.treatment)
        if key in self._numbers:
            number, treatment = self._numbers[key].pop(0)
            if not self._numbers[key]:
                del self._numbers[key]
            if observation.status is Status.ABANDONED and self._optimizer.space is not None:
                self._abandoned[key] = number, treatment
        else:
            number, _ = self._abandoned.pop(key)
        held = self._held.get(number)
        if key not in self._abandoned:
            self._held.pop(number, None)
        return ("observation", number, to_text(write_observation(observation, held)))

    def _row_of_attached(self, observation: Observation) -> Row:
        data = self._format.write_treatment(observation.treatment) | write_observation(observation)
        self._next += 1
        return ("attach", self._next - 1, to_text(data))

    def _row_of_points(self, points: Sequence[ReportedPoint]) -> Row:
        """Return the row of consecutive points of one curve of a trial."""
        name, metric = points[0].name, points[0].metric
        pending = self._numbers.get(name)
        number, _ = pending[0] if pending else self._abandoned[name]
        curve = [(each.step, each.value) for each in points]
        self._held[number].points[metric] += curve
        data: dict[str, Any] = {"name": name, "points": write_curve(curve)}
        if metric is not None:
            data["metric"] = metric
        if prune := [position for position, each in enumerate(points) if each.prune]:
            data["prune"] = prune
        return ("curve", number, to_text(data))

    def _row_of_report(self, event: Reported) -> Row:
        replicate = self._replicate
        if replicate is None or replicate.index != event.replicate:
            replicate = Replicate(event.replicate, None, event.metrics)
        number = self._numbers[event.name][0][0]
        written = self._written_replicate(number, replicate)
        data = {"name": event.name, "prune": event.prune, "replicate": written}
        return ("report", number, to_text(data))


def _curve_of_point(event: Event) -> tuple[str, str | None] | None:
    """Return the trial and the metric of which a point is reported; None for any other event."""
    return (event.name, event.metric) if isinstance(event, ReportedPoint) else None
