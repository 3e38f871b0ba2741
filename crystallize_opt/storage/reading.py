"""Reads a stored run: its asks, reports, tells and attached trials, in order."""

from __future__ import annotations

import gc
import json
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, overload

from crystallize_opt.errors import InvalidParametersError, RunChanged
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.checks import Checked, checked_events
from crystallize_opt.storage.description import (
    changes,
    constraints_of,
    describe_space,
    goals_of,
    objectives_of,
)
from crystallize_opt.storage.fitting import Goals, fitted
from crystallize_opt.storage.journal import Row, opened_run
from crystallize_opt.storage.records import (
    HeldCurves,
    TrialFormat,
    read_curve,
    read_observation,
    read_replicate,
)
from crystallize_opt.storage.segment import Segment
from crystallize_opt.storage.served import what_it_lacks
from crystallize_opt.trials.calls import (
    Asked,
    Attached,
    BaselineSet,
    Enqueued,
    Reported,
    ReportedPoint,
    Told,
)
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.raced import joined
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment


class StoredRun:
    """The events of a run.

    Args:
        name: The run's name.
        rows: The run's rows.
        space: The source of choice objects for segments with an equal space; other segments use
            their stored space.

    Attributes:
        segments: One for each optimizer, in order.
        numbers: The number of each trial, by the `id` of its treatment.
        trials: How many trials there are.
        replicates: The replicates of each pending trial after which it went on, or was pruned, by
            the trial's number.
        pruned: The names of trials that the backend pruned at their last report.
        held: The curves of each pending or abandoned trial that the run holds, by the trial's
            number.
    """

    def __init__(self, name: str, rows: Sequence[Row], space: SearchSpace | None = None) -> None:
        self.name = name
        self.segments: list[Segment] = []
        self.numbers: dict[int, int] = {}
        self.trials = 0
        self.replicates: dict[int | None, list[Replicate]] = {}
        self.pruned: set[str] = set()
        self.held: defaultdict[int | None, HeldCurves] = defaultdict(HeldCurves)
        self._treatments: dict[int | None, Treatment] = {}
        with _without_garbage_collection():
            for event in checked_events(name, rows, space):
                self._add(event)

    def _add(self, event: Checked) -> None:
        kind, trial, data, trial_format = event
        if kind == "observation":
            self._add_outcome(trial, data)
        elif kind == "begin":
            described, versions, before = (
                data[key] for key in ("description", "versions", "asked_before")
            )
            self.segments.append(Segment(described, versions, before, trial_format.space))
        elif kind in ("report", "replicate"):
            self._add_replicate(kind, trial, data)
        elif kind == "told":
            self._tell_now(self._treatments[trial])
        elif kind == "curve":
            prune, points = set(data.get("prune", ())), read_curve(data["points"])
            self.held[trial].add(kind, data)
            self.segments[-1].events += [
                ReportedPoint(data["name"], step, value, number in prune, data.get("metric"))
                for number, (step, value) in enumerate(points)
            ]
        elif kind == "enqueue":
            params = trial_format.read_treatment({"name": "", **data}).params
            self.segments[-1].events.append(Enqueued(dict(params)))
        elif kind == "baseline":
            segment = self.segments[-1]
            segment.of_baseline = {key: data[key] for key in ("params", "function")}
            segment.baseline = _read_baseline(data)
            point = None
            if "point" in data:
                written = {"name": "", "params": data["point"]}
                point = trial_format.read_treatment(written).params
            segment.events.append(BaselineSet(segment.baseline, point))
        elif kind != "resume":
            self._add_trial(event)

    def _add_outcome(self, trial: int | None, data: dict[str, Any]) -> None:
        observation = read_observation(data, self._treatments[trial], self.held.get(trial))
        if observation.status is not Status.ABANDONED:  # An abandoned trial may have a late one.
            self.held.pop(trial, None)
        self.replicates.pop(trial, None)
        self.segments[-1].events.append(Told(observation))

    def _tell_now(self, treatment: Treatment) -> None:
        """Move the tell of a trial here: its outcome was written before other calls."""
        events = self.segments[-1].events
        for position in reversed(range(len(events))):
            event = events[position]
            if isinstance(event, Told) and event.observation.treatment is treatment:
                events.append(events.pop(position))
                return

    def _add_trial(self, event: Checked) -> None:
        kind, trial, data, trial_format = event
        events = self.segments[-1].events
        treatment = self._treatments[trial] = trial_format.read_treatment(data)
        self.numbers[id(treatment)] = self.trials
        self.trials += 1
        if kind == "ask":
            events.append(Asked((treatment,), data.get("wanted"), data.get("expires")))
        elif kind == "attach":
            events.append(Attached(read_observation(data, treatment)))
        else:
            last = events[-1]
            if isinstance(last, Asked):
                events[-1] = last._replace(treatments=(*last.treatments, treatment))

    def _add_replicate(self, kind: str, trial: int | None, data: dict[str, Any]) -> None:
        name = data["name"]
        held = self.held[trial]
        replicate = read_replicate(data["replicate"], {"status": "completed"}, {}, held)
        held.add(kind, data)
        done = self.replicates.setdefault(trial, [])
        done[replicate.index :] = [replicate]  # A retried trial reports its replicates again.
        if kind == "replicate":  # The optimizer did not hear of it.
            return
        (self.pruned.add if data["prune"] else self.pruned.discard)(name)
        reported = Reported(name, replicate.index, replicate.metrics, data["prune"])
        self.segments[-1].events.append(reported)

    def fitting(
        self, goals: Goals, segments: Sequence[Segment]
    ) -> tuple[list[Observation], list[tuple[Observation, str]]]:
        """Return the observations of some segments that fit other goals, in order.

        Returns:
            Those that fit, as they are seen under these goals; and the others, each with a reason.
        """
        fit: list[Observation] = []
        left_out: list[tuple[Observation, str]] = []
        for segment in segments:
            for observation in segment.observations:
                try:
                    fit.append(fitted(observation, segment.goals, goals))
                except InvalidParametersError as error:
                    left_out.append((observation, str(error)))
        return fit, left_out

    @property
    def pending(self) -> list[Treatment]:
        """The treatments that the last segment asked for and that were not told."""
        if not self.segments:
            return []
        events = self.segments[-1].events
        told = {id(e.observation.treatment) for e in events if isinstance(e, Told)}
        asked = [t for e in events if isinstance(e, Asked) for t in e.treatments]
        return [treatment for treatment in asked if id(treatment) not in told]


