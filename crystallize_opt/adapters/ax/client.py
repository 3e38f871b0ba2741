"""A native Ax client without side effects; all calls of Ax during a search are made here.

Besides `ax.api` and the documented classes of a generation strategy, the module uses parts of Ax
that may change without notice, listed in `UNGUARANTEED`. A test checks that each of them exists.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from ax.adapter.torch import TorchAdapter
from ax.api.client import Client
from ax.api.utils.generation_strategy_dispatch import choose_generation_strategy
from ax.api.utils.structs import GenerationStrategyDispatchStruct
from ax.core.arm import Arm
from ax.core.data_utils import DataLoaderConfig
from ax.early_stopping.strategies.base import BaseEarlyStoppingStrategy
from ax.exceptions.core import DataRequiredError, SearchSpaceExhausted
from ax.exceptions.generation_strategy import (
    GenerationStrategyCompleted,
    GenerationStrategyRepeatedPoints,
    MaxParallelismReachedException,
)
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.utils.common.logger import ROOT_STREAM_HANDLER
from botorch.exceptions.errors import InfeasibilityError

from crystallize_opt.adapters.ax import kernel
from crystallize_opt.adapters.ax.metrics import AxMetrics, Outcome
from crystallize_opt.adapters.ax.space import AxSpace, Stored
from crystallize_opt.errors import SpaceExhausted, UsageError
from crystallize_opt.pipeline.result import BASELINE

UNGUARANTEED = (
    "ax.utils.common.logger:ROOT_STREAM_HANDLER",
    "ax.api.client:Client.set_generation_strategy",
    "ax.api.client:Client.set_early_stopping_strategy",
    "ax.core.base_trial:BaseTrial.mark_running",
    "ax.core.base_trial:BaseTrial.run_metadata",
    "ax.core.base_trial:BaseTrial.update_run_metadata",
    "ax.core.experiment:Experiment.arms_by_signature",
    "ax.api.utils.generation_strategy_dispatch:choose_generation_strategy",
    "ax.api.utils.structs:GenerationStrategyDispatchStruct",
    "ax.core.data_utils:DataLoaderConfig.fit_abandoned",
    "ax.generation_strategy.generation_strategy:GenerationStrategy.last_generator_run",
    "ax.generation_strategy.generation_strategy:GenerationStrategy.nodes_by_name",
    *kernel.UNGUARANTEED,
)

KEY = "crystallize_opt"
"""The key in an experiment's properties: the description of a search by `AxOptimizer`."""

# Warnings filters, torch's threads and its random state belong to the process, not to a thread.
_lock = threading.RLock()


class QuietClient:
    """The part of `ax.api.client.Client` that an optimizer needs, without its side effects.

    Args:
        space: The space in the form that Ax searches.
        metrics: The metrics that Ax optimizes and constrains.
        seed: The seed of all random choices.
        generation_strategy: A fresh strategy, which is copied; None for Sobol, then a Gaussian
            process with noisy expected improvement.
        description: The search as plain data; kept in the client, also in its JSON file.
        early_stopping: A fresh strategy that ends trials early, which is copied, or None.

    Attributes:
        native: The Ax client.

    Raises:
        UsageError: An object is not a strategy, or has been used; or the early stopping strategy
            looks at another metric than the objective.
    """

    def __init__(
        self,
        space: AxSpace,
        metrics: AxMetrics,
        seed: int,
        generation_strategy: GenerationStrategy | None,
        description: Mapping[str, Any],
        early_stopping: BaseEarlyStoppingStrategy | None = None,
    ) -> None:
        with _no_trace():
            if generation_strategy is None:
                # Do not begin with the centre, after which Ax miscounts the initial trials; and
                # allow any number of initial trials before the first outcome.
                generation_strategy = choose_generation_strategy(
                    GenerationStrategyDispatchStruct(
                        initialization_random_seed=seed,
                        initialize_with_center=False,
                        allow_exceeding_initialization_budget=True,
                    )
                )
            self._objective = metrics.objective.lstrip("-")
            self._has_several = metrics.objective.count(",") > 0
            self.native = Client(random_seed=seed)
            self.native.configure_experiment(
                parameters=space.parameters, parameter_constraints=space.parameter_constraints
            )
            self.native.configure_optimization(metrics.objective, metrics.outcome_constraints)
            self._experiment._properties[KEY] = dict(description)  # noqa: SLF001
            self.native.set_generation_strategy(_learning_from_abandoned(generation_strategy))
            if early_stopping is not None:
                watching = _of_objective(early_stopping, metrics.names[self._objective])
                self.native.set_early_stopping_strategy(watching)

    @property
    def _experiment(self) -> Any:
        return self.native._experiment  # noqa: SLF001  (the client shows neither it nor its trials)

    def ask(self, number: int = 1) -> list[tuple[int, dict[str, Any]]]:
        """Return the indices and the parameters of new trials, chosen in one call of Ax.

        Returns:
            As many trials as wanted; fewer if Ax generates no more now; none if it raises an error.

        Raises:
            SpaceExhausted: The generation strategy has generated all of its trials.
        """
        with _no_trace():
            if self._has_several:
                kernel.wait_for_build()
            try:
                trials = self.native.get_next_trials(max_trials=number)
            except (
                DataRequiredError,
                MaxParallelismReachedException,
                GenerationStrategyRepeatedPoints,
                SearchSpaceExhausted,
                InfeasibilityError,
            ):
                return []
            except GenerationStrategyCompleted as error:
                if number > 1:
                    return []  # Perhaps it can generate some of them: ask for one.
                raise SpaceExhausted(
                    "The generation strategy has generated all of its trials."
                ) from error
            return [(index, dict(stored)) for index, stored in trials.items()]

    def attach(self, stored: dict[str, Stored]) -> int:
        """Return the index of a new trial with these parameters."""
        with _no_trace():
            return self.native.attach_trial(stored)  # Ax keeps the dict, and adds to it.

    def attach_baseline(self, stored: dict[str, Stored]) -> int:
        """Return the index of a new trial with these parameters, which is Ax's status quo."""
        with _no_trace():
            # Ax refuses to give an arm that has been tried another name.
            arm = Arm(parameters=dict(stored))
            known = self._experiment.arms_by_signature.get(arm.signature)
            index = self.native.attach_baseline(stored, known and known.name)
            self._experiment.trials[index].update_run_metadata({"status": BASELINE})
            return index

    def report(self, index: int, step: int, value: float) -> bool:
        """Report a point of the objective's curve; return whether Ax would end the trial there."""
        with _no_trace():
            self.native.attach_data(index, {self._objective: value}, progression=step)
            return self.native.should_stop_trial_early(index)

    def complete(self, index: int, outcome: Outcome, progression: int | None) -> None:
        """Report the outcome of a completed trial, in place of the last point of its curve."""
        with _no_trace():
            self.native.complete_trial(index, _raw(outcome), progression=progression)

    def stop_early(self, index: int, outcome: Outcome, progression: int | None) -> None:
        """Report the outcome so far of a trial that was pruned; Ax may have its curve already."""
        with _no_trace():
            if outcome:
                self.native.attach_data(index, _raw(outcome), progression=progression)
            self.native.mark_trial_early_stopped(index)

    def abandon(self, index: int, status: str) -> None:
        """Report that a trial will have no outcome, and keep its true status in `run_metadata`.

        After `mark_trial_failed`, Ax may suggest the same point again, with a seed for ever:
        https://github.com/facebook/Ax/issues/329
        """
        with _no_trace():
            self.native.mark_trial_abandoned(index)
            self._experiment.trials[index].update_run_metadata({"status": status})

    def reopen(self, index: int) -> None:
        """Let an abandoned trial run again, so that its outcome can be reported after all."""
        trial = self._experiment.trials[index]
        trial.mark_running(no_runner_required=True, unsafe=True)
        trial.run_metadata.pop("status", None)

    def best(self) -> int | None:
        """Return the index of the trial that Ax takes for the best; None if there is none."""
        with _no_trace():
            try:
                return self.native.get_best_parameterization(use_model_predictions=True)[2]
            except AssertionError:  # Ax says so if it finds no feasible trial with data.
                return None

    def add_data(self, index: int, outcome: Outcome, progression: int | None) -> None:
        """Report an outcome that replaces an earlier one, and keep the trial's status."""
        with _no_trace():
            self.native.attach_data(index, _raw(outcome), progression=progression)


