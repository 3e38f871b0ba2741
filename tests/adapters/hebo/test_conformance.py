"""HEBOOptimizer keeps the contract: its initial design, and its model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from crystallize_opt import Constraint, Objective, SearchSpace, SpaceOptimizer
from crystallize_opt.adapters import HEBOOptimizer
from crystallize_opt.testing import OptimizerContract

pytest.importorskip("hebo", reason="it has an environment of its own: see .ci/run")


class HEBOContract(OptimizerContract):
    options: ClassVar[dict[str, Any]] = {}

    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> HEBOOptimizer:
        return HEBOOptimizer(space, objective, constraints=constraints, seed=seed, **self.options)

    def knowledge_of(self, optimizer: SpaceOptimizer[Any]) -> Any:
        assert isinstance(optimizer, HEBOOptimizer)
        rows = optimizer.hebo.X.to_dict("records")
        return list(zip(rows, optimizer.hebo.y.tolist(), strict=True))


class TestInitialDesign(HEBOContract):
    """What this layer does, in the time of a test: the model is used where trials are attached."""

    trap_trials = 0
    warm_asks = 2
    options: ClassVar[dict[str, Any]] = {"hebo_options": {"rand_sample": 30}}


@pytest.mark.slow
class TestModel(HEBOContract):
    """A model from the third trial on. A suggestion of it takes a second or more, with any model.

    The default model is that of test_parity.py: `test_the_model_with_its_defaults`.
    """

    asks_per_test = 4
    most_pending = 3
    warm_asks = 3
    trap_trials = 12
    trap_seeds = (0,)
    options: ClassVar[dict[str, Any]] = {
        "model_name": "rf",
        "hebo_options": {"rand_sample": 2, "model_config": {"n_estimators": 5}},
    }
