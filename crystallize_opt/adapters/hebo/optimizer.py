"""HEBO, driven by `suggest` and `observe`.

For a seed, the suggestions are bit for bit those of a loop of `HEBO.suggest(1)` and `observe` over
the same space, with `scramble_seed=seed` and the seeded global generators of `random`, numpy and
torch, in one thread. The differences are:

- Choices and values of a grid are stored as their index; a parameter with one value is not stored.
- HEBO draws from the global generators. They have this optimizer's state while HEBO is called.
- HEBO drops trials without a value, and suggests the failing region again. A failed trial is
  observed with the worst value so far, once there is one; a worse one later takes its place.
- HEBO does not know of pending trials; suggestions differ by its random numbers.
- Where HEBO raises an error, as its model does with values beyond the range of 32-bit floats, a
  random point is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from crystallize_opt.adapters.environments import InOwnEnvironment, missing_environment
from crystallize_opt.errors import UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.random_instead import RandomInstead
from crystallize_opt.runtime.extras import is_installed
from crystallize_opt.runtime.own_random_state import OwnRandomState, alone, threads_kept
from crystallize_opt.runtime.quiet_import import quiet_import
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status

if TYPE_CHECKING:
    import os

importing_hebo = partial(quiet_import, "HEBO", "hebo", undo_logging=True)
"""A context manager for an import of HEBO and the libraries it imports."""


def _load_quietly() -> None:
    """Let pymoo, which HEBO uses, load its functions: it prints a hint the first time."""
    from pymoo.config import Config
    from pymoo.util.function_loader import FunctionLoader

    said = Config.warnings["not_compiled"]
    Config.warnings["not_compiled"] = False
    try:
        FunctionLoader.get_instance()
    finally:
        Config.warnings["not_compiled"] = said


class HEBOOptimizer(InOwnEnvironment[Any]):
    """HEBO behind the common interface: Bayesian optimization for few, noisy trials.

    Args:
        space: A `SearchSpace`, or the mapping that builds one, without conditions.
        objective: One objective.
        constraints: Outcome constraints. They only decide which trial is the best.
        seed: The seed of all random numbers; None to draw one.
        model_name: HEBO's model: `"gp"`, `"gpy"`, `"rf"`, …
        hebo_options: Further arguments of `hebo.optimizers.hebo.HEBO`, such as
            `{"rand_sample": 10}`.
        python: The interpreter that has HEBO, or the folder of its environment: the optimizer then
            is a `RemoteOptimizer`. None: HEBO is installed here.

    Attributes:
        hebo: The `HEBO` object.

    Raises:
        MissingExtraError: HEBO is not installed here, and there is no `python`; the message has the
            command that makes an environment with HEBO.
        UsageError: HEBO does not take its options.
        UnsupportedSpaceError: The space has conditions or a fidelity.
        ObjectiveError: There are several objectives.
    """

    libraries = ("HEBO", "torch", "gpytorch", "numpy", "pandas", "pymoo", "scikit-learn")
    capabilities = Capabilities(
        conditions=False,
        several_objectives=False,
        pending=False,
        attached=True,
        unique_points=True,
    )
    asks_in_a_row = 3  # A suggestion of the model takes seconds.

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
        model_name: str = "gp",
        hebo_options: Mapping[str, Any] | None = None,
        python: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        if timeout is not None:
            raise UsageError("timeout= is for an optimizer in another process: give python=, too.")
        super().__init__(
            space,
            objective,
            constraints=constraints,
            seed=seed,
            settings={"model_name": model_name, "hebo_options": hebo_options or {}},
            repeats="never",
        )
        if not is_installed("hebo"):
            raise missing_environment("HEBOOptimizer", "hebo", "hebo")
        self._instead = RandomInstead("HEBO")
        self._waiting: list[Any] = []  # The rows of failed trials, before there is any value.
        self._failed: list[int] = []  # The positions of the others among all observed rows.
        self._options = {"model_name": model_name, **(hebo_options or {})}
        with importing_hebo(), threads_kept():
            from crystallize_opt.adapters.hebo.space import HEBOSpace
        _load_quietly()
        self._space = HEBOSpace(self.space)
        self._reseed()
        self.measured.when_changed(self._correct)

    def _reseed(self) -> None:
        from hebo.optimizers.hebo import HEBO

        self._own = OwnRandomState(self.seed, torch=True)
        self.hebo: Any = None
        if not self._space.native.para_names:
            return
        with alone(self._own):
            try:
                self.hebo = HEBO(self._space.native, scramble_seed=self.seed, **self._options)
            except TypeError as error:
                raise UsageError(f"HEBO refuses hebo_options=: {error}") from error

    def _suggest(self) -> tuple[Any, dict[str, Any]] | None:
        if self.hebo is None:
            return None
        row = None
        with self._instead, alone(self._own):
            row = self.hebo.suggest(1)
        return None if row is None else (row, self._space.decode(row.iloc[0].to_dict()))

    def _insert(self, params: Mapping[str, Any]) -> Any:
        import pandas as pd

        return pd.DataFrame([self._space.encode(params)])

    def _learn(self, handle: Any, observation: Observation) -> None:
        if observation.status is Status.ABANDONED or self.hebo is None:
            return
        if observation.status is Status.COMPLETED:
            (cost,) = self.criterion.costs(observation)
            self._observe(handle, cost)
        else:
            self._waiting.append(handle)
            self._correct()

    def _observe(self, row: Any, cost: float) -> None:
        import numpy as np

        with alone(self._own):
            self.hebo.observe(row, np.array([[cost]]))

    def _correct(self) -> None:
        """Give failed trials the worst value so far."""
        if not self.measured.costs or self.hebo is None:
            return
        ((_, worst),) = self.measured.costs
        for row in self._waiting:
            self._failed.append(len(self.hebo.y))
            self._observe(row, worst)
        self._waiting.clear()
        for position in self._failed:
            self.hebo.y[position] = worst