def _raw(outcome: Outcome) -> dict[str, float | tuple[float, float]]:
    return {metric: mean if sem is None else (mean, sem) for metric, (mean, sem) in outcome.items()}


def _learning_from_abandoned(strategy: GenerationStrategy) -> GenerationStrategy:
    """Return a copy of a strategy whose models are also fitted to data of abandoned trials."""
    if not isinstance(strategy, GenerationStrategy):
        raise UsageError(
            f"generation_strategy= takes a GenerationStrategy of Ax, not {strategy!r}."
        )
    if strategy.last_generator_run is not None:
        raise UsageError(
            f"{strategy.name!r} has already generated trials. Give strategy.clone_reset()."
        )
    strategy = copy.deepcopy(strategy)
    for node in strategy.nodes_by_name.values():
        for spec in node.generator_specs:
            if issubclass(spec.generator_enum.adapter_class, TorchAdapter):
                config = spec.generator_kwargs.get("data_loader_config") or DataLoaderConfig()
                spec.generator_kwargs["data_loader_config"] = dataclasses.replace(
                    config, fit_abandoned=True
                )
    return strategy


def _of_objective(strategy: BaseEarlyStoppingStrategy, objective: str) -> BaseEarlyStoppingStrategy:
    """Return a copy of an early stopping strategy that looks at the objective, by Ax's default.

    Raises:
        UsageError: The object is not such a strategy, or it looks at other metrics.
    """
    if not isinstance(strategy, BaseEarlyStoppingStrategy):
        raise UsageError(
            "early_stopping= takes an early stopping strategy of Ax, such as "
            f"PercentileEarlyStoppingStrategy(), not {strategy!r}."
        )
    strategy = copy.deepcopy(strategy)
    for each in _parts_of(strategy):
        named = list(each.metric_signatures or ())
        if named not in ([], [objective]):
            raise UsageError(
                f"{type(each).__name__} looks at {named!r}, but Ax hears of the learning curve of "
                f"the objective, {objective!r}. Leave out metric_signatures."
            )
        each.metric_signatures = None
    return strategy


def _parts_of(strategy: Any) -> Iterator[Any]:
    """Yield a strategy, and those that it joins by "and" or "or"."""
    yield strategy
    for side in ("left", "right"):
        if isinstance(part := getattr(strategy, side, None), BaseEarlyStoppingStrategy):
            yield from _parts_of(part)


@contextmanager
def _no_trace() -> Iterator[None]:
    """Run Ax without messages on stderr and with one torch thread; restore everything afterwards.

    The number of threads changes the suggestions. The client itself restores the random states: if
    it has a seed, it forks those of `random`, numpy and torch.
    """
    this_thread = threading.get_ident()

    def is_of_other_thread(record: logging.LogRecord) -> bool:
        return record.thread != this_thread

    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        # Filter this handler, because all loggers of Ax write to it.
        ROOT_STREAM_HANDLER.addFilter(is_of_other_thread)
        try:
            yield
        finally:
            ROOT_STREAM_HANDLER.removeFilter(is_of_other_thread)
            torch.set_num_threads(threads)
