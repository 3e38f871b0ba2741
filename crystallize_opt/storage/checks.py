"""The one reader of stored events: it checks each of them, whoever will use them.

A checksum shows that an event is as it was written; not that this package wrote it. What passes
these checks can be used without further ones: all else is a `StorageError`.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from crystallize_opt.errors import CrystallizeOptError, StorageError
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.description import (
    changes,
    constraints_of,
    describe_space,
    objectives_of,
    space_of,
)
from crystallize_opt.storage.journal import Row
from crystallize_opt.storage.records import OF_ASK, STATUSES, HeldCurves, TrialFormat

_DEEPEST = 320  # Levels of JSON: `encode` takes three for each of at most 100 levels.
_WORDS = {"nan", "inf", "-inf"}
_NUMBERS = (int, float)
_OPTIONAL_TEXTS, _OPTIONAL_NUMBERS = ("error", "traceback"), ("started_at", "duration")
_OF_REPLICATE = {
    *("index", "seed", "metrics", "status", "curves"),
    *(*_OPTIONAL_TEXTS, *_OPTIONAL_NUMBERS),
}
_OF_OBSERVATION = (_OF_REPLICATE - {"index", "seed", "curves"}) | {
    *("name", "sem", "replicates", "repeats", "shared_noise", "beaten_by", "raced")
}
_FIELDS = {
    "begin": {"description", "versions", "asked_before"},
    "resume": {"versions"},
    "ask": {"name", "params", "replicate", "of", *OF_ASK},
    "batch": {"name", "params", "replicate", "of"},
    "attach": _OF_OBSERVATION | {"params"},
    "enqueue": {"params"},
    "report": {"name", "prune", "replicate"},
    "replicate": {"name", "replicate"},
    "curve": {"name", "metric", "points", "prune"},
    "told": {"name"},
    "observation": _OF_OBSERVATION,
    "baseline": _OF_OBSERVATION | {"params", "function", "point"},
}


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


_scan: Any = json.JSONDecoder(parse_constant=_no_constant).scan_once  # type: ignore[attr-defined]


class Checked(NamedTuple):
    """One event that has been checked, as plain data, and the format of its parameters."""

    kind: str
    trial: int | None
    data: dict[str, Any]
    trial_format: TrialFormat


class _Damage(Exception):  # noqa: N818  (never leaves this module)
    """What is wrong with an event, in words."""


_OF_WRONG_FORM = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    StopIteration,
    TypeError,
    ValueError,
)


def _damaged(run: str, error: Exception) -> StorageError:
    why = str(error) if isinstance(error, _Damage) else repr(error)
    return StorageError(
        f"The run {run!r} is damaged: {why:.500}. Restore the file from a copy, or begin a new run "
        "in another one."
    )


def checked_events(
    run: str, rows: Sequence[Row], space: SearchSpace | None = None
) -> Iterator[Checked]:
    """Parse and check the events of a run, in order.

    Args:
        run: The run's name.
        rows: The run's events.
        space: The source of choice objects for segments with an equal space; other segments use
            their stored space.

    Raises:
        StorageError: An event is not as this package writes it.
    """
    check = _Check(space)
    for number, (kind, trial, text) in enumerate(rows):
        try:
            data, end = _scan(text, 0)
            if type(data) is not dict or end != len(text):
                raise _Damage(f"event {number} is no JSON object")
            if kind not in _FIELDS:
                raise _Damage(f"it has events of the kind {kind!r}")
            if not data.keys() <= _FIELDS[kind]:
                raise _Damage(f"event {number} has unknown fields")
            check.event(kind, trial, data)
        except StorageError:
            raise
        except (_Damage, CrystallizeOptError, *_OF_WRONG_FORM) as error:
            raise _damaged(run, error) from error
        yield Checked(kind, trial, data, check.trial_format)


@dataclass
class _Held:
    """Which curves of a trial were written before its outcome: see `HeldCurves`."""

    points: set[str | None] = field(default_factory=set)  # The metrics; None: the objective's.
    replicates: set[int] = field(default_factory=set)


class _Check:
    """What the events so far say about the next one."""

    def __init__(self, given: SearchSpace | None) -> None:
        self._given = given
        self._names: dict[int | None, str] = {}
        self._pending: set[int | None] = set()
        self._abandoned: set[int | None] = set()
        # Of pending and abandoned trials.
        self._held: defaultdict[int | None, _Held] = defaultdict(_Held)
        self._objectives: tuple[str, ...] | None = None  # None before the run begins.
        self._last = ""
        self.trial_format = TrialFormat(None)

    def event(self, kind: str, trial: int | None, data: dict[str, Any]) -> None:
        # Ordered by how often a kind occurs: this runs for each of perhaps 200,000 events.
        if self._objectives is None and kind != "begin":
            raise _Damage(f"it has an event of the kind {kind!r} before it begins")
        if kind in ("observation", "report", "replicate", "curve"):
            self._continue_trial(kind, trial, data)
        elif kind in ("ask", "batch", "attach"):
            self._add_trial(kind, trial, data)
        elif kind == "begin":
            self._begin(trial, data)
        elif kind == "resume":
            _check_versions(data["versions"])
        elif kind == "told":
            known = data["name"] == self._names[trial] and trial not in self._pending
            _expect(known, "told trial", data["name"])
        elif kind == "baseline":
            self._check_baseline(trial, data)
        else:
            self.trial_format.check_params(data["params"], whole=False)
        self._last = kind

    def _continue_trial(self, kind: str, trial: int | None, data: dict[str, Any]) -> None:
        if trial not in self._pending or data["name"] != self._names[trial]:
            self._check_late(kind, trial, data)
        if kind == "observation":
            self._check_observation(data, self._held.get(trial))
            self._pending.discard(trial)
            if data["status"] == "abandoned":
                self._abandoned.add(trial)
            else:
                self._abandoned.discard(trial)
                self._held.pop(trial, None)
        elif kind == "curve":
            _check_points(data["points"], data.get("prune", []))
            metric = data.get("metric")
            _expect(metric is None or type(metric) is str, "metric", metric)
            self._held[trial].points.add(metric)
        else:
            held = self._held[trial]
            _check_replicate(data["replicate"], held)
            held.replicates.add(data["replicate"]["index"])
            _expect(kind == "replicate" or type(data["prune"]) is bool, "report", data)

    def _check_late(self, kind: str, trial: int | None, data: dict[str, Any]) -> None:
        """Check an event of a trial that is not pending: a late one of an abandoned trial."""
        late = kind == "curve" or (kind == "observation" and data["status"] != "abandoned")
        if not late or trial not in self._abandoned or data["name"] != self._names[trial]:
            raise _Damage(f"trial {trial!r}, {data['name']!r}, is not pending")

    def _begin(self, trial: int | None, data: dict[str, Any]) -> None:
        description = data["description"]
        _expect(trial is None and _depth(description) <= _DEEPEST, "begin", trial)
        _check_versions(data["versions"])
        _expect(type(data["asked_before"]) is int, "asked_before", data["asked_before"])
        for key, kind in (("optimizer", dict), ("experiment", dict)):
            _expect(isinstance(description.get(key), (kind, type(None))), key, description)
        _expect(isinstance(description["optimizer"].get("settings"), dict), "settings", description)
        seed = description.get("experiment", {}).get("seed")
        _expect(seed is None or type(seed) is int, "seed", seed)
        self._objectives = tuple([each.metric for each in objectives_of(description)])
        constraints_of(description)
        self.trial_format = TrialFormat(matching_space(description["space"], self._given))
        self._pending.clear()
        self._abandoned.clear()
        self._held.clear()

    def _add_trial(self, kind: str, trial: int | None, data: dict[str, Any]) -> None:
        if trial != len(self._names):
            raise _Damage(f"trial {trial!r} follows trial {len(self._names) - 1}")
        if kind == "batch" and self._last not in ("ask", "batch"):
            raise _Damage(f"trial {trial!r} belongs to no ask")
        name = self._names[trial] = data["name"]
        if type(name) is not str:
            raise _Damage(f"a trial has the name {name!r:.200}")
        if "of" in data or "replicate" in data:
            _expect(type(data["of"]) is str, "raced trial", data["of"])
            _expect(type(data["replicate"]) is int and data["replicate"] >= 0, "replicate", data)
        self.trial_format.check_params(data["params"], whole=True)
        if kind == "attach":
            self._check_observation(data)
            return
        self._pending.add(trial)
        if len(data) > 2:  # Seldom.
            wanted, expires = data.get("wanted", 1), data.get("expires", 0.0)
            _expect(type(wanted) is int and wanted >= 1, "wanted", wanted)
            _expect(type(expires) in _NUMBERS and math.isfinite(expires), "expires", expires)

    def _check_baseline(self, trial: int | None, data: dict[str, Any]) -> None:
        _expect(trial is None and _depth(data) <= _DEEPEST, "baseline", trial)
        _expect(data["status"] == "completed", "baseline", data["status"])
        TrialFormat(None).check_params(data["params"], whole=True)
        if "point" in data:
            self.trial_format.check_params(data["point"], whole=True)
        self._check_observation(data)

    def _check_observation(self, data: dict[str, Any], held: _Held | None = None) -> None:
        metrics = data["metrics"]
        _check_numbers(metrics)
        if data["status"] == "completed":
            for metric in self._objectives or ():
                if type(metrics.get(metric)) not in _NUMBERS:
                    raise _Damage(f"a completed trial has {metric!r}: {metrics.get(metric)!r}")
        else:
            STATUSES[data["status"]]
        for name in ("shared_noise", "raced"):
            if data.get(name, True) is not True:  # It is written only if it is true.
                raise _Damage(f"a trial has the field {name!r}: {data[name]!r:.200}")
        beaten_by = data.get("beaten_by", "")
        _expect(type(beaten_by) is str, "field 'beaten_by'", beaten_by)
        if "sem" in data:
            _check_numbers({k: v for k, v in data["sem"].items() if v is not None})
        _check_circumstances(data)
        for replicate in data.get("replicates", ()):
            _check_replicate(replicate, held)


def matching_space(described: Any, given: SearchSpace | None) -> SearchSpace | None:
    """Return the described space; the given space itself if it is equal."""
    if described is None:
        return None
    if given is not None and not changes({"space": described}, {"space": describe_space(given)}):
        return given
    return space_of(described)


def _expect(holds: bool, what: str, value: Any) -> None:
    if not holds:
        raise _Damage(f"its {what} is {value!r:.200}")


def _check_replicate(data: Mapping[str, Any], held: _Held | None) -> None:
    if not data.keys() <= _OF_REPLICATE:
        raise _Damage("a replicate has unknown fields")
    index, seed = data["index"], data["seed"]
    if type(index) is not int or index < 0 or not (seed is None or type(seed) is int):
        raise _Damage(f"a replicate has the index {index!r} and the seed {seed!r}")
    if len(data) == 2:
        return  # Usual: all else is the trial's.
    if "metrics" in data:
        _check_numbers(data["metrics"])
    if "status" in data:
        STATUSES[data["status"]]
    if "curves" in data:
        _check_curves(index, data["curves"], held or _Held())
    _check_circumstances(data)


def _check_curves(index: int, curves: Any, held: _Held) -> None:
    if curves == HeldCurves.OF_REPLICATE:
        _expect(index in held.replicates, "curves of replicate", index)
        return
    for metric, curve in curves.items():
        if curve == HeldCurves.OF_POINTS:
            _expect(not held.points.isdisjoint((metric, None)), "curve of points", curve)
        else:
            _check_curve(curve)


def _check_points(points: Any, prune: Any) -> None:
    _check_curve(points)
    _expect(type(prune) is list, "prune", prune)
    _expect(all(type(n) is int and 0 <= n < len(points[0]) for n in prune), "prune", prune)


def _check_curve(data: Any) -> None:
    steps, values = data
    if type(steps) is not list or type(values) is not list or len(steps) != len(values):
        raise _Damage(f"a curve is {data!r:.200}")
    if len(set(steps)) < len(steps) or any(type(s) is not int or s < 0 for s in steps):
        raise _Damage(f"a curve has the steps {steps!r:.200}")
    _check_numbers(dict(enumerate(values)))


def _check_circumstances(data: Mapping[str, Any]) -> None:
    for name in _OPTIONAL_NUMBERS:
        value = data.get(name)
        if value is not None and not (type(value) in _NUMBERS and math.isfinite(value)):
            raise _Damage(f"its {name} is {value!r:.200}")
    for name in _OPTIONAL_TEXTS:
        if name in data and not (data[name] is None or type(data[name]) is str):
            raise _Damage(f"its {name} is {data[name]!r:.200}")


def _check_numbers(numbers: Mapping[Any, Any]) -> None:
    for value in numbers.values():
        if type(value) in _NUMBERS:
            if math.isfinite(value):
                continue
        elif type(value) is str and value in _WORDS:
            continue
        raise _Damage(f"a metric is {value!r}")


def _check_versions(versions: Any) -> None:
    _expect(
        type(versions) is dict and all(type(each) is str for each in versions.values()),
        "versions",
        versions,
    )


def _depth(data: Any) -> int:
    """Return how many levels of lists and dicts data have, without recursion."""
    depth, level = 0, [data]
    while level := [
        item
        for each in level
        if type(each) in (dict, list)
        for item in (each.values() if type(each) is dict else each)
    ]:
        depth += 1
    return depth
