"""The order in which an optimizer was asked and told: what `replay` needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment


class Asked(NamedTuple):
    """One call of `ask`, and what it suggested."""

    treatments: tuple[Treatment, ...]


class Enqueued(NamedTuple):
    """One point given to `enqueue`, whole or in part."""

    params: Mapping[str, Any]


class Reported(NamedTuple):
    """One finished replicate of a pending treatment, and whether the backend would end it."""

    name: str
    replicate: int
    metrics: Mapping[str, float]
    prune: bool


class Told(NamedTuple):
    """One call of `tell`."""

    observation: Observation


class Attached(NamedTuple):
    """One trial given to `attach`."""

    observation: Observation


class SavedState(NamedTuple):
    """What an ask depended on besides the events before it.

    Attributes:
        asks: How many calls of `ask` were before it.
        data: What that was, as the optimizer wrote it.
    """

    asks: int
    data: str


Event = Asked | Enqueued | Reported | Told | Attached
