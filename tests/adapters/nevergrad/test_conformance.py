"""NevergradOptimizer keeps the contract, with several of Nevergrad's optimizers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from crystallize_opt import Constraint, Objective, SearchSpace, SpaceOptimizer
from crystallize_opt.adapters import NevergradOptimizer
from crystallize_opt.testing import OptimizerContract


class NevergradContract(OptimizerContract):
    options: ClassVar[dict[str, Any]] = {}

    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> NevergradOptimizer:
        return NevergradOptimizer(
            space, objective, constraints=constraints, seed=seed, **self.options
        )

    def knowledge_of(self, optimizer: SpaceOptimizer[Any]) -> Any:
        assert isinstance(optimizer, NevergradOptimizer)
        assert optimizer.native is not None
        values = optimizer.native.archive.values()
        return sorted((value.mean, value.count) for value in values)


class TestOnePlusOne(NevergradContract):
    """An ask takes a millisecond: what this layer does. The class of NGOpt runs all cases."""

    few_cases = True
    trap_seeds = (0,)
    options: ClassVar[dict[str, Any]] = {"optimizer": "OnePlusOne"}


@pytest.mark.slow
class TestNGOpt(NevergradContract):
    """The default."""


@pytest.mark.slow
class TestTwoPointsDE(NevergradContract):
    trap_share = 0.4  # Half of the trials are its first population.
    options: ClassVar[dict[str, Any]] = {"optimizer": "TwoPointsDE"}


@pytest.mark.slow
class TestTBPSA(NevergradContract):
    options: ClassVar[dict[str, Any]] = {"optimizer": "TBPSA"}
