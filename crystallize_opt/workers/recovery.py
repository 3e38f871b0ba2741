"""Finds the trial that killed a worker, so that no other trial fails.

Executors report a dead worker in different ways, and only "processes" names the trial:

- `ProcessPoolExecutor` and loky give every running trial the same exception, and cannot be used
  any more.
- Dask raises `KilledWorker`, or cancels the trial. It may do either also to a trial that only
  waited for the dead worker. The executor can still be used.
- "processes" knows which trial a worker ran, so it does not need this module.

So every lost trial is a suspect. The suspects run again, one at a time and nothing else with them:
a suspect that is lost again has killed its worker. All other trials wait until the search for the
culprit is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from crystallize_opt.trials.status import Status
from crystallize_opt.workers.trial import Done, Trial, ended

DIED = "The process that ran it died."
_BROKE = "The executor broke."


class Recovery:
    """Holds the trials that wait until the trial that killed a worker is known.

    Attributes:
        broken: Whether the executor cannot be used any more.
    """

    def __init__(self) -> None:
        self.broken = False
        self._lost: list[Trial] = []
        self._suspects: deque[Trial] = deque()
        self._alone: Trial | None = None
        self._held: deque[Trial] = deque()

    @property
    def is_going_on(self) -> bool:
        """Whether a new trial must wait, because it would become a suspect if it ran now."""
        return bool(self._suspects or self._alone or self._lost)

    @property
    def has_lost_trials(self) -> bool:
        """Whether there are lost trials that are not yet suspects."""
        return bool(self._lost)

    def hold(self, trial: Trial) -> None:
        """Let a trial wait."""
        self._held.append(trial)

    def is_alone(self, trial: Trial) -> bool:
        """Whether a trial runs alone, so that it has killed its worker if it is lost."""
        return trial is self._alone

    def lost(self, trial: Trial, *, broken: bool) -> None:
        """Record a trial that was lost with a worker.

        Args:
            trial: The trial.
            broken: Whether the executor cannot be used any more.
        """
        self._lost.append(trial)
        self.broken |= broken

    def finished(self, trial: Trial) -> None:
        """Record that a trial has ended, with or without an error."""
        if trial is self._alone:
            self._alone = None

    def blame(self) -> list[tuple[Trial, Done]]:
        """Find the trial that killed a worker. Needs a usable executor that runs no trial.

        Returns:
            The trial, if only one was lost. Otherwise nothing: the lost trials become suspects.
        """
        lost, self._lost = self._lost, []
        self.broken = False
        self._alone = None
        if len(lost) == 1:
            return [(lost[0], [ended(len(lost[0].done), Status.WORKER_DIED, DIED)])]
        self._suspects.extend(lost)
        return []

    def give_up(self) -> list[tuple[Trial, Done]]:
        """End every lost and every waiting trial, because no trial will run again."""
        # A single lost trial has killed its worker. Of several, the culprit is unknown.
        status = Status.WORKER_DIED if len(self._lost) == 1 else Status.ABANDONED
        trials = (*self._lost, *self._suspects, *self._held)
        self.clear()
        return [(trial, [ended(len(trial.done), status, _BROKE)]) for trial in trials]

    def next_trials(self) -> list[Trial]:
        """Return the trials to run when no trial is running: one suspect, or all that waited."""
        if self._alone is not None or self._lost:
            return []
        if self._suspects:
            self._alone = self._suspects.popleft()
            return [self._alone]
        trials = list(self._held)
        self._held.clear()
        return trials

    def withdraw(self, trials: Collection[Trial] | None = None) -> list[Trial]:
        """Return the waiting trials, or those of them that are in `trials`, and forget them."""
        waiting = [*self._held, *self._suspects]
        if trials is not None:
            waiting = [trial for trial in waiting if trial in trials]
        for queue in (self._held, self._suspects):
            kept = [trial for trial in queue if trial not in waiting]
            queue.clear()
            queue.extend(kept)
        return waiting

    def clear(self) -> None:
        """Forget every trial."""
        self.withdraw()
        self._lost.clear()
        self._alone = None
        self.broken = False
