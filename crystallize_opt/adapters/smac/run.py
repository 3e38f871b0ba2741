"""Drives a SMAC facade by `ask` and `tell`, and recovers from an interrupted `ask`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from ConfigSpace import Configuration
from smac.facade.abstract_facade import AbstractFacade
from smac.main.exceptions import ConfigurationSpaceExhaustedException
from smac.runhistory import StatusType, TrialInfo, TrialValue

from crystallize_opt.adapters.smac.components import HIDDEN
from crystallize_opt.adapters.smac.facade import (
    expect_training,
    queue,
    target_seeds,
    withdraw,
)
from crystallize_opt.adapters.smac.warm_start import ATTACHED
from crystallize_opt.errors import CrystallizeOptError
from crystallize_opt.trials.status import Status

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
    """A step of a trial: it was asked for, started, withdrawn, or (if there is a value) told."""

    trial: Trial
    value: TrialValue | None = None
    asked: bool = False
    withdrawn: bool = False


class Run:
    """A facade, with a record of its asks and tells.

    An exception inside `facade.ask()`, also a KeyboardInterrupt, ends SMAC's generators: SMAC then
    suggests nothing more. The next `ask` of this class therefore builds a new facade and repeats
    the record on it, which gives the same suggestions and takes as long as before.

    Args:
        build: Builds a facade; every call must return an equal one.
        knows_pending: Whether the facade's surrogate model knows of pending trials.
        races: Whether SMAC asks for single replicates.

    Attributes:
        facade: The facade.
    """

    def __init__(
        self, build: Callable[[], AbstractFacade], *, knows_pending: bool, races: bool = False
    ) -> None:
        self._build = build
        self._races = races
        self._knows_pending = knows_pending
        self.facade = build()
        # Drawn before anything else; without a race, SMAC draws its only one at the first ask.
        self._seeds = target_seeds(self.facade) if races else []
        self._events: list[_Event] = []
        # SMAC has one value for configuration, budget and seed; several trials may have the same.
        self._outcomes: dict[Any, dict[Trial, _Outcome]] = {}
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
        self,
        configuration: Configuration,
        budget: float | None = None,
        *,
        attached: bool = False,
        replicate: int | None = None,
    ) -> Trial:
        """Return a trial that SMAC did not suggest, and register it as running.

        Args:
            configuration: Its configuration.
            budget: Its budget.
            attached: Whether it was attached.
            replicate: In a race: which replicate it is; None for the first one that has not run.
        """
        seed: int | None
        if self._races:
            seed = self._seed(configuration, replicate)
        else:
            # All trials get the same seed, because SMAC compares only trials with equal seeds.
            first = self._events[0].trial.info if self._events else None
            seed = target_seeds(self.facade)[0] if first is None else first.seed
        trial = Trial(TrialInfo(configuration, seed=seed, budget=budget), attached)
        self._start(self.facade, trial)
        self._events.append(_Event(trial))
        return trial

    def _start(self, facade: AbstractFacade, trial: Trial) -> None:
        is_new = trial.info.config not in facade.runhistory.get_configs()
        facade.runhistory.add_running_trial(trial.info)
        if self._races and is_new:
            queue(facade, trial.info.config)

    @property
    def replicates(self) -> int:
        """In a race: how many replicates a trial has at most."""
        return len(self._seeds)

    def replicate_of(self, trial: Trial) -> int:
        """Return, in a race, which replicate a trial is."""
        return self._seeds.index(trial.info.seed or 0)

    def _seed(self, configuration: Configuration, replicate: int | None) -> int:
        if replicate is not None:
            return self._seeds[replicate]
        history = self.facade.runhistory
        begun = [*history.get_trials(configuration), *history.get_running_trials(configuration)]
        taken = {each.seed for each in begun}
        return next((each for each in self._seeds if each not in taken), self._seeds[0])

    def withdraw(self, trial: Trial) -> None:
        """Forget that a trial was begun, so that SMAC may ask for it again."""
        if not self._broken:
            withdraw(self.facade, trial.info)
        self._events.append(_Event(trial, withdrawn=True))

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
        info = trial.info
        outcomes = self._outcomes.setdefault((info.config, info.budget, info.seed), {})
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
        if self._races:
            target_seeds(facade)
        repeated: dict[Trial, Trial] = {}
        for event in self._events:
            trial = repeated.setdefault(event.trial, Trial(event.trial.info))
            if event.asked:
                trial.info = _ask(facade)
                self._check(trial, event.trial)
            elif event.withdrawn:
                withdraw(facade, trial.info)
            elif event.value is None:
                self._start(facade, trial)
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
