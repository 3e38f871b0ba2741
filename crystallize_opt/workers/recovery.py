"""The order in which trials run after a worker died, so that only the trial that killed it fails.

Executors report a dead worker in different ways, and none but "processes" names the trial:

- `ProcessPoolExecutor` and loky give every trial in flight the same exception, and are unusable
  from then on.
- Dask raises `KilledWorker`, or cancels the trial. Either may also hit a trial that only waited for
  the dead worker. The executor stays usable.
- "processes" knows which trial a worker ran, so this module has nothing to find out.

So every lost trial is a suspect. Suspects run again, one at a time and with nothing beside them: a
suspect that is lost once more has killed its worker. All other trials wait until then.
"""

from __future__ import annotations

from collections import deque

from crystallize_opt.trials.observation import Status
from crystallize_opt.workers.trial import Done, Trial, ended

DIED = "The process that ran it died."
_BROKE = "The executor broke."


class Recovery:
    """Holds the trials that wait while the trial that killed a worker is found.

    Attributes:
        broken: Whether the executor is unusable, and not just without a worker.
    """

    def __init__(self) -> None:
        self.broken = False
        self._lost: list[Trial] = []
        self._suspects: deque[Trial] = deque()
        self._alone: Trial | None = None
        self._held: deque[Trial] = deque()

    @property
    def is_going_on(self) -> bool:
        """Whether a new trial has to wait; otherwise it might become a suspect, too."""
        return bool(self._suspects or self._alone or self._lost)

    @property
    def has_lost_trials(self) -> bool:
        """Whether trials were lost that are not yet suspects."""
        return bool(self._lost)

    def hold(self, trial: Trial) -> None:
        """Let a trial wait."""
        self._held.append(trial)

    def is_alone(self, trial: Trial) -> bool:
        """Whether a trial runs with nothing beside it, so that it is to blame if it is lost."""
        return trial is self._alone

    def lost(self, trial: Trial, *, broken: bool) -> None:
        """Record a trial that was lost with a worker.

        Args:
            trial: The trial.
            broken: Whether the executor is now unusable.
        """
        self._lost.append(trial)
        self.broken |= broken

    def finished(self, trial: Trial) -> None:
        """Note that a trial has ended, however it ended."""
        if trial is self._alone:
            self._alone = None

    def blame(self) -> list[tuple[Trial, Done]]:
        """Find the trial that killed a worker. Needs a usable executor, with no trial in flight.

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
        """End every lost and every waiting trial, because none of them will run again."""
        # A single lost trial killed its worker; of several, it is unknown which one did.
        status = Status.WORKER_DIED if len(self._lost) == 1 else Status.ABANDONED
        trials = (*self._lost, *self._suspects, *self._held)
        self.clear()
        return [(trial, [ended(len(trial.done), status, _BROKE)]) for trial in trials]

    def next_trials(self) -> list[Trial]:
        """Return what to send now that nothing is in flight: one suspect, or all that waited."""
        if self._alone is not None or self._lost:
            return []
        if self._suspects:
            self._alone = self._suspects.popleft()
            return [self._alone]
        trials = list(self._held)
        self._held.clear()
        return trials

    def withdraw(self) -> list[Trial]:
        """Return the waiting trials, and forget them."""
        trials = [*self._held, *self._suspects]
        self._held.clear()
        self._suspects.clear()
        return trials

    def clear(self) -> None:
        """Forget every trial."""
        self.withdraw()
        self._lost.clear()
        self._alone = None
        self.broken = False
