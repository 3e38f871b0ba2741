"""Ax's generation strategies, driven by its `Client`: `get_next_trials(n)` and `complete_trial`.

For a seed, the suggestions are bit for bit those of a loop over `Client(random_seed=seed)` with the
same strategy; those of `ask(n)` are those of `get_next_trials(n)`. The differences from a
loop written by hand are:

- Ax gets private names: `p0`, `p1`, … for parameters and `m0`, `m1`, … for metrics (in alphabetical
  order of yours, which is the order in which Ax models them). `E`, `lambda` and `val-loss` work.
- Values that Ax cannot store get another form: choices are stored as their index; numbers with a
  step as the index of the value, not with `step_size`; integers of more than 100 000 values as
  floats that are rounded; ranges that are too narrow, too wide or too far from zero for Ax as a
  position from 0 to 1. More than 1000 choices are stored as if they were ordered. Parameters with
  one value are not stored.
- A condition on one value of one categorical or ordinal parent is passed to Ax. A parameter with
  any other condition is always suggested, and discarded if it is inactive.
- A linear constraint is passed to Ax, unless it is on a log scale or on a parameter with a
  condition: then a suggestion that violates it is reported as a failure, and Ax is asked again;
  after three such suggestions comes a random point that satisfies the constraint. A suggestion
  that violates a constraint of Ax only by a rounding is moved inside. Where fewer than a twentieth
  of all points satisfy the constraints, Ax searches positions in the region that is left (see
  `crystallize_opt.space.positions`): it takes no equalities, and minutes for its first points in a
  small region.
- A failed trial is abandoned, with the worst value so far as its data. The data are reported once a
  value is known, and again when a worse one comes. To Ax itself, an abandoned trial stays pending
  for ever, and the search stays where everything fails:
  https://github.com/facebook/Ax/issues/1392. Your strategy is copied, and the copy fits such data
  (`DataLoaderConfig(fit_abandoned=True)`). A trial of status ABANDONED is reported without data.
- A pruned trial is reported as stopped early, with its means so far.
- With `early_stopping=`, a point of the objective's learning curve is reported by `attach_data(...,
  progression=step)`, and `should_stop_trial_early` is asked. The outcome of a completed trial takes
  the place of the last point: Ax learns from the value at the highest progression. A value that is
  not finite is not reported. Standard errors are not reported: the points of a curve have none, and
  Ax cannot fit a mixture.
- Standard errors are reported while every trial has them, and only if trials have seeds of their
  own (see `crystallize_opt.trials.noise`). From the first trial without them, Ax gets means
  only: it cannot fit a mixture, https://github.com/facebook/Ax/issues/491.
- The baseline of a search is Ax's status quo, a trial of its own in the client, if its parameters
  are a point of the space. Constraints relative to the baseline are then Ax's own; else Ax gets
  their bounds as values. So it does for a metric that has an absolute bound, too.
- An outcome constraint on the single objective, which Ax refuses, is put on a copy of its metric.
- Every point of a finite space is suggested once. If Ax repeats a point or has no suggestion (also
  because it needs data or fewer pending trials first), a random new point takes its place.
- Ax's warnings and messages are suppressed; it runs in one torch thread, because the number of
  threads changes the suggestions; all random states are restored.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from crystallize_opt.adapters.ax.metrics import (
    AxMetrics,
    Outcome,
    native_constraints,
    without_sems,
)
from crystallize_opt.errors import ObjectiveError, UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.optimizers.unique import Dropped
from crystallize_opt.runtime.quiet_import import quiet_import
from crystallize_opt.space.space import SearchSpace, as_space
from crystallize_opt.storage.description import describe_goals
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.objective import Constraint, Objective, as_objectives
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    from ax.api.client import Client
    from ax.early_stopping.strategies import BaseEarlyStoppingStrategy
    from ax.generation_strategy.generation_strategy import GenerationStrategy

# Ax is imported on first use, because that takes seconds; a missing Ax is reported at once.
if importlib.util.find_spec("ax") is None:
    raise ModuleNotFoundError("No module named 'ax'", name="ax")

importing_ax = partial(
    quiet_import,
    "Ax",
    "ax.api.client",
    # This message, that SQLAlchemy is installed, would go to stderr by a handler of the import.
    drop_messages_of=("ax.storage.sqa_store.with_db_settings_base",),
)
"""A context manager for an import of Ax."""


class AxOptimizer(SpaceOptimizer[int]):
    """Ax behind the common interface: Sobol, then a Gaussian process, or any generation strategy.

    Args:
        space: A `SearchSpace`, or the mapping that builds one.
        objective: One objective, or several.
        constraints: Outcome constraints, which Ax models.
        seed: The seed of the client and, by default, of Sobol.
        generation_strategy: A fresh Ax `GenerationStrategy`, which is copied. Default: five Sobol
            points, then a Gaussian process with log noisy expected improvement, as configured by
            `configure_generation_strategy(initialization_random_seed=seed,
            initialize_with_center=False, allow_exceeding_initialization_budget=True)`.
        early_stopping: An early stopping strategy of Ax, such as
            `PercentileEarlyStoppingStrategy()` from `ax.early_stopping.strategies`, which is
            copied. It can end a trial early: see `OptunaOptimizer(pruner=...)` for what it sees. A
            space with a fidelity, such as `Integer(1, 27, fidelity=True)`, needs such a strategy:
            each trial gets the highest fidelity, and Ax ends it before.

    Raises:
        UnsupportedSpaceError: Ax cannot take the space.
        ObjectiveError: There are several objectives, and an early stopping strategy.
        UsageError: An object is not a strategy, or has been used; or the early stopping strategy
            looks at another metric than the objective.

    Example:
        >>> optimizer = AxOptimizer({"x": (-10.0, 10.0)}, Objective("loss", "minimize"), seed=0)
        >>> for _ in range(3):
        ...     (treatment,) = optimizer.ask()
        ...     optimizer.tell({"loss": treatment.params["x"] ** 2})
        >>> type(optimizer.client)
        <class 'ax.api.client.Client'>
    """

    can_be_copied = False
    libraries = (
        *("ax-platform", "botorch", "gpytorch", "linear-operator", "torch"),
        *("numpy", "scipy", "scikit-learn", "pandas"),
    )
    capabilities = Capabilities(
        thresholds=True,
        outcome_constraints=True,
        standard_errors=True,
        attached=True,
        recommends=True,
        joint_batches=True,
        unique_points=True,
    )
    asks_in_a_row = 3

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
        generation_strategy: GenerationStrategy | None = None,
        early_stopping: BaseEarlyStoppingStrategy | None = None,
    ) -> None:
        space = as_space(space)
        settings = {"generation_strategy": _without_times(generation_strategy)}
        can = self.capabilities
        if early_stopping is not None:
            if len(as_objectives(objective)) > 1:
                raise ObjectiveError(
                    "A trial has one learning curve, which has one objective. Leave out "
                    "early_stopping=, or give one objective."
                )
            settings["early_stopping"] = copy.deepcopy(early_stopping)
            can = dataclasses.replace(can, pruning=True, standard_errors=False, fidelity=True)
        super().__init__(
            space,
            objective,
            constraints=constraints,
            seed=seed,
            settings=settings,
            capabilities=can,
            repeats="never" if space.size < math.inf else "allowed",
            positions=True,
            ends_before_fidelity=True,
        )
        with importing_ax():
            from crystallize_opt.adapters.ax import client
            from crystallize_opt.adapters.ax import space as ax_space
        self._ax_space = ax_space.AxSpace(self.searched)
        # Constraints that are relative to the baseline follow with it, before the first trial.
        self._native_constraints = tuple(c for c in self.constraints if not c.relative_to_baseline)
        self._connect: Callable[[], client.QuietClient] = lambda: client.QuietClient(
            self._ax_space,
            self._metrics,
            self.seed,
            generation_strategy,
            describe_goals(self.space, Criterion(self.objectives, self._native_constraints)),
            early_stopping,
        )
        self._reseed()
        self._tells_sems = early_stopping is None
        self._last_steps: dict[int, int] = {}  # The highest step of each trial with a curve.
        self._outcomes: dict[int, Outcome] = {}
        self._failed: dict[int, None] = {}
        self._status_quo: int | None = None
        self._learnt: dict[int, Treatment] = {}

    def _reseed(self) -> None:
        self._metrics = AxMetrics(self.objectives, self._native_constraints)
        self._client = self._connect()

    @property
    def client(self) -> Client:
        """The native Ax client, with all trials and their reported outcomes."""
        return self._client.native

    # Ask ---------------------------------------------------------------------------------------

    def _suggest(self) -> tuple[int, dict[str, Any]] | None:
        return next(iter(self._suggest_batch(1)), None)

    def _suggest_batch(self, n: int) -> list[tuple[int, dict[str, Any]]]:
        # Some generators raise IndexError if there is nothing to search.
        asked = self._client.ask(n) if self._ax_space.has_choice else []
        return [(index, self._ax_space.decode(stored)) for index, stored in asked]

    def _insert(self, params: Mapping[str, Any]) -> int:
        return self._client.attach(self._ax_space.encode(params))

    def _learn_baseline(self, observation: Observation, point: Mapping[str, Any] | None) -> None:
        """Make the baseline Ax's status quo, if it is a point that Ax can have."""
        if self._status_quo is not None:
            raise UsageError(
                "Ax has another baseline as its status quo, which cannot be changed: "
                f"{self.baseline!r}. Build a fresh optimizer."
            )
        if any(parameter.conditions for parameter in self.space.values()):
            # Ax's status quo has a value for every parameter, also for those that are inactive:
            # https://github.com/facebook/Ax/blob/1.3.1/ax/core/search_space.py
            point = None
        if self.criterion.is_relative:  # There is no trial yet.
            self._native_constraints = native_constraints(
                self.criterion, has_status_quo=point is not None
            )
            self._reseed()
        if point is not None:
            self._status_quo = self._client.attach_baseline(self._ax_space.encode(point))
            self._learn(self._status_quo, observation)

    def _recommend(self) -> Treatment | None:
        index = self._client.best()
        return None if index is None else self._learnt.get(index)

    def _drop(self, handle: int, why: Dropped) -> None:
        if why is Dropped.REPEATED:
            self._client.abandon(handle, str(why))
        else:
            self._fail(handle, str(why))

    # Tell --------------------------------------------------------------------------------------

    def _report(self, handle: int, step: int, value: float) -> bool:
        if not math.isfinite(value):
            return False
        self._last_steps[handle] = max(step, self._last_steps.get(handle, 0))
        return self._client.report(handle, step, value)

    def _learn(self, handle: int, observation: Observation) -> None:
        self._learnt[handle] = observation.treatment
        outcome, last = self._metrics.outcome_of(observation), self._last_steps.get(handle)
        if observation.status is Status.COMPLETED and outcome:
            self._client.complete(handle, self._remember(handle, outcome), last)
        elif observation.status is Status.PRUNED and (outcome or last is not None):
            known = self._remember(handle, outcome) if outcome else {}
            self._client.stop_early(handle, known, last)
        elif observation.status is Status.ABANDONED:
            self._client.abandon(handle, observation.status.value)
        else:
            self._fail(handle, observation.status.value)

    def _reopen(self, handle: int, params: Mapping[str, Any]) -> int:
        self._client.reopen(handle)
        return handle

    def _remember(self, index: int, outcome: Outcome) -> Outcome:
        """Return the outcome to report, with standard errors while every trial has them."""
        if self._tells_sems and any(sem is None for _, sem in outcome.values()):
            self._tells_sems = False
            for earlier, known in self._outcomes.items():
                self._outcomes[earlier] = without_sems(known)
                self._add_data(earlier, self._outcomes[earlier])
            for failed in self._failed:
                self._fail_again(failed)
        self._outcomes[index] = outcome if self._tells_sems else without_sems(outcome)
        return self._outcomes[index]

    def _fail(self, index: int, status: str) -> None:
        """Report a failed trial as the worst value so far, and again when a worse one comes."""
        self._failed[index] = None
        self.measured.when_changed(partial(self._fail_again, index))
        self._client.abandon(index, status)
        self._fail_again(index)

    def _fail_again(self, index: int) -> None:
        stand_in = self._metrics.stand_in(self.measured)
        if stand_in is not None:
            self._add_data(index, stand_in if self._tells_sems else without_sems(stand_in))

    def _add_data(self, index: int, outcome: Outcome) -> None:
        self._client.add_data(index, outcome, self._last_steps.get(index))


def _without_times(strategy: Any) -> Any:
    """Return a copy of a strategy whose nodes have not measured how long their set-up took."""
    strategy = copy.deepcopy(strategy)
    for node in getattr(strategy, "_nodes", ()):
        if hasattr(node, "fit_time_since_gen"):
            node.fit_time_since_gen = 0.0
    return strategy
