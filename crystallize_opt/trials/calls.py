"""The calls that an optimizer received, as data: `replay` repeats them in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment


class Asked(NamedTuple):
    """One call of `ask`, and the treatments it suggested.

    Attributes:
        treatments: The treatments.
        wanted: How many were asked for, if a finite space ended before; otherwise None.
        expires: When they are abandoned if they are still pending, in seconds since the epoch; or
            None.
    """

    treatments: tuple[Treatment, ...]
    wanted: int | None = None
    expires: float | None = None


class Enqueued(NamedTuple):
    """One point given to `enqueue`, whole or in part."""

    params: Mapping[str, Any]


class Reported(NamedTuple):
    """One report of a finished replicate, and whether the backend would prune the trial."""

    name: str
    replicate: int
    metrics: Mapping[str, float]
    prune: bool


class ReportedPoint(NamedTuple):
    """One point of a trial's curves that was reported, and whether the backend would prune there.

    A backend hears of the only objective, if it ends trials early. The other points are kept for
    the trial's curves.

    Attributes:
        metric: The metric; None if it is that of the only objective.
    """

    name: str
    step: int
    value: float
    prune: bool
    metric: str | None = None


class Told(NamedTuple):
    """One call of `tell`."""

    observation: Observation


class Attached(NamedTuple):
    """One trial given to `attach`."""

    observation: Observation


class BaselineSet(NamedTuple):
    """One call of `set_baseline`.

    Attributes:
        observation: The outcome of the baseline.
        point: The parameters of the baseline as a point of the search space; None if it is none.
    """

    observation: Observation
    point: Mapping[str, Any] | None


class SavedState(NamedTuple):
    """The state of an optimizer before an ask, as far as the events do not determine it.

    Attributes:
        asks: How many calls of `ask` came before the state.
        data: The state, as the optimizer wrote it.
    """

    asks: int
    data: str


Event = Asked | Enqueued | Reported | ReportedPoint | Told | Attached | BaselineSet


def replaced_by(late: Observation, observations: Iterable[Observation]) -> list[Observation]:
    """Return the observations without the abandonment of the trial of a late one."""
    return [
        each
        for each in observations
        if each.status is not Status.ABANDONED or each.treatment.name != late.treatment.name
    ]
