"""Treatments and observations as JSON; reading restores them exactly.

Floats are written as `repr` writes them, and so restored bit for bit; nan and the infinities, which
JSON lacks, are texts. A choice is written as its index in the space, so that no user object is
serialised.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from crystallize_opt.errors import InvalidParametersError, StorageError
from crystallize_opt.plain_data import decode, encode
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.numbers import Float
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.curves import HEARD_REPLICATE, Curve, Curves
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import RacedReplicate, Treatment
from crystallize_opt.trials.values import as_number

STATUSES = {str(status): status for status in Status}
"""Each status by its text; faster than `Status(...)`."""
OF_ASK = ("wanted", "expires")
"""What is written of a call of `ask` besides its treatments, if it is not None."""
_to_text = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class TrialFormat:
    """Writes and reads the treatments of one search space.

    Args:
        space: The search space; None for an optimizer without a space.

    Attributes:
        space: The search space.
    """

    def __init__(self, space: SearchSpace | None) -> None:
        self.space = space
        self._choices = {
            name: parameter
            for name, parameter in (space or {}).items()
            if isinstance(parameter, (Categorical, Ordinal))
        }
        self._has_constants = any(isinstance(p, Constant) for p in (space or {}).values())
        self._has_conditions = any(p.conditions for p in (space or {}).values())
        self._checks = {name: _check_of(parameter) for name, parameter in (space or {}).items()}
        self._names = {n for n, p in (space or {}).items() if not isinstance(p, Constant)}

    def write_treatment(self, treatment: Treatment) -> dict[str, Any]:
        """Return name and parameters as plain data."""
        data: dict[str, Any] = {
            "name": treatment.name,
            "params": self.write_params(treatment.params),
        }
        if isinstance(treatment, RacedReplicate):
            data |= {"replicate": treatment.replicate, "of": treatment.condition}
        return data

    def write_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point, or a part of a point, as plain data."""
        space = self.space
        if space is None:
            return {name: encode(value) for name, value in params.items()}
        written = {}
        for name, value in params.items():
            if name in self._choices:
                written[name] = self._choices[name].index(value)
            elif not isinstance(space[name], Constant):
                written[name] = value
        return written

    def read_treatment(self, data: Mapping[str, Any]) -> Treatment:
        """Return the treatment that `write_treatment` wrote."""
        space, written = self.space, data["params"]
        if "replicate" in data:
            whole = self.read_treatment({"name": data["of"], "params": written})
            return RacedReplicate(whole, data["replicate"], name=data["name"])
        if space is None:
            return Treatment(data["name"], {k: decode(v) for k, v in written.items()})
        for name, parameter in self._choices.items():
            if name in written:
                written[name] = parameter.choices[written[name]]
        if self._has_constants:
            written = self._with_constants(written)
        return Treatment(data["name"], written)

    def check_params(self, params: Mapping[str, Any], *, whole: bool) -> None:
        """Check a point, or a part of one, before it is read.

        A linear constraint is not checked: a trial that ran is a trial, even if a later version
        rounds the constraint in another way.

        Raises:
            InvalidParametersError: A value is not one that this format writes for the space, or a
                whole point has other parameters than the active ones.
            UsageError: Without a space: a value is not one that this format writes.
        """
        space = self.space
        if space is None:
            for value in params.values():
                decode(value)
            return
        for name, value in params.items():
            if name not in self._checks or not self._checks[name](value):
                raise InvalidParametersError(f"{name!r} is {value!r:.200}")
        if not whole:
            return
        if self._has_conditions:
            point = self.read_treatment({"name": "", "params": dict(params)}).params
            fits = all(space.is_active(name, point) == (name in point) for name in space)
        else:
            fits = params.keys() == self._names
        if not fits:
            raise InvalidParametersError(f"these are not the active parameters: {[*params]!r:.500}")

    def _with_constants(self, written: Mapping[str, Any]) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for name, parameter in (self.space or {}).items():
            if name in written:
                params[name] = written[name]
            elif isinstance(parameter, Constant) and self._is_active(name, params):
                params[name] = parameter.value
        return params

    def _is_active(self, name: str, params: Mapping[str, Any]) -> bool:
        return self.space is not None and self.space.is_active(name, params)


