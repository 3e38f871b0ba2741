"""The trials found in a run when it is resumed."""

from __future__ import annotations

from dataclasses import dataclass, field

from crystallize_opt.trials.observation import Observation, Replicate
from crystallize_opt.trials.treatment import Treatment


@dataclass
class Resumed:
    """The trials found in a run.

    Attributes:
        count: How many trials have been asked for.
        observations: The observations that the optimizer has been told, in order.
        held: The finished trials of a plain optimizer that wait for earlier suggestions.
        pending: The trials that have not finished, in order, each with its replicates so far.
    """

    count: int = 0
    observations: list[Observation] = field(default_factory=list)
    held: list[Observation] = field(default_factory=list)
    pending: list[tuple[Treatment, list[Replicate]]] = field(default_factory=list)