class StoredObservations(Sequence[Observation]):
    """The observations of a stored run; each is built when it is first used.

    Args:
        name: The run's name.
        rows: The run's rows.
        space: The space of the run; None for the stored space.

    Attributes:
        name: The run's name.
        description: The description of the last segment; empty if no segment has begun.
        versions: The versions of Python and the libraries in the last segment.
        space: The space of the last segment.
        left_out: The observations of earlier segments that do not fit the last one.
        baseline: The outcome of the last segment's baseline, or None.
        resumed: How many observations the run had each time that it was resumed.
        notes: What a service has recorded of the run that is not in it yet: a sentence.

    Raises:
        RunChanged: `space` differs from the space of the last segment.
    """

    def __init__(self, name: str, rows: Sequence[Row], space: SearchSpace | None) -> None:
        self.name = name
        self.description: Mapping[str, Any] = {}
        self.versions: Mapping[str, str] = {}
        self.space: SearchSpace | None = None
        self._asked: dict[int | None, tuple[TrialFormat, str]] = {}
        self._pending: dict[int | None, None] = {}
        self._told: list[tuple[int | None, str] | Observation] = []
        self.left_out: list[Observation] = []
        self.baseline: Observation | None = None
        self.resumed: list[int] = []
        self.notes: list[str] = []
        # What is read only if the outcome of its trial refers to it.
        self._held: dict[int | None, list[tuple[str, str]]] = {}
        self._raced: dict[int | None, str] = {}  # Single replicates of a race, and of which trial.
        self._positions: dict[str, int] = {}  # Of trials that may get further replicates.
        self._earlier: list[tuple[int, Goals]] = []  # How many were told until a segment's end.
        with _without_garbage_collection():
            for event, (_, _, text) in zip(checked_events(name, rows, space), rows, strict=True):
                self._add(event, text)
        if not self.description:  # The process died before the run had begun.
            self.space = space
        elif space is not None and self.space is not space:
            now = {"space": describe_space(space)}
            found = changes({"space": self.description.get("space")}, now)
            raise RunChanged(f"space= is not the space of the run {name!r}: {'; '.join(found)}.")
        if self._earlier:
            self._fit()

    @property
    def about(self) -> dict[str, Any]:
        """What made the last segment: optimizer, seeds and versions."""
        optimizer = self.description.get("optimizer", {})
        return {
            "optimizer": str(optimizer.get("class", "")).rpartition(".")[2],
            "optimizer's seed": optimizer.get("seed"),
            "experiment's seed": self.description.get("experiment", {}).get("seed"),
            "replicates of a trial": self.description.get("replicates_per_trial"),
            **self.versions,
        }

    def _fit(self) -> None:
        """Bring the observations of earlier segments to the goals of the last one."""
        now = goals_of(self.description, self.space)
        kept: list[tuple[int | None, str] | Observation] = []
        start = 0
        for end, before in self._earlier:
            for position in range(start, end):
                try:
                    kept.append(fitted(self[position], before, now))
                except InvalidParametersError:
                    self.left_out.append(self[position])
            start = end
        self._told[:start] = kept

    def _add(self, event: Checked, text: str) -> None:
        kind, trial, data, trial_format = event
        if kind == "observation":
            self._add_told(trial, data, text)
        elif kind in ("ask", "batch"):
            self._asked[trial] = trial_format, text
            self._pending[trial] = None
            if "of" in data:
                self._raced[trial] = data["of"]
        elif kind == "attach":
            self._asked[trial] = trial_format, text
            self._positions[data["name"]] = len(self._told)
            self._told.append((trial, text))
        elif kind == "begin":
            if self.description:
                self._earlier.append((len(self._told), goals_of(self.description, self.space)))
            self.description, self.versions = data["description"], data["versions"]
            self.space = trial_format.space
            self._pending.clear()
            self._positions.clear()
            self.baseline = None
        elif kind == "baseline":
            self.baseline = _read_baseline(data)
        elif kind == "resume":
            self.resumed.append(len(self._told))
        elif kind in ("curve", "report", "replicate"):
            self._held.setdefault(trial, []).append((kind, text))

    def _add_told(self, trial: int | None, data: dict[str, Any], text: str) -> None:
        is_late = trial not in self._pending
        self._pending.pop(trial, None)
        if trial not in self._raced:
            if is_late:  # A late outcome takes the place of the abandonment.
                self._told = [t for t in self._told if isinstance(t, Observation) or t[0] != trial]
            self._told.append((trial, text))
            return
        position = self._positions.setdefault(self._raced[trial], len(self._told))
        known = self[position] if position < len(self) else None
        told = joined(known, self._read(trial, data))
        self._told[position : position + 1] = [told]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives of the last segment."""
        return objectives_of(self.description) if self.description else ()

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The outcome constraints of the last segment."""
        return constraints_of(self.description) if self.description else ()

    @property
    def pending(self) -> list[Treatment]:
        """The treatments that were asked for and not told, in order."""
        return [self._treatment(trial) for trial in self._pending]

    def __len__(self) -> int:
        return len(self._told)

    @overload
    def __getitem__(self, index: int) -> Observation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Observation]: ...
    def __getitem__(self, index: int | slice) -> Observation | list[Observation]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        told = self._told[index]
        if isinstance(told, tuple):
            trial, data = told
            told = self._told[index] = self._read(trial, json.loads(data))
        return told

    def _read(self, trial: int | None, data: Mapping[str, Any]) -> Observation:
        held = None
        if trial in self._held:
            held = HeldCurves()
            for kind, text in self._held[trial]:
                held.add(kind, json.loads(text))
        return read_observation(data, self._treatment(trial), held)

    def _treatment(self, trial: int | None) -> Treatment:
        trial_format, data = self._asked[trial]
        return trial_format.read_treatment(json.loads(data))


def _read_baseline(data: Mapping[str, Any]) -> Observation:
    treatment = TrialFormat(None).read_treatment(data)
    return read_observation(data, treatment)


def read_observations(
    path: str | os.PathLike[str], run: str | None = None, space: SearchSpace | None = None
) -> StoredObservations:
    """Read the observations of a run, also while the run is being written.

    Args:
        path: The file.
        run: The run's name; None if the file holds one run.
        space: The space of the run; None for the stored space.

    Raises:
        StorageError: There is no such file or run, or the file is damaged.
        RunChanged: `space` differs from the run's space.
    """
    with opened_run(path, run) as (name, rows, connection):
        stored = StoredObservations(name, rows, space)

        def told() -> set[str]:
            return {each.treatment.name for each in stored if each.status is not Status.ABANDONED}

        lacks = what_it_lacks(
            os.fspath(path), connection, name, stored.description, stored.space, told
        )
    if lacks is not None:
        stored.notes.append(lacks.text)
        if not lacks.is_served:
            warnings.warn(lacks.text, RuntimeWarning, stacklevel=3)
    return stored


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection; it would take half the time, and find no garbage here."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