def _check_of(parameter: Parameter) -> Callable[[Any], bool]:
    """Return a function that tells whether a written value is one of a parameter's."""
    if isinstance(parameter, (Categorical, Ordinal)):
        count = len(parameter.choices)
        return lambda value: type(value) is int and 0 <= value < count
    if isinstance(parameter, Constant):
        return lambda _: False
    if isinstance(parameter, Float) and parameter.step is None:
        low, high = parameter.low, parameter.high
        return lambda value: type(value) in (float, int) and low <= value <= high

    def holds(value: Any) -> bool:
        try:
            canonical = parameter.canonical(value)
        except InvalidParametersError:
            return False
        return type(value) in (type(canonical), int) and bool(canonical == value)

    return holds


def to_text(data: Mapping[str, Any]) -> str:
    """Return plain data as JSON, in ASCII."""
    return _to_text(data)


def write_observation(observation: Observation, held: HeldCurves | None = None) -> dict[str, Any]:
    """Return an observation without its treatment's parameters, as plain data.

    A field that is equal in the observation and a replicate is written once.

    Args:
        observation: The observation.
        held: The curves of the trial that the run holds already.
    """
    data: dict[str, Any] = {"name": observation.treatment.name, "status": str(observation.status)}
    data["metrics"] = write_numbers(observation.metrics)
    replicates = observation.replicates
    default_sem = dict.fromkeys(observation.metrics) if replicates else {}
    if observation.sem != default_sem:
        data["sem"] = write_numbers(observation.sem)
    for name in ("error", "traceback", "started_at", "duration", "repeats", "beaten_by"):
        value = getattr(observation, name)
        if value is not None:
            data[name] = value
    if observation.shared_noise:
        data["shared_noise"] = True
    if observation.raced:
        data["raced"] = True
    if replicates:
        data["replicates"] = [write_replicate(replicate, data, held) for replicate in replicates]
    return data


def read_observation(
    data: Mapping[str, Any], treatment: Treatment, held: HeldCurves | None = None
) -> Observation:
    """Return the observation that `write_observation` wrote."""
    get = data.get
    metrics = _read_numbers(data["metrics"])
    status, written = STATUSES[data["status"]], get("replicates", ())
    error, traceback = get("error"), get("traceback")
    started_at, duration = get("started_at"), get("duration")
    sem: Mapping[str, float | None] = dict.fromkeys(metrics) if written else {}
    if "sem" in data:  # A run of an earlier version may hold some without their metric.
        sem = {name: e for name, e in _read_numbers(data["sem"]).items() if name in metrics}
    if len(written) == 1 and len(written[0]) == 2:  # Usual: the rest is the trial's.
        index, seed = written[0]["index"], written[0]["seed"]
        replicates: tuple[Replicate, ...] = (
            Replicate(index, seed, metrics, status, error, traceback, started_at, duration),
        )
    else:
        replicates = tuple([read_replicate(each, data, metrics, held) for each in written])
    shared = get("shared_noise", False)
    return Observation(
        treatment,
        metrics,
        status,
        sem,
        replicates,
        error,
        traceback,
        started_at,
        duration,
        get("repeats"),
        shared,
        get("beaten_by"),
        get("raced", False),
    )


_OF_REPLICATE = ("status", "error", "traceback", "started_at", "duration")


def write_replicate(
    replicate: Replicate, trial: Mapping[str, Any], held: HeldCurves | None = None
) -> dict[str, Any]:
    """Return a replicate as plain data, without the fields that equal its trial's."""
    data: dict[str, Any] = {"index": replicate.index, "seed": replicate.seed}
    if replicate.curves:
        data["curves"] = (held or HeldCurves()).write(replicate.index, replicate.curves)
    written = write_numbers(replicate.metrics)
    if repr(written) != repr(trial.get("metrics")):
        data["metrics"] = written
    for name in _OF_REPLICATE:
        value = getattr(replicate, name)
        if name == "status":
            value = str(value)
        if value != trial.get(name):
            data[name] = value
    return data


