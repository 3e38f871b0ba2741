"""BayBEOptimizer keeps the contract: with random points alone, and with its default, the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from crystallize_opt import Constraint, Objective, SearchSpace, SpaceOptimizer
from crystallize_opt.adapters import BayBEOptimizer
from crystallize_opt.testing import OptimizerContract
from crystallize_opt.testing._base import ContractPart
from crystallize_opt.testing._repeats import Repeats


class MakesBayBE(ContractPart):
    def recommender(self) -> Any:
        return None

    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> BayBEOptimizer:
        return BayBEOptimizer(
            space, objective, constraints=constraints, seed=seed, recommender=self.recommender()
        )

    def knowledge_of(self, optimizer: SpaceOptimizer[Any]) -> Any:
        assert isinstance(optimizer, BayBEOptimizer)
        assert optimizer.campaign is not None
        return optimizer.campaign.measurements.drop(columns=["BatchNr", "FitNr"]).to_dict("records")


class BayBEContract(MakesBayBE, OptimizerContract):
    asks_per_test = 5
    most_pending = 5
    warm_asks = 6
    trap_trials = 0  # test_failures.py looks at what BayBE is told.


@pytest.mark.slow
class TestRandomPoints(BayBEContract):
    """No model: what this layer does. Random points under constraints take BayBE seconds."""

    known_gaps: ClassVar[dict[str, str]] = {
        "test_attached_trials_are_learnt_from": "random points learn nothing"
    }

    def recommender(self) -> Any:
        from baybe.recommenders import RandomRecommender

        return RandomRecommender()


@pytest.mark.slow
class TestGaussianProcess(BayBEContract):
    """The default's model, after one random point; its best point is searched quickly.

    Of each ten combinations of discrete values, one is tried, with two starts.
    """

    known_gaps: ClassVar[dict[str, str]] = {
        "test_maximizing_is_minimizing_the_negative": "BayBE's suggestions differ after 4 digits"
    }

    def recommender(self) -> Any:
        from baybe.recommenders import BotorchRecommender, TwoPhaseMetaRecommender

        model = BotorchRecommender(
            n_restarts=2, n_raw_samples=16, hybrid_sampler="Random", sampling_percentage=0.1
        )
        return TwoPhaseMetaRecommender(recommender=model)


@pytest.mark.slow
class TestDefaults(MakesBayBE, Repeats):
    """The default repeats itself: only this part of the contract, as each ask takes seconds."""

    asks_per_test = 3
    most_pending = 3
