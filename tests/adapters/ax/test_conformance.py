"""AxOptimizer keeps the contract: with Sobol points alone, and with its default, the model."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from crystallize_opt import Constraint, Objective, SearchSpace, SpaceOptimizer
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.testing import OptimizerContract


def sobol_strategy(seed: int | None) -> Any:
    if "ax" not in sys.modules:
        # The adapter imports Ax, here, so that a test sees what that does to a process.
        AxOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"))
    from ax.adapter.registry import Generators
    from ax.generation_strategy.generation_node import GenerationNode
    from ax.generation_strategy.generation_strategy import GenerationStrategy
    from ax.generation_strategy.generator_spec import GeneratorSpec

    spec = GeneratorSpec(Generators.SOBOL, generator_kwargs={"seed": seed})
    node = GenerationNode(name="Sobol", should_deduplicate=True, generator_specs=[spec])
    return GenerationStrategy(name="Sobol only", nodes=[node])


class AxContract(OptimizerContract):
    asks_per_test = 7
    most_pending = 8
    warm_asks = 6
    trap_trials = 0  # test_failures.py has that test

    def strategy(self, seed: int | None) -> Any:
        return None

    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> AxOptimizer:
        strategy = self.strategy(seed)
        return AxOptimizer(
            space, objective, constraints=constraints, seed=seed, generation_strategy=strategy
        )

    def count_running(self, optimizer: SpaceOptimizer[Any]) -> int:
        assert isinstance(optimizer, AxOptimizer)
        trials = optimizer.client._experiment.trials.values()
        return sum(trial.status.is_running for trial in trials)

    def knowledge_of(self, optimizer: SpaceOptimizer[Any]) -> Any:
        assert isinstance(optimizer, AxOptimizer)
        experiment = optimizer.client._experiment
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ax uses pandas in a way that pandas deprecates.
            data = experiment.lookup_data().df
        means = {
            number: sorted(
                zip(rows["metric_name"], rows["mean"], map(str, rows["sem"]), strict=True)
            )
            for number, rows in data.groupby("trial_index")
        }
        return [
            (trial.status, [arm.parameters for arm in trial.arms], means.get(number))
            for number, trial in experiment.trials.items()
        ]


class TestSobol(AxContract):
    """No model: what this layer does, in the time of a test. The model's class runs all cases."""

    few_cases = True
    asks_per_test = 4
    # It learns nothing, whatever it is told: they have a meaning for the model.
    slow_tests = (
        "test_attached_trials_are_learnt_from",
        "test_maximizing_is_minimizing_the_negative",
        "test_other_metrics_teach_nothing",
        "test_the_metrics_of_a_failed_trial_teach_nothing",
        "test_the_metrics_of_an_attached_failure_teach_nothing",
    )
    known_gaps: ClassVar[dict[str, str]] = {
        "test_attached_trials_are_learnt_from": "a strategy of Sobol points learns nothing"
    }

    def strategy(self, seed: int | None) -> Any:
        return sobol_strategy(seed)


@pytest.mark.slow
class TestGaussianProcess(AxContract):
    """The default. Five Sobol points come first, so that the last of these asks have a model."""
