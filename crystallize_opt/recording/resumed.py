"""What is found in a run when it is resumed."""

from __future__ import annotations

from dataclasses import dataclass, field

from crystallize_opt.trials.observation import Observation, Replicate
from crystallize_opt.trials.treatment import Treatment


@dataclass
class Resumed:
    """What was found in a run.

    Attributes:
        count: How many trials have been asked for.
        observations: What the optimizer has been told of them, in order.
        held: What has finished and is not told yet, because a plain optimizer is told in order.
        pending: The trials that have not finished, in order, each with its replicates so far.
    """

    count: int = 0
    observations: list[Observation] = field(default_factory=list)
    held: list[Observation] = field(default_factory=list)
    pending: list[tuple[Treatment, list[Replicate]]] = field(default_factory=list)
