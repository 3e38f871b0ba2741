"""A native Ax client that leaves no trace in the process: all contact with Ax at run time.

Besides `ax.api` and the documented classes of a generation strategy, these parts of Ax are used,
for which Ax gives no guarantee: `UNGUARANTEED`. A test looks each of them up.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from ax.adapter.torch import TorchAdapter
from ax.api.client import Client
from ax.api.utils.generation_strategy_dispatch import choose_generation_strategy
from ax.api.utils.structs import GenerationStrategyDispatchStruct
from ax.core.data_utils import DataLoaderConfig
from ax.exceptions.core import DataRequiredError, SearchSpaceExhausted
from ax.exceptions.generation_strategy import (
    GenerationStrategyCompleted,
    GenerationStrategyRepeatedPoints,
    MaxParallelismReachedException,
)
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.utils.common.logger import ROOT_STREAM_HANDLER
from botorch.exceptions.errors import InfeasibilityError

from crystallize_opt.adapters.ax.metrics import AxMetrics, Outcome
from crystallize_opt.adapters.ax.space import AxSpace, Stored
from crystallize_opt.errors import SpaceExhausted, UsageError

UNGUARANTEED = (
    "ax.utils.common.logger:ROOT_STREAM_HANDLER",
    "ax.api.client:Client.set_generation_strategy",
    "ax.api.utils.generation_strategy_dispatch:choose_generation_strategy",
    "ax.api.utils.structs:GenerationStrategyDispatchStruct",
    "ax.core.data_utils:DataLoaderConfig.fit_abandoned",
    "ax.generation_strategy.generation_strategy:GenerationStrategy.last_generator_run",
    "ax.generation_strategy.generation_strategy:GenerationStrategy.nodes_by_name",
)

# Warnings filters, torch's threads and its random state belong to the process, not to a thread.
_lock = threading.RLock()


class QuietClient:
    """The part of `ax.api.client.Client` that an optimizer needs, without its side effects.

    Args:
        space: What Ax searches.
        metrics: What Ax optimizes and constrains.
        seed: The seed of all random choices.
        generation_strategy: A fresh strategy, which is copied; None for Sobol, then a Gaussian
            process with noisy expected improvement.

    Attributes:
        native: The client itself.

    Raises:
        UsageError: The generation strategy is none, or has been used.
    """

    def __init__(
        self,
        space: AxSpace,
        metrics: AxMetrics,
        seed: int,
        generation_strategy: GenerationStrategy | None,
    ) -> None:
        with _no_trace():
            if generation_strategy is None:
                # Without the centre first, which puts Ax' count of initial trials out, and with as
                # many initial trials as are asked for before any is told.
                generation_strategy = choose_generation_strategy(
                    GenerationStrategyDispatchStruct(
                        initialization_random_seed=seed,
                        initialize_with_center=False,
                        allow_exceeding_initialization_budget=True,
                    )
                )
            self.native = Client(random_seed=seed)
            self.native.configure_experiment(
                parameters=space.parameters, parameter_constraints=space.parameter_constraints
            )
            self.native.configure_optimization(metrics.objective, metrics.outcome_constraints)
            self.native.set_generation_strategy(_learning_from_abandoned(generation_strategy))

    def ask(self) -> tuple[int, dict[str, Any]] | None:
        """Return the index and the parameters of a new trial; None where Ax has none to give.

        Raises:
            SpaceExhausted: The generation strategy has come to its end.
        """
        with _no_trace():
            try:
                ((index, stored),) = self.native.get_next_trials(max_trials=1).items()
            except (
                DataRequiredError,
                MaxParallelismReachedException,
                GenerationStrategyRepeatedPoints,
                SearchSpaceExhausted,
                InfeasibilityError,
            ):
                return None
            except GenerationStrategyCompleted as error:
                raise SpaceExhausted(
                    "The generation strategy has generated all of its trials."
                ) from error
            return index, dict(stored)

    def attach(self, stored: dict[str, Stored]) -> int:
        """Return the index of a new trial with these parameters."""
        with _no_trace():
            return self.native.attach_trial(stored)  # keeps the dict, and adds to it

    def complete(self, index: int, outcome: Outcome) -> None:
        """Tell a trial's outcome, and that it completed."""
        with _no_trace():
            self.native.complete_trial(index, _raw(outcome))

    def stop_early(self, index: int, outcome: Outcome) -> None:
        """Tell a trial's outcome so far, and that it was ended because it was not promising."""
        with _no_trace():
            self.native.attach_data(index, _raw(outcome))
            self.native.mark_trial_early_stopped(index)

    def abandon(self, index: int) -> None:
        """Tell that a trial will have no outcome.

        Not by `mark_trial_failed`: Ax then may suggest the same point again, and with a seed it
        does so for ever. https://github.com/facebook/Ax/issues/329
        """
        with _no_trace():
            self.native.mark_trial_abandoned(index)

    def add_data(self, index: int, outcome: Outcome) -> None:
        """Tell an outcome, in place of an earlier one, without changing the trial's status."""
        with _no_trace():
            self.native.attach_data(index, _raw(outcome))


def _raw(outcome: Outcome) -> dict[str, float | tuple[float, float]]:
    return {metric: mean if sem is None else (mean, sem) for metric, (mean, sem) in outcome.items()}


def _learning_from_abandoned(strategy: GenerationStrategy) -> GenerationStrategy:
    """Return a copy of a strategy, whose models are fitted to data of abandoned trials, too."""
    if not isinstance(strategy, GenerationStrategy):
        raise UsageError(
            f"generation_strategy= takes a GenerationStrategy of Ax, not {strategy!r}."
        )
    if strategy.last_generator_run is not None:
        raise UsageError(
            f"{strategy.name!r} has generated trials before. Give strategy.clone_reset()."
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


@contextmanager
def _no_trace() -> Iterator[None]:
    """Run Ax without messages on stderr, in one thread of torch, and put all back.

    The number of threads changes the suggestions. Random states are the client's own care: with a
    seed it forks and restores those of `random`, numpy and torch.
    """
    this_thread = threading.get_ident()

    def is_of_other_thread(record: logging.LogRecord) -> bool:
        return record.thread != this_thread

    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        # Ax' loggers have levels and a handler of their own, which is all there is to filter.
        ROOT_STREAM_HANDLER.addFilter(is_of_other_thread)
        try:
            yield
        finally:
            ROOT_STREAM_HANDLER.removeFilter(is_of_other_thread)
            torch.set_num_threads(threads)
