"""OptunaOptimizer keeps the contract, with several of Optuna's samplers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler
from optuna.trial import TrialState

from crystallize_opt import Constraint, Objective, SearchSpace, SpaceOptimizer
from crystallize_opt.adapters import OptunaOptimizer
from crystallize_opt.testing import OptimizerContract


class OptunaContract(OptimizerContract):
    def sampler(self, seed: int | None) -> BaseSampler | None:
        return None

    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> OptunaOptimizer:
        return OptunaOptimizer(
            space, objective, constraints=constraints, seed=seed, sampler=self.sampler(seed)
        )

    def count_running(self, optimizer: SpaceOptimizer[Any]) -> int:
        assert isinstance(optimizer, OptunaOptimizer)
        return sum(trial.state is TrialState.RUNNING for trial in optimizer.study.trials)

    def knowledge_of(self, optimizer: SpaceOptimizer[Any]) -> Any:
        assert isinstance(optimizer, OptunaOptimizer)
        return [(t.state, t.values, t.params, t.distributions) for t in optimizer.study.trials]


class TestTPE(OptunaContract):
    """The default sampler, which runs all cases: what is stored is the same for all samplers."""


class TestRandomSampler(OptunaContract):
    few_cases = True
    slow_tests = (  # They need a process, in which TPE does more.
        "test_a_fresh_process_stays_as_it_was",
        "test_the_same_seed_suggests_the_same_in_another_process",
    )
    trap_share = 0.4  # It learns nothing: half of its points are outside by luck.

    def sampler(self, seed: int | None) -> BaseSampler:
        return RandomSampler(seed)


class TestCmaEs(OptunaContract):
    few_cases = True

    def sampler(self, seed: int | None) -> BaseSampler:
        return CmaEsSampler(seed=seed, warn_independent_sampling=False)


class TestNSGAII(OptunaContract):
    few_cases = True

    def sampler(self, seed: int | None) -> BaseSampler:
        return NSGAIISampler(seed=seed, population_size=6)
