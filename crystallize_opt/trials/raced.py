"""Puts together the single replicates of a race: an optimizer asks for each one on its own.

A treatment of which further replicates are asked for is one trial whose replicates grow. Only this
module decides what its observation is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import RacedReplicate, Treatment


def joined(known: Observation | None, told: Observation) -> Observation:
    """Return the observation of a trial in a race, with one more replicate.

    The trial completes if all of its replicates do. One that was abandoned is not among them.

    Args:
        known: The trial's observation so far, or None.
        told: The outcome of one more replicate, whose treatment is a `RacedReplicate`.
    """
    treatment = told.treatment
    if not isinstance(treatment, RacedReplicate):
        return told
    own = Treatment(treatment.condition, treatment.function or treatment.params)
    # Told by hand, it may have no replicate; that of a worker that died has no number of its own.
    (replicate,) = told.replicates or [_replicate_of(told)]
    replicate = dataclasses.replace(replicate, index=treatment.replicate)
    if known is None or known.status is Status.ABANDONED:
        return dataclasses.replace(told, treatment=own, replicates=(replicate,), raced=True)
    if told.status is Status.ABANDONED:
        return known
    together = sorted([*known.replicates, replicate], key=lambda each: each.index)
    return dataclasses.replace(Observation.of_replicates(known.treatment, together), raced=True)


def suggestions_of(observation: Observation) -> int:
    """Return of how many suggestions an observation is the outcome: in a race, of several."""
    return max(1, len(observation.replicates)) if observation.raced else 1


def condition_of(treatment: Treatment) -> str:
    """Return the name of the trial that a suggestion belongs to."""
    return treatment.condition if isinstance(treatment, RacedReplicate) else treatment.name


def _replicate_of(told: Observation) -> Replicate:
    return Replicate(
        0,
        None,
        told.metrics,
        told.status,
        told.error,
        told.traceback,
        told.started_at,
        told.duration,
    )


def all_joined(observations: Iterable[Observation]) -> list[Observation]:
    """Return the trials of which these are the outcomes, in the order of their first ones."""
    found: dict[str, Observation] = {}
    for number, each in enumerate(observations):
        treatment = each.treatment
        if isinstance(treatment, RacedReplicate):
            found[treatment.condition] = joined(found.get(treatment.condition), each)
        else:
            name = treatment.name
            # Names are unique within an optimizer, but not if a plain one reuses them.
            found[name if name not in found else f"{name}\0{number}"] = each
    return list(found.values())
