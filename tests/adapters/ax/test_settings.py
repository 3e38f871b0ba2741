"""The settings that a stored run compares: those of a strategy, and no times that it measured."""

from __future__ import annotations

from ax.api.utils.generation_strategy_dispatch import choose_generation_strategy
from ax.api.utils.structs import GenerationStrategyDispatchStruct

from crystallize_opt.adapters import AxOptimizer
from tests.adapters.ax.native import LOSS, SQUARE


def test_equal_strategies_are_equal_settings() -> None:
    def settings(seed: int) -> object:
        struct = GenerationStrategyDispatchStruct(initialization_random_seed=seed)
        strategy = choose_generation_strategy(struct)
        return AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=strategy).settings

    assert settings(0) == settings(0) != settings(1)
