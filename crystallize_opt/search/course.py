"""The course of a trial: which replicates it runs, whether it is retried, and what came of it."""

from __future__ import annotations

from crystallize_opt.errors import printable
from crystallize_opt.pipeline.context import logger
from crystallize_opt.pipeline.replicate import recorded_instead, reduced
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.search.callers_state import CallersTurn
from crystallize_opt.search.failures import FailureCount
from crystallize_opt.trials.observation import Observation, Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.trial import Done, Trial, ended

_INTERRUPTED = "The search was interrupted."
_PERHAPS_BY_A_SIGNAL = (Status.FAILED, Status.WORKER_DIED)


class Course:
    """Decides after each turn of a trial whether it runs again.

    Args:
        replicates: How many replicates a completed trial has.
        recorded: The optimizer, which may hear of single replicates.
        failures: Says whether a failed trial is retried.
        interruption: Tells whether Ctrl-C or SIGTERM has interrupted the search.
        turn: Surrounds code outside of trials.
    """

    def __init__(
        self,
        replicates: int,
        recorded: RecordedOptimizer,
        failures: FailureCount,
        interruption: Interruption,
        turn: CallersTurn,
    ) -> None:
        self._replicates = replicates
        self._recorded = recorded
        self._failures = failures
        self._interruption = interruption
        self._turn = turn
        self._reductions = recorded.criterion.reductions
        # Workers return single replicates only if the optimizer uses reports of them.
        self._reports = replicates > 1 and recorded.hears_replicates
        self._first_turn = 1 if self._reports else replicates

    def begin(self, treatment: Treatment, done: Done | None = None) -> Trial:
        """Return a new trial, or one whose first replicates are known from a stored run."""
        if done and self._reports:
            return Trial(treatment, len(done) + 1, done)
        return Trial(treatment, self._first_turn, done or [])

    def take(self, trial: Trial, done: Done) -> bool:
        """Take the replicates that a worker returned.

        Returns:
            Whether the trial runs again: its next replicate, or from its first one. If not, it has
            finished.
        """
        self.add(trial, done)
        last = done[-1][1]
        if last.status is Status.COMPLETED:
            if len(trial.done) == self._replicates:
                return False
            with self._turn:
                trial.is_pruned = self._recorded.report(trial.treatment, trial.done[-1][1])
            if trial.is_pruned:
                return False
            if not self._interruption.count:
                trial.seconds += last.duration or 0.0
                trial.last += 1
                return True
            trial.done.append(ended(len(trial.done), Status.ABANDONED, _INTERRUPTED))
        elif self._is_retried(trial):
            return True
        elif self._interruption.count and last.status in _PERHAPS_BY_A_SIGNAL:
            # A signal for the whole process group also reaches what the trial has started. The
            # trial may have failed because of that; it runs again when the run is resumed.
            error = f"{_INTERRUPTED} {last.error}"
            trial.done[-1] = ended(len(trial.done) - 1, Status.ABANDONED, error)
        return False

    def add(self, trial: Trial, done: Done) -> None:
        """Add replicates to a trial, each metric reduced to one value."""
        reductions = self._reductions
        trial.done += [(run, reduced(run, replicate, reductions)) for run, replicate in done]

    def give_up(self, trial: Trial, why: str) -> None:
        """Give up a trial that lacks replicates although none has failed."""
        if trial.lacks_replicates(self._replicates):
            trial.done.append(ended(len(trial.done), Status.ABANDONED, why))

    def outcome(self, trial: Trial) -> Observation:
        """Return the outcome of a finished trial."""
        replicates = [replicate for _, replicate in trial.done]
        observation = Observation.of_replicates(trial.treatment, replicates).checked(
            self._recorded.required_metrics,
            lambda metric: recorded_instead([run for run, _ in trial.done], metric),
        )
        return observation.ended_early() if trial.is_pruned else observation

    def _is_retried(self, trial: Trial) -> bool:
        run, replicate = trial.done[-1]
        if self._interruption.count or not self._failures.may_be_retried(
            replicate, run.fault, trial.attempt
        ):
            return False
        name, error = printable(trial.treatment.name), printable(replicate.error)
        logger.warning("%s: %s; it is retried.", name, error)
        trial.attempt += 1
        trial.done.clear()
        trial.seconds = 0.0
        trial.last = self._first_turn
        return True
