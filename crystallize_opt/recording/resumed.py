"""The trials found in a run when it is resumed."""

from __future__ import annotations

from dataclasses import dataclass, field

from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.treatment import Treatment


@dataclass
class Resumed:
    """The trials found in a run.

    Attributes:
        count: How many trials have been asked for.
        observations: The trials that the optimizer has been told, in order. Observations that only
            repeat a known outcome are no trials; they are in none of these lists.
        held: The finished trials of a plain optimizer that wait for earlier suggestions.
        pending: The trials that have not finished, in order, each with its replicates so far.
        unanswered: The suggestions with a known outcome that was not reported before the process
            died, in order, each with the replicates that were.
    """

    count: int = 0
    observations: list[Observation] = field(default_factory=list)
    held: list[Observation] = field(default_factory=list)
    pending: list[tuple[Treatment, list[Replicate]]] = field(default_factory=list)
    unanswered: list[tuple[Treatment, Observation, list[Replicate]]] = field(default_factory=list)
