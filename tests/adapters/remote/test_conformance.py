"""RemoteOptimizer keeps the contract, whatever it runs: random search, Optuna, SMAC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from crystallize_opt import Constraint, Objective, SearchSpace, SpaceOptimizer
from crystallize_opt.adapters import RemoteOptimizer
from crystallize_opt.testing import OptimizerContract


class RemoteContract(OptimizerContract):
    runs: ClassVar[str] = "crystallize_opt.adapters:RandomOptimizer"
    options: ClassVar[dict[str, Any]] = {}

    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> SpaceOptimizer[Any]:
        return RemoteOptimizer(
            self.runs, space, objective, constraints=constraints, seed=seed, **self.options
        )


class TestRandom(RemoteContract):
    few_cases = True  # In this process, RandomOptimizer runs them all.
    trap_share = 0.4  # It learns nothing: half of its points are outside by luck.


@pytest.mark.slow
class TestOptuna(RemoteContract):
    runs = "crystallize_opt.adapters:OptunaOptimizer"


@pytest.mark.slow
class TestSMAC(RemoteContract):
    """With the options of the contract of SMACOptimizer itself."""

    runs = "crystallize_opt.adapters:SMACOptimizer"
    most_pending = 8
    asks_per_test = 4
    warm_asks = 6
    trap_trials = 0
    options: ClassVar[dict[str, Any]] = {
        "n_init": 4,
        "facade_options": {
            "acquisition_maximizer": {"challengers": 50, "local_search_iterations": 1}
        },
    }
