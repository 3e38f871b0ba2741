"""A trial in progress, the protocol of a runner, and the function that runs replicates."""

from __future__ import annotations

import time
import traceback
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from crystallize_opt.pipeline.replicate import ReplicateRun
from crystallize_opt.pipeline.session import Session
from crystallize_opt.trials.curves import Listener
from crystallize_opt.trials.placed import PlacedTreatment, TrialFolders
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import SingleReplicate, Treatment

Done = list[ReplicateRun]
"""Replicates of a trial, in order. Of those of one turn, only the last one can have failed."""


@dataclass(eq=False)
class Trial:
    """A suggested treatment that the optimizer has not been told about yet.

    A worker runs a trial in one turn, or in several: if the optimizer uses per-replicate reports,
    if the number of replicates depends on how they go, or if one failed and the others still count.

    Attributes:
        treatment: The treatment.
        last: The index at which the next turn stops: the first replicate that it does not run.
        done: The replicates that have been run so far.
        listener: Hears of the trial's learning curve; None if nobody does.
        attempt: The number of this attempt: 1, or more for a retried trial.
        seconds: The duration of the earlier turns of this attempt.
        folders: Where the checkpoints of the trial are; None if nothing continues the trial.
        is_pruned: Whether the optimizer ended the trial between two replicates.
        beaten_by: The name of the trial because of which this one gets no more replicates, or None.
    """

    treatment: Treatment
    last: int
    done: Done = field(default_factory=list)
    listener: Listener | None = None
    attempt: int = field(default=1, init=False)
    seconds: float = field(default=0.0, init=False)
    folders: TrialFolders | None = field(default=None, init=False)
    is_pruned: bool = field(default=False, init=False)
    beaten_by: str | None = field(default=None, init=False)

    @property
    def replicates(self) -> list[Replicate]:
        """The records of the replicates that have been run so far."""
        return [run.record for run in self.done]

    @property
    def placed(self) -> Treatment:
        """The treatment as it is sent to a worker."""
        folders = self.folders
        return self.treatment if folders is None else PlacedTreatment(self.treatment, folders)


class Began(NamedTuple):
    """When something began: on the clock, and by a timer, since somebody may set the clock."""

    at: float
    timer: float

    @classmethod
    def now(cls) -> Began:
        """Return the present moment."""
        return cls(time.time(), time.monotonic())

    @property
    def duration(self) -> float:
        """The seconds since then."""
        return time.monotonic() - self.timer


class Runner(Protocol):
    """Runs one or several trials at once.

    Attributes:
        failure: The error after which no trial can run, or None.
        is_heard: Whether the points of a learning curve reach the listener while a trial runs.
    """

    is_heard: bool
    failure: Exception | None

    def start(self, trial: Trial) -> None:
        """Run the next replicates of a trial, up to `trial.last`, as soon as a worker is free."""

    async def wait(self) -> list[tuple[Trial, Done]]:
        """Wait for trials to finish their turn.

        Returns:
            The trials and their new replicates; an empty list if a signal came first.
        """

    def has_finished(self) -> bool:
        """Whether `wait` has something to return, or a signal to react to."""

    def cancel_queued(self, trials: Collection[Trial] | None = None) -> None:
        """Give up trials that no worker has taken yet; `wait` returns them.

        Args:
            trials: The trials to give up if they are still queued; None for all.
        """

    async def abandon(self) -> list[tuple[Trial, Done]]:
        """Give up every running trial, and kill it if possible.

        Returns:
            The trials that have finished, or whose end is known.
        """

    def close(self, *, now: bool) -> None:
        """Free the workers; with `now`, do not wait for a trial that cannot be ended."""


async def run_replicates(
    session: Session,
    treatment: Treatment,
    first: int,
    last: int,
    listener: Listener | None = None,
) -> Done:
    """Run the replicates from `first` to before `last`; stop at one that does not complete."""
    done: Done = []
    for index in range(first, last):
        if isinstance(treatment, SingleReplicate):
            run = await session.run_replicate(
                treatment, treatment.replicate, condition=treatment.condition, seed=treatment.seed
            )
        else:
            run = await session.run_replicate(
                treatment, index, condition=treatment.name, listener=listener
            )
        run.drop_data()
        done.append(run)
        if run.error is not None:
            if not session.keeps_tracebacks:
                # A search keeps the error of every failed trial, and the frames in its traceback
                # would keep the trial's data in memory.
                run.error.__traceback__ = run.error.__cause__ = run.error.__context__ = None
            break  # The trial has failed, so the other replicates do not matter.
    return done


def ended(
    index: int,
    status: Status,
    error: BaseException | str,
    *,
    began: Began | None = None,
) -> ReplicateRun:
    """Build the outcome of a replicate that did not end by itself (a dead worker, a time limit)."""
    if isinstance(error, str):
        text, trace, exception = error, None, RuntimeError(error)
    else:
        text = "".join(traceback.format_exception_only(error)).strip()
        trace, exception = "".join(traceback.format_exception(error)), error  # type: ignore[assignment]
        exception.__traceback__ = None
    started_at, duration = (None, None) if began is None else (began.at, began.duration)
    record = Replicate(index, None, {}, status, text, trace, started_at, duration)
    return ReplicateRun(record, {}, exception)
