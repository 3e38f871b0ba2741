"""What a backend declares and supplies: the hooks that an adapter overrides."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from crystallize_opt.errors import InvalidParametersError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.last_step import LastStep
from crystallize_opt.optimizers.ledger import Ledger
from crystallize_opt.optimizers.unique import Dropped
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment

Handle = TypeVar("Handle")


class Hooks(Generic[Handle]):
    """The declarations and hooks of a backend; `SpaceOptimizer` calls the hooks.

    `_suggest`, `_insert` and `_learn` are needed, and `_drop` if the backend must know which
    suggestions were discarded.
    """

    if TYPE_CHECKING:
        space: SearchSpace
        _rng: Random
        _last_step: LastStep | None
        ledger: Ledger

    libraries: tuple[str, ...] = ()
    """The distributions that the backend needs; their versions are in `.versions`."""

    baseline: Observation | None = None
    """The outcome of the baseline, which `set_baseline` was given; `history.baseline`."""

    capabilities: Capabilities = Capabilities()
    """What this optimizer can do. An instance's capabilities may differ from those of its class."""

    can_be_copied: bool = True
    """Whether `copy` and `pickle` work; if not, `replay` brings another optimizer to this state."""

    may_use_global_random_state: bool = True
    """Whether the backend might draw from `random` or numpy's global generator.

    If it never does, set this to False: the loop then need not restore them before each call.
    """

    may_start_threads: bool = True
    """Whether the backend might compute in threads of its own, as numerical libraries do.

    If it never does, set this to False: the service then runs it where its own threads run, which
    is on one processor, and so answers faster.
    """

    asks_in_a_row: int | None = 20
    """After how many suggestions in a row that were discarded, or of which a search knew the
    outcome, a random point takes their place; None: any number, until the backend has no more."""

    races: bool = False
    """Whether the optimizer asks for each replicate of a trial on its own."""

    pairs_replicates: bool = False
    """Whether the backend prunes by comparing replicates of the same seed, not running means."""

    duplicates: bool = False
    """Whether a search runs a point again whose outcome it knows, instead of reporting that."""

    @property
    def stands_for(self) -> type:
        """The class that a record and messages name: the optimizer's own, unless overridden."""
        return type(self)

    @abstractmethod
    def _suggest(self) -> tuple[Handle, dict[str, Any]] | None:
        """Return the next suggestion: a handle that the backend defines, and active parameters.

        Returns:
            The suggestion, or None if the backend has none: a random point takes its place.

        Raises:
            SpaceExhausted: The backend has no points left, for example at the end of a grid.
        """

    def _suggest_batch(self, n: int) -> Sequence[tuple[Handle, dict[str, Any]]]:
        """Return up to `n` suggestions for one ask, chosen jointly.

        Called for batches only. By default there are none: `_suggest` is then called for each.

        Args:
            n: How many are needed.
        """
        return ()

    @abstractmethod
    def _insert(self, params: Mapping[str, Any]) -> Handle:
        """Accept a point that the backend did not suggest; return its handle for `_learn`.

        Args:
            params: The active parameters of a point, in canonical form and in the space's order.
        """

    @abstractmethod
    def _learn(self, handle: Handle, observation: Observation) -> None:
        """Report the outcome of a suggested or inserted point to the backend.

        Args:
            handle: The handle from `_suggest` or `_insert`.
            observation: The outcome. If its status is COMPLETED, the metrics of all objectives and
                constraints are finite floats.
        """

    def _drop(self, handle: Handle, why: Dropped) -> None:
        """Tell the backend that one of its suggestions was discarded and will have no outcome.

        Args:
            handle: The handle from `_suggest`.
            why: Whether the point violates a linear constraint or was suggested before.
        """

    def _reopen(self, handle: Handle, params: Mapping[str, Any]) -> Handle:
        """Return the handle for `_learn` of an abandoned trial that has an outcome after all.

        By default it is that of the same point, inserted once more. A backend that can take back
        what it learnt of the abandoned trial does so here, and returns `handle`.

        Args:
            handle: The handle with which `_learn` got the status ABANDONED.
            params: The trial's parameters, as for `_insert`.
        """
        return self._insert(params)

    def _complete(self, params: Mapping[str, Any]) -> tuple[Handle, dict[str, Any]]:
        """Suggest a point with the given values. By default the rest is drawn at random.

        Args:
            params: Some or all of the active parameters, in canonical form.
        """
        space = self.space if self._last_step is None else self.space.without_fidelity
        try:
            point = space.validate(params)
        except InvalidParametersError:  # Only a part of a point was given.
            point = space.validate(space.fixed(params).sample(self._rng))
        return self._insert(point), point

    def _reseed(self) -> None:
        """Begin again with `self.seed`, which has changed. Called only before the first call.

        By default nothing happens: the backend has no random choices of its own.
        """

    def _learn_baseline(self, observation: Observation, point: Mapping[str, Any] | None) -> None:
        """Learn the outcome of the baseline. By default nothing happens.

        Args:
            observation: The outcome, completed, with all required metrics.
            point: Its active parameters in canonical form and in the space's order; None if the
                baseline is no point of the space.
        """

    def _recommend(self) -> Treatment | None:
        """Return the treatment that the model takes for the best; None if there is none.

        Called only if `capabilities.recommends` is true, and if a trial may be the best.
        """
        return None

    def _report(self, handle: Handle, step: int, value: float) -> bool:
        """Report an intermediate value to the backend; return whether it would end the trial here.

        Called only if `capabilities.pruning` is true, and once for each step of a trial. The values
        are the trial's learning curve or, if it reports none, running means over its replicates:
        see `optimizers/reports.py`. Do not draw from global random generators here: a trial is
        running.

        Args:
            handle: The handle from `_suggest` or `_insert`.
            step: The step, at least 0.
            value: The value of the only objective; it may be nan or infinite.
        """
        return False

    def _pend(self, params: Mapping[str, Any], handle: Handle) -> Treatment:
        """Name a suggestion. A backend that races says here of which trial it is a replicate."""
        return self.ledger.add(params, handle)

    def race_up_to(self, replicates: int) -> None:
        """Take the largest number of replicates of a trial. Called if `races` is true."""

    def racing(self) -> Collection[str] | None:
        """Return the trials whose configuration may be suggested again with a higher fidelity.

        Their checkpoints are kept. By default none is suggested again.

        Returns:
            The names of completed trials; None if this optimizer never suggests one again.
        """
        return None