def read_replicate(
    data: Mapping[str, Any],
    trial: Mapping[str, Any],
    metrics: Mapping[str, float],
    held: HeldCurves | None = None,
) -> Replicate:
    """Return the replicate that `write_replicate` wrote.

    Args:
        data: The plain data of the replicate.
        trial: The plain data of the trial, from `write_observation`.
        metrics: The trial's metrics.
        held: The curves of the trial that were read before.
    """
    if "metrics" in data:
        metrics = _read_numbers(data["metrics"])
    status = STATUSES[data.get("status") or trial["status"]]
    error, traceback, started_at, duration = (
        data[name] if name in data else trial.get(name) for name in _OF_REPLICATE[1:]
    )
    return Replicate(
        data["index"],
        data["seed"],
        metrics,
        status,
        error,
        traceback,
        started_at,
        duration,
        (held or HeldCurves()).read(data["index"], data["curves"]) if "curves" in data else {},
    )


class HeldCurves:
    """The curves of a trial that a run holds before the trial has finished: they are written once.

    The points that were reported to an optimizer are rows of their own, and so are the replicates
    after which a trial goes on. What follows, the replicate or the outcome, refers to them.

    Attributes:
        points: The points that were reported to the optimizer, by metric; None stands for that of
            the only objective.
        replicates: The curves of the replicates that the run holds, by index.
    """

    OF_POINTS = "points"
    """Stands for a curve whose points were reported to the optimizer."""
    OF_REPLICATE = "replicate"
    """Stands for all curves of a replicate that the run holds."""

    def __init__(self) -> None:
        self.points: defaultdict[str | None, list[tuple[int, float]]] = defaultdict(list)
        self.replicates: dict[int, Curves] = {}

    def add(self, kind: str, data: Mapping[str, Any]) -> None:
        """Read a row of points ("curve"), or one of a replicate."""
        if kind == "curve":
            self.points[data.get("metric")] += read_curve(data["points"])
        else:
            replicate = data["replicate"]
            index = replicate["index"]
            self.replicates[index] = self.read(index, replicate.get("curves", {}))

    def write(self, index: int, curves: Curves) -> Any:
        """Return the curves of a replicate as plain data."""
        # By their texts: nan is equal to nan.
        if index in self.replicates and repr(self.replicates[index]) == repr(curves):
            return self.OF_REPLICATE
        is_heard = bool(self.points) and index == HEARD_REPLICATE
        return {
            name: self.OF_POINTS
            if is_heard and repr(self._points_of(name)) == repr(curve)
            else write_curve(curve)
            for name, curve in curves.items()
        }

    def read(self, index: int, data: Any) -> Curves:
        """Return the curves that `write` wrote."""
        if data == self.OF_REPLICATE:
            return self.replicates[index]
        return {
            name: self._points_of(name) if each == self.OF_POINTS else read_curve(each)
            for name, each in data.items()
        }

    def _points_of(self, metric: str) -> Curve:
        return tuple(self.points.get(metric) or self.points.get(None) or ())


def write_curve(curve: Iterable[tuple[int, float]]) -> list[list[Any]]:
    """Return the points of a curve as plain data: the steps, and the values."""
    points = list(curve)
    return [[step for step, _ in points], [write_number(value) for _, value in points]]


def read_curve(data: Sequence[Sequence[Any]]) -> Curve:
    """Return the points that `write_curve` wrote."""
    steps, values = data
    return tuple(zip(steps, map(float, values), strict=True))


def write_number(value: float) -> float | str:
    """Return a number as JSON can keep it: "nan", "inf" and "-inf" are texts there."""
    return value if math.isfinite(value) else repr(value)


def write_numbers(numbers: Mapping[str, float | None]) -> dict[str, Any]:
    """Return named numbers as JSON can keep them."""
    written: dict[str, Any] = {}
    for name, value in numbers.items():
        if value is not None and type(value) is not float:
            number = as_number(value)
            if number is None:
                raise StorageError(f"The metric {name!r} is {value!r}, not a number.")
            value = int(value) if type(value) is int else number
        written[name] = value if value is None else write_number(value)
    return written


def _read_numbers(written: Mapping[str, Any]) -> Any:
    for value in written.values():
        if type(value) is str:
            return {k: float(v) if type(v) is str else v for k, v in written.items()}
    return written
