"""Drives a SMAC facade by `ask` and `tell`, and recovers from an interrupted `ask`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np
from ConfigSpace import Configuration
from smac.facade.abstract_facade import AbstractFacade
from smac.main.exceptions import ConfigurationSpaceExhaustedException
from smac.runhistory import StatusType, TrialInfo, TrialValue

from crystallize_opt.adapters.smac.facade import HIDDEN, expect_training, target_seed
from crystallize_opt.adapters.smac.warm_start import ATTACHED
from crystallize_opt.errors import CrystallizeOptError
from crystallize_opt.trials.observation import Status

_logger = logging.getLogger("crystallize_opt")


@dataclass(eq=False)
class Trial:
    """A trial as SMAC knows it.

    Attributes:
        info: The trial's configuration, seed and budget. Tell SMAC with this very object: SMAC does
            not recognise a configuration that was rebuilt from its values.
        attached: Whether the trial was attached: its point takes the place of one of the initial
            design.
    """

    info: TrialInfo
    attached: bool = False


class _Outcome(NamedTuple):
    """The outcome of a trial, as reported to SMAC."""

    costs: list[float]
    status: Status
    seconds: float
    hidden: bool


class _Event(NamedTuple):
    """A step of a trial: it was asked for, started, or (if there is a value) told."""

    trial: Trial
    value: TrialValue | None = None
    asked: bool = False


class Run:
    """A facade, with a record of its asks and tells.

    An exception inside `facade.ask()`, also a KeyboardInterrupt, ends SMAC's generators: SMAC then
    suggests nothing more. The next `ask` of this class therefore builds a new facade and repeats
    the record on it, which gives the same suggestions and takes as long as before.

    Args:
        build: Builds a facade; every call must return an equal one.
        knows_pending: Whether the facade's surrogate model knows of pending trials.

    Attributes:
        facade: The facade.
    """

    def __init__(self, build: Callable[[], AbstractFacade], *, knows_pending: bool) -> None:
        self._build = build
        self._knows_pending = knows_pending
        self.facade = build()
        self._events: list[_Event] = []
        # SMAC has one value for a configuration and budget; several trials may have the same.
        self._outcomes: dict[tuple[Configuration, float | None], dict[Trial, _Outcome]] = {}
        self._broken = False

    def ask(self) -> Trial | None:
        """Return a suggestion, or None if SMAC finds no other configuration."""
        if self._broken:
            self._rebuild()
        try:
            trial = Trial(_ask(self.facade))
        except (ConfigurationSpaceExhaustedException, StopIteration):
            return None
        except BaseException:
            self._broken = True
            raise
        self._events.append(_Event(trial, asked=True))
        return trial

    def start(
        self, configuration: Configuration, budget: float | None = None, *, attached: bool = False
    ) -> Trial:
        """Return a trial that SMAC did not suggest, and register it as running."""
        # All trials get the same seed, because SMAC compares only trials with equal seeds.
        known = self._events[0].trial.info.seed if self._events else target_seed(self.facade)
        trial = Trial(TrialInfo(configuration, seed=known, budget=budget), attached)
        self.facade.runhistory.add_running_trial(trial.info)
        self._events.append(_Event(trial))
        return trial

    def tell(
        self,
        trial: Trial,
        costs: list[float],
        status: Status,
        seconds: float = 0.0,
        *,
        hidden: bool = False,
    ) -> None:
        """Report the outcome of a trial, or correct an earlier report.

        Args:
            trial: The trial.
            costs: One finite number for each objective.
            status: How the trial ended.
            seconds: How long the trial took.
            hidden: Whether to hide the trial from the surrogate model.
        """
        value = self._value(trial, _Outcome(costs, status, seconds, hidden))
        if not self._broken:
            try:
                self._tell(self.facade, trial, value)
            except BaseException:
                self._broken = True
                raise
        self._events.append(_Event(trial, value))

    def _value(self, trial: Trial, outcome: _Outcome) -> TrialValue:
        """Return what SMAC learns: the mean over all completed trials with the same point.

        A failure never takes the place of a measurement, nor an abandoned trial that of a failure.
        """
        outcomes = self._outcomes.setdefault((trial.info.config, trial.info.budget), {})
        outcomes[trial] = outcome
        completed = {t: each for t, each in outcomes.items() if each.status is Status.COMPLETED}
        failed = [each for each in outcomes.values() if not each.hidden]
        costs = outcome.costs
        if completed:
            *_, outcome = completed.values()
            columns = zip(*(each.costs for each in completed.values()), strict=True)
            costs = list(map(fmean, columns))
        elif outcome.hidden and failed:
            outcome = failed[-1]
            costs = outcome.costs
        return TrialValue(
            cost=costs if len(costs) > 1 else costs[0],
            time=outcome.seconds,
            # Use no other status: SMAC turns some of them, such as TIMEOUT, into nan.
            status=StatusType.SUCCESS if completed else StatusType.CRASHED,
            additional_info={
                "status": outcome.status.value,
                HIDDEN: outcome.hidden,
                ATTACHED: any(t.attached for t in completed),
            },
        )

    def _tell(self, facade: AbstractFacade, trial: Trial, value: TrialValue) -> None:
        facade.tell(trial.info, value, save=False)
        if self._knows_pending:
            expect_training(facade)

    def _rebuild(self) -> None:
        asked = sum(event.asked for event in self._events)
        _logger.info("An ask of SMAC was interrupted. Repeating the %d before it.", asked)
        facade = self._build()
        repeated: dict[Trial, Trial] = {}
        for event in self._events:
            trial = repeated.setdefault(event.trial, Trial(event.trial.info))
            if event.asked:
                trial.info = _ask(facade)
                self._check(trial, event.trial)
            elif event.value is None:
                facade.runhistory.add_running_trial(trial.info)
            else:
                self._tell(facade, trial, event.value)
        for before, now in repeated.items():
            before.info = now.info
        self.facade = facade
        self._broken = False

    def _check(self, now: Trial, before: Trial) -> None:
        repeated, first = (trial.info.config.get_array() for trial in (now, before))
        if not np.array_equal(repeated, first, equal_nan=True):
            raise CrystallizeOptError(
                f"SMAC does not repeat its suggestions: it suggested {dict(now.info.config)!r} "
                f"instead of {dict(before.info.config)!r}. If a component in facade_options keeps "
                "state, give a function that makes a new component."
            )


def _ask(facade: AbstractFacade) -> TrialInfo:
    """Ask SMAC without numpy's warnings.

    SMAC computes statistics of a local search that took no step, and exponents that overflow.
    """
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return facade.ask()
