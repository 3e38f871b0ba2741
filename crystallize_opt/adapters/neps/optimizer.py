"""NePS, driven by `neps.AskAndTell`: Bayesian optimization, or another of its algorithms.

For a seed, the suggestions are bit for bit those of a loop of `AskAndTell.ask` and `tell` over the
same space, after the global generators of `random`, numpy and torch were seeded, in one thread. The
differences are:

- Choices and values of a grid are stored as their index; a parameter with one value is not stored.
- NePS has no seed. The global generators have this optimizer's state while NePS is called.
- NePS gives a crashed trial the median value, so that a region that always fails traps the search;
  with several objectives it then raises an error at each suggestion. Here a failed trial has the
  worst values so far, or 0 before there are any; worse ones later take their place.
- An abandoned trial, or a suggestion that was suggested before, is forgotten.
- A trial that NePS did not suggest has the next free number, as its own.
- Where NePS raises an error, as with a few unlucky points of tiny spaces, a random point is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from crystallize_opt.adapters.environments import InOwnEnvironment, missing_environment
from crystallize_opt.errors import UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.random_instead import RandomInstead
from crystallize_opt.optimizers.unique import Dropped
from crystallize_opt.runtime.extras import is_installed
from crystallize_opt.runtime.own_random_state import OwnRandomState, alone
from crystallize_opt.runtime.quiet_import import quiet_import
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status

if TYPE_CHECKING:
    import os

ALGORITHMS = ("bayesian_optimization", "random_search")
"""The functions of `neps.algorithms` that take any of these spaces, and no fidelity."""

importing_neps = partial(quiet_import, "NePS", "neps", undo_logging=True)
"""A context manager for an import of NePS and the libraries it imports."""


class NePSOptimizer(InOwnEnvironment[Any]):
    """NePS behind the common interface: Bayesian optimization, or random search.

    Args:
        space: A `SearchSpace`, or the mapping that builds one, without conditions.
        objective: One objective, or several.
        constraints: Outcome constraints. They only decide which trial is the best.
        seed: The seed of all random numbers; None to draw one.
        algorithm: The name of a function of `neps.algorithms`: `"bayesian_optimization"` or
            `"random_search"`.
        algorithm_options: The arguments of that function, such as `{"initial_design_size": 10}`.
        python: The interpreter that has NePS, or the folder of its environment: the optimizer then
            is a `RemoteOptimizer`. None: NePS is installed here.

    Attributes:
        neps: The `neps.AskAndTell`.

    Raises:
        MissingExtraError: NePS is not installed here, and there is no `python`; the message has the
            command that makes an environment with NePS.
        UsageError: The algorithm is unknown, or does not take its options.
        UnsupportedSpaceError: The space has conditions or a fidelity.
    """

    libraries = ("neural-pipeline-search", "torch", "botorch", "gpytorch", "numpy")
    capabilities = Capabilities(conditions=False, attached=True, unique_points=True)
    asks_in_a_row = 3  # A suggestion of the model takes a second.

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
        algorithm: str = "bayesian_optimization",
        algorithm_options: Mapping[str, Any] | None = None,
        python: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        if timeout is not None:
            raise UsageError("timeout= is for an optimizer in another process: give python=, too.")
        if algorithm not in ALGORITHMS:
            raise UsageError(
                f"NePSOptimizer takes algorithm= {' or '.join(map(repr, ALGORITHMS))}, not "
                f"{algorithm!r}."
            )
        capabilities = self.capabilities
        if algorithm == "random_search":
            capabilities = Capabilities(conditions=False, unique_points=True)
        super().__init__(
            space,
            objective,
            constraints=constraints,
            seed=seed,
            settings={"algorithm": algorithm, "algorithm_options": algorithm_options or {}},
            capabilities=capabilities,
            repeats="never",
        )
        if not is_installed("neps"):
            raise missing_environment("NePSOptimizer", "neps", "neps")
        self._instead = RandomInstead("NePS")
        self._failed: list[Any] = []
        with importing_neps():
            import neps

            from crystallize_opt.adapters.neps.space import NePSSpace
        self._space = NePSSpace(self.space)
        self._reseed()
        with alone(self._own):
            make = getattr(neps.algorithms, algorithm)
            try:
                built = make(self._space.native, **(algorithm_options or {}))
            except (TypeError, ValueError) as error:
                raise UsageError(f"neps.algorithms.{algorithm} refuses this: {error}") from error
            self.neps = neps.AskAndTell(built)
        self.measured.when_changed(self._correct)

    def _reseed(self) -> None:
        self._own = OwnRandomState(self.seed, torch=True)

    def _suggest(self) -> tuple[Any, dict[str, Any]] | None:
        if not self._space.native:
            return None
        trial = None
        with self._instead, alone(self._own):
            trial = self.neps.ask()
        return None if trial is None else (trial, self._space.decode(trial.config))

    def _insert(self, params: Mapping[str, Any]) -> Any:
        return self._new(self._space.encode(params))

    def _new(self, config: Mapping[str, Any]) -> Any:
        """Add a trial that NePS did not suggest, as a running one."""
        from neps.optimizers.utils.util import _get_max_trial_id
        from neps.state import Trial

        trial = Trial.new(
            trial_id=str(_get_max_trial_id(self.neps.trials) + 1),
            location="",
            config=config,
            previous_trial=None,
            previous_trial_location="",
            time_sampled=0.0,
            worker_id=self.neps.worker_id,
        )
        trial.set_evaluating(time_started=0.0, worker_id=self.neps.worker_id)
        self.neps.trials[trial.id] = trial
        return trial

    def _drop(self, handle: Any, why: Dropped) -> None:
        if why is Dropped.INFEASIBLE:
            self._fail(handle)
        else:
            self._forget(handle)

    def _learn(self, handle: Any, observation: Observation) -> None:
        if observation.status is Status.COMPLETED:
            self._tell(handle, [float(each) for each in self.criterion.costs(observation)])
        elif observation.status is Status.ABANDONED:
            self._forget(handle)
        else:
            self._fail(handle)

    def _fail(self, handle: Any) -> None:
        self._failed.append(handle)
        self._tell(handle, self._stand_in)

    @property
    def _stand_in(self) -> list[float]:
        """The costs of a failed trial. Before there are any, it counts all the same.

        NePS' initial design proceeds with the number of values, from low to high ones of the first
        parameter: without a value, it would suggest the lowest again and again.
        """
        return [high for _, high in self.measured.costs] or [0.0] * len(self.objectives)

    def _tell(self, trial: Any, costs: list[float]) -> None:
        result: Any = costs if len(costs) > 1 else costs[0]
        # Of no duration, because the durations are no part of the search.
        self.neps.tell(trial, result, time_end=0.0, evaluation_duration=0.0)

    def _forget(self, trial: Any) -> None:
        if self.neps.trials.get(trial.id) is trial:
            del self.neps.trials[trial.id]

    def _correct(self) -> None:
        """Give failed trials the worst values so far."""
        for trial in self._failed:
            self._tell(trial, self._stand_in)
