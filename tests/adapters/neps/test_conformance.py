"""NePSOptimizer keeps the contract: its initial design, and its model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from crystallize_opt import Constraint, Objective, SearchSpace, SpaceOptimizer
from crystallize_opt.adapters import NePSOptimizer
from crystallize_opt.testing import OptimizerContract

pytest.importorskip("neps", reason="it has an environment of its own: see .ci/run")


class NePSContract(OptimizerContract):
    options: ClassVar[dict[str, Any]] = {}

    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> NePSOptimizer:
        return NePSOptimizer(space, objective, constraints=constraints, seed=seed, **self.options)

    def count_running(self, optimizer: SpaceOptimizer[Any]) -> int:
        assert isinstance(optimizer, NePSOptimizer)
        return sum(each.report is None for each in optimizer.neps.trials.values())

    def knowledge_of(self, optimizer: SpaceOptimizer[Any]) -> Any:
        assert isinstance(optimizer, NePSOptimizer)
        return [
            (each.config, each.report and each.report.objective_to_minimize)
            for each in optimizer.neps.trials.values()
        ]


class TestRandomSearch(NePSContract):
    """What this layer does, in the time of a test."""

    trap_share = 0.4  # It learns nothing: half of its points are outside by luck.
    options: ClassVar[dict[str, Any]] = {"algorithm": "random_search"}


@pytest.mark.slow
class TestModel(NePSContract):
    """A model after three trials, with a quick search for its best point."""

    asks_per_test = 5
    most_pending = 3
    warm_asks = 3
    trap_trials = 20
    trap_seeds = (0, 1)
    options: ClassVar[dict[str, Any]] = {
        "algorithm_options": {
            "initial_design_size": 3,
            "num_restarts": 2,
            "n_initial_start_points": 16,
        }
    }
