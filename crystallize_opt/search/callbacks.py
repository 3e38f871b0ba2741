"""The events of a search, and callbacks, which are called with each event.

A callback is any callable that takes one event. The search calls it in its own thread, in the order
of the events. If a callback raises, the exception is logged and the search continues.

Example:
    >>> def show(event):
    ...     if isinstance(event, TrialTold):
    ...         print(event.observation.treatment.name, event.observation.status)
    >>> show(TrialTold(Observation(Treatment("trial_0"))))
    trial_0 completed
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from crystallize_opt.errors import printable
from crystallize_opt.pipeline.context import logger
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment


@dataclass(frozen=True)
class RunStarted:
    """The search begins, or a stored run continues.

    Attributes:
        title: The name of the stored run or of the experiment, or the optimizer's class.
        resumed: The finished trials of a stored run that continues; they cause no other events.
        replicates_per_trial: The largest number of replicates of a trial.
        workers: The largest number of trials that run at once.
        criterion: What makes a trial the best.
        stored_run: Identifies the stored run, also after its file was moved; the same each time the
            run is resumed. None if nothing is stored.
        baseline: The outcome of the baseline if it is known already, as that of a stored run is.
    """

    optimizer: str
    objectives: Sequence[Objective]
    num_trials: int
    replicates_per_trial: int
    workers: int
    resumed: Sequence[Observation]
    criterion: Criterion
    title: str
    stored_run: str | None = None
    baseline: Observation | None = None


@dataclass(frozen=True)
class BaselineCompleted:
    """The baseline has run, and is stored if the search has a storage; no trial has run yet."""

    observation: Observation


@dataclass(frozen=True)
class TrialAsked:
    """The optimizer has suggested a treatment."""

    treatment: Treatment


@dataclass(frozen=True)
class TrialStarted:
    """A trial has been handed to a worker; `attempt` is above 1 if the trial is retried."""

    treatment: Treatment
    attempt: int = 1


@dataclass(frozen=True)
class TrialCompleted:
    """A trial has ended with a result; its status is COMPLETED or PRUNED."""

    observation: Observation


@dataclass(frozen=True)
class TrialFailed:
    """A trial has ended without a result; its status says how."""

    observation: Observation


@dataclass(frozen=True)
class TrialStored:
    """A trial has been stored (if the search has a storage); it is reported next."""

    observation: Observation


@dataclass(frozen=True)
class TrialTold:
    """A trial has been reported to the optimizer."""

    observation: Observation


@dataclass(frozen=True)
class TrialRepeated:
    """The optimizer suggested a point whose outcome is known: it was reported again; nothing ran.

    The suggestion does not count as a trial, and causes no other event.
    """

    observation: Observation


@dataclass(frozen=True)
class RunStopped:
    """The search has ended: every trial has been reported to the optimizer.

    Attributes:
        reason: Why the search ended, in words.
        best: The best treatment, or None.
        error: The exception with which the search ends, or None.
        interrupted: Whether Ctrl-C or SIGTERM ended the search, also if it returns its best trial.
    """

    reason: str
    best: Treatment | None
    error: BaseException | None = None
    interrupted: bool = False


Event = (
    RunStarted
    | BaselineCompleted
    | TrialAsked
    | TrialStarted
    | TrialCompleted
    | TrialFailed
    | TrialStored
    | TrialTold
    | TrialRepeated
    | RunStopped
)


class Callback(Protocol):
    """Anything that is called with each event."""

    def __call__(self, event: Event, /) -> object: ...


def notify(callbacks: Sequence[Callback], event: Event) -> None:
    """Call every callback; log the exception of a callback that raises."""
    for callback in callbacks:
        try:
            callback(event)
        except Exception:  # noqa: BLE001  (a callback never loses a trial)
            logger.exception("The callback %r failed on %s.", callback, type(event).__name__)


_WORDS = {TrialStored: "stored", TrialTold: "told"}


class LoggingCallback:
    """Logs every event, by default on this package's logger `crystallize_opt`, at level INFO.

    The search itself logs each failed trial as a warning.
    """

    def __init__(self, to: logging.Logger = logger, level: int = logging.INFO) -> None:
        self.logger = to
        self.level = level

    def __call__(self, event: Event) -> None:
        log, level = self._log, self.level
        if isinstance(event, RunStarted):
            log(level, "%s: a search of %d trials begins.", event.optimizer, event.num_trials)
            if event.resumed:
                log(level, "%d of them are finished already.", len(event.resumed))
        elif isinstance(event, RunStopped):
            best = event.best and dict(event.best.params)
            log(level, "The search has ended: %s. Best: %s", event.reason, best)
        elif isinstance(event, TrialAsked):
            log(level, "%s: asked, %s", event.treatment.name, dict(event.treatment.params))
        elif isinstance(event, TrialStarted):
            log(level, "%s: started (attempt %d)", event.treatment.name, event.attempt)
        elif isinstance(event, TrialFailed):
            told = event.observation
            log(level, "%s: %s, %s", told.treatment.name, told.status, told.error)
        elif isinstance(event, TrialRepeated):
            told = event.observation
            log(level, "%s: repeats %s, %s", told.treatment.name, told.repeats, dict(told))
        else:
            name = event.observation.treatment.name
            what = _WORDS.get(type(event)) or str(event.observation.status)
            log(level, "%s: %s, %s", name, what, dict(event.observation))

    def _log(self, level: int, message: str, *values: object) -> None:
        if self.logger.isEnabledFor(level):
            shown = [each if isinstance(each, int) else printable(each) for each in values]
            self.logger.log(level, message, *shown)
