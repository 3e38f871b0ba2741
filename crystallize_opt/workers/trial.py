"""A trial in progress, the protocol of runners, and the function that runs replicates."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field
from typing import Protocol

from crystallize_opt.pipeline.replicate import ReplicateRun
from crystallize_opt.pipeline.session import Session
from crystallize_opt.trials.observation import Replicate, Status
from crystallize_opt.trials.treatment import Treatment

Done = list[tuple[ReplicateRun, Replicate]]
"""Replicates of a trial, in order; none was run after one that did not complete."""


@dataclass(slots=True, eq=False)
class Trial:
    """A treatment that has been asked for and not yet told.

    A trial has one turn with a worker, or several if the optimizer uses per-replicate reports.

    Attributes:
        treatment: The treatment.
        last: The replicate before which the next turn ends.
        done: The replicates that have been run so far.
        attempt: 1 at first; higher if the trial is retried.
        seconds: How long the earlier turns of this attempt took.
    """

    treatment: Treatment
    last: int
    done: Done = field(default_factory=list)
    attempt: int = 1
    seconds: float = 0.0


class Runner(Protocol):
    """Runs trials, one or several at once.

    Attributes:
        failure: Why no trial can run any more; None while all is well.
    """

    failure: Exception | None

    def start(self, trial: Trial) -> None:
        """Run the next replicates of a trial, up to `trial.last`, as soon as a worker is free."""

    async def wait(self) -> list[tuple[Trial, Done]]:
        """Wait for trials to finish their turn.

        Returns:
            The trials and their new replicates; nothing if a signal needs attention first.
        """

    def cancel_queued(self) -> None:
        """Give up the trials that no worker has taken yet; `wait` returns them."""

    async def abandon(self) -> list[tuple[Trial, Done]]:
        """Give up every running trial, and end it if possible.

        Returns:
            The trials that had finished, or reported how they ended.
        """

    def close(self, *, now: bool) -> None:
        """Free the workers; with `now`, do not wait for a trial that cannot be ended."""


async def run_replicates(session: Session, treatment: Treatment, first: int, last: int) -> Done:
    """Run the replicates from `first` to before `last`; stop at one that does not complete."""
    done: Done = []
    for index in range(first, last):
        run = await session.run_replicate(treatment, index, condition=treatment.name)
        replicate = run.summary()
        run.drop_data()
        if run.error is not None:
            # A search keeps the error of every failed trial; the frames would keep all the data.
            run.error.__traceback__ = run.error.__cause__ = run.error.__context__ = None
        done.append((run, replicate))
        if replicate.status is not Status.COMPLETED:
            break  # The trial has failed, whatever the other replicates would measure.
    return done


def ended(
    index: int,
    status: Status,
    error: BaseException | str,
    *,
    started_at: float | None = None,
) -> tuple[ReplicateRun, Replicate]:
    """Build the record of a replicate that something outside its steps ended."""
    if isinstance(error, str):
        text, trace, exception = error, None, RuntimeError(error)
    else:
        text = "".join(traceback.format_exception_only(error)).strip()
        trace, exception = "".join(traceback.format_exception(error)), error  # type: ignore[assignment]
        exception.__traceback__ = None
    duration = None if started_at is None else time.time() - started_at
    run = ReplicateRun(index, None, {}, None, exception, started_at or 0.0, duration or 0.0)
    return run, Replicate(index, None, {}, status, text, trace, started_at, duration)
