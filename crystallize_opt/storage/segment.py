"""The part of a stored run that one optimizer made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.description import goals_of
from crystallize_opt.storage.fitting import Goals
from crystallize_opt.trials.calls import Asked, Attached, Event, Told
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.raced import all_joined
from crystallize_opt.trials.treatment import Treatment


@dataclass
class Segment:
    """The part of a run that one optimizer made.

    Attributes:
        description: The space, objectives, optimizer and experiment, as plain data.
        versions: The versions of Python and the libraries.
        asked_before: How many trials the optimizer had been asked for before the run began.
        space: The space.
        events: The optimizer's calls, in order.
        baseline: The outcome of the baseline, or None.
        of_baseline: Its parameters or function, as plain data.
    """

    description: Mapping[str, Any]
    versions: Mapping[str, str]
    asked_before: int
    space: SearchSpace | None = None
    events: list[Event] = field(default_factory=list)
    baseline: Observation | None = None
    of_baseline: Mapping[str, Any] = field(default_factory=dict)

    @property
    def goals(self) -> Goals:
        """The space, and the metrics that a completed trial has."""
        return goals_of(self.description, self.space)

    @property
    def treatments(self) -> list[Treatment]:
        """The treatments that were asked for in the run, in order."""
        asked = [t for e in self.events if isinstance(e, Asked) for t in e.treatments]
        return asked[self.asked_before :]

    @property
    def observations(self) -> list[Observation]:
        """The observations that were told or attached; of each trial the last one."""
        found: dict[int, Observation] = {}
        for event in self.events:
            if isinstance(event, (Told, Attached)):
                key = id(event.observation.treatment)
                found.pop(key, None)  # A late outcome takes the place of the abandonment.
                found[key] = event.observation
        return all_joined(found.values())
