"""SMACOptimizer keeps the contract: with random points, and with its default, random forests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from crystallize_opt import Constraint, Objective, SearchSpace, SpaceOptimizer
from crystallize_opt.adapters import SMACOptimizer
from crystallize_opt.testing import OptimizerContract
from tests.adapters.smac.native import FEW_CANDIDATES


class SMACContract(OptimizerContract):
    most_pending = 8
    options: ClassVar[dict[str, Any]] = {}

    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> SMACOptimizer:
        return SMACOptimizer(space, objective, constraints=constraints, seed=seed, **self.options)

    def count_running(self, optimizer: SpaceOptimizer[Any]) -> int:
        assert isinstance(optimizer, SMACOptimizer)
        return optimizer.facade.runhistory.running

    def knowledge_of(self, optimizer: SpaceOptimizer[Any]) -> Any:
        assert isinstance(optimizer, SMACOptimizer)
        runs = optimizer.facade.runhistory
        return [
            (
                dict(runs.get_config(key.config_id)),
                key.budget,
                key.instance,
                value.cost,
                value.status,
            )
            for key, value in runs.items()
        ]


class TestInitialDesign(SMACContract):
    """What this layer does, in the time of a test: most suggestions are of the initial design.

    The class of the random forest runs all cases.
    """

    few_cases = True
    asks_per_test = 4
    warm_asks = 6
    trap_trials = 0  # see test_failures.py
    options: ClassVar[dict[str, Any]] = {
        "n_init": 4,
        "facade_options": {**FEW_CANDIDATES, "model": {"n_trees": 3}},
    }


@pytest.mark.slow
class TestRandomForest(SMACContract):
    """The default."""

    asks_per_test = 7
    trap_seeds = (0,)
    options: ClassVar[dict[str, Any]] = {"n_init": 4}
