"""The course of a trial: which replicates it runs, whether it is retried, and what came of it."""

from __future__ import annotations

import dataclasses
import math

from crystallize_opt.errors import printable
from crystallize_opt.optimizers.plain import heard_metric
from crystallize_opt.pipeline.context import logger
from crystallize_opt.pipeline.replicate import ReplicateRun, recorded_instead
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.search.adaptive import Adaptive
from crystallize_opt.search.callers_state import CallersTurn
from crystallize_opt.search.failures import FailureCount
from crystallize_opt.search.hearing import Hearing
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.racing import Race
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.trial import Done, Trial, ended

_INTERRUPTED = "The search was interrupted."
_PERHAPS_BY_A_SIGNAL = (Status.FAILED, Status.WORKER_DIED)


class Course:
    """Decides after each turn of a trial whether it runs again.

    Args:
        replicates: How many replicates a trial has, at most.
        adaptive: The rule if trials may have fewer, or None.
        recorded: The optimizer, which may hear of single replicates.
        failures: Says whether a failed trial is retried, and how many replicates may fail.
        interruption: Tells whether Ctrl-C or SIGTERM has interrupted the search.
        turn: Surrounds code outside of trials.

    Attributes:
        hearing: Passes the learning curves of running trials on to the optimizer; None if it does
            not hear of them.
        race: The finished trials, with which later ones compete while they run; None if trials
            always have the same number of replicates.
    """

    def __init__(
        self,
        replicates: int,
        adaptive: Adaptive | None,
        recorded: RecordedOptimizer,
        failures: FailureCount,
        interruption: Interruption,
        turn: CallersTurn,
    ) -> None:
        self._replicates = replicates
        self._settings = failures.settings
        self._recorded = recorded
        self._failures = failures
        self._interruption = interruption
        self._turn = turn
        metric = heard_metric(recorded.optimizer, replicates)
        self.hearing = None
        if metric is not None:
            self.hearing = Hearing(recorded, metric, replicates, interruption)
        self._reductions = recorded.criterion.reductions
        self.race: Race | None = None
        first, one_by_one = replicates, False
        if adaptive is not None:
            self.race = Race(recorded.criterion, adaptive.alpha)
            first, one_by_one = adaptive.minimum, True
        self._minimum = first
        if recorded.hears_replicates and replicates > 1:
            first, one_by_one = 1, True
        # The replicates of the first turn, and whether workers then return single ones.
        self._first_turn, self._one_by_one = first, one_by_one
        # Whether a replicate with an invalid result ends a trial, or is left out, at once.
        self._checks = self.race is not None or self._settings.min_share < 1

    def begin(self, treatment: Treatment, done: Done | None = None) -> Trial:
        """Return a new trial, or one whose first replicates are known from a stored run."""
        listener = None if self.hearing is None else self.hearing.listener(treatment)
        if not done:
            return Trial(treatment, self._first_turn, listener=listener)
        trial = Trial(treatment, 0, done, listener=listener)
        trial.seconds = _seconds(done)
        trial.last = self._end_of_turn(trial)
        return trial

    def take(self, trial: Trial, done: Done) -> bool:
        """Take the replicates that a worker returned.

        Returns:
            Whether the trial runs again: its next replicate, or from its first one. If not, it has
            finished.
        """
        if self.hearing is not None:
            self.hearing.check()
        self.add(trial, done)
        last = trial.done[-1].record
        if last.status is not Status.COMPLETED:
            if self._is_retried(trial):
                return True
            if not self._survives(trial, last):
                return False
        if self._has_enough(trial):
            return False
        if self._one_by_one:
            with self._turn:
                for run in trial.done[-len(done) :]:
                    trial.is_pruned = self._recorded.report_replicate(trial.treatment, run.record)
            if trial.is_pruned:
                return False
        if self._interruption.count:
            trial.done.append(ended(len(trial.done), Status.ABANDONED, _INTERRUPTED))
            return False
        trial.seconds += _seconds(done)
        trial.last = self._end_of_turn(trial)
        return True

    def _survives(self, trial: Trial, failed: Replicate) -> bool:
        """Whether a trial may complete although its last replicate failed, and is not retried."""
        if self._interruption.count and failed.status in _PERHAPS_BY_A_SIGNAL:
            # A signal for the whole process group also reaches what the trial has started. The
            # trial may have failed because of that; it runs again when the run is resumed.
            error = f"{_INTERRUPTED} {failed.error}"
            trial.done[-1] = ended(len(trial.done) - 1, Status.ABANDONED, error)
            return False
        return self._tolerates(trial)

    def _end_of_turn(self, trial: Trial) -> int:
        """Return the index at which the trial's next turn stops."""
        return max(self._first_turn, len(trial.done) + 1)

    def _has_enough(self, trial: Trial) -> bool:
        """Whether a trial needs no more replicates: it has all, or cannot be the best any more."""
        if len(trial.done) >= self._replicates:
            return True
        race = self.race
        if race is None:
            return False
        replicates = trial.replicates
        completed = sum(each.status is Status.COMPLETED for each in replicates)
        if completed < self._minimum:
            return False
        trial.beaten_by = race.beaten_by(trial.treatment, replicates)
        return trial.beaten_by is not None or race.is_infeasible(replicates)

    def _tolerates(self, trial: Trial) -> bool:
        """Whether a trial may complete although its last replicate failed."""
        return self._settings.tolerates(trial.replicates, self._replicates)

    def add(self, trial: Trial, done: Done) -> None:
        """Add replicates to a trial, each metric reduced to one value."""
        for run in done:
            run.reduce(self._reductions)
            if self._checks and run.record.status is Status.COMPLETED:
                run.record = self._valid(trial.treatment, run)
            trial.done.append(run)

    def _valid(self, treatment: Treatment, run: ReplicateRun) -> Replicate:
        """Return a completed replicate, as invalid if a required metric is not a finite number."""
        record = run.record
        checked = self._checked(Observation.of_replicates(treatment, [record]), [run])
        if checked.status is Status.COMPLETED:
            return record
        return dataclasses.replace(record, status=checked.status, error=checked.error)

    def _checked(self, observation: Observation, done: Done) -> Observation:
        return observation.checked(
            self._recorded.required_metrics,
            lambda metric: recorded_instead(done, metric),
        )

    def give_up(self, trial: Trial, why: str) -> None:
        """Give up a trial that lacks replicates, unless it has failed already."""
        if len(trial.done) >= self._replicates:
            return
        goes_on = not trial.done or trial.done[-1].record.status is Status.COMPLETED
        if goes_on or self._tolerates(trial):
            trial.done.append(ended(len(trial.done), Status.ABANDONED, why))

    def outcome(self, trial: Trial, *, all_must_complete: bool = False) -> Observation:
        """Return the outcome of a finished trial.

        Args:
            trial: The trial.
            all_must_complete: Whether one failed replicate fails the trial, whatever the settings.
        """
        share = 1.0 if all_must_complete else self._settings.min_share
        observation = Observation.of_replicates(trial.treatment, trial.replicates, share)
        observation = self._checked(observation, trial.done)
        if trial.beaten_by is not None:
            observation = dataclasses.replace(observation, beaten_by=trial.beaten_by)
        return observation.ended_early() if trial.is_pruned else observation

    def _is_retried(self, trial: Trial) -> bool:
        run = trial.done[-1]
        if self._interruption.count or not self._failures.may_be_retried(
            run.record, run.fault, trial.attempt
        ):
            return False
        name, error = printable(trial.treatment.name), printable(run.record.error)
        logger.warning("%s: %s; it is retried.", name, error)
        trial.attempt += 1
        trial.done.clear()
        trial.seconds = 0.0
        trial.last = self._first_turn
        return True


def _seconds(done: Done) -> float:
    """Return how long replicates took together."""
    return math.fsum(run.record.duration or 0.0 for run in done)
