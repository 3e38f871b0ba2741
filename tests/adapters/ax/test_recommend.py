"""`recommend("model")` is `get_best_parameterization` of Ax's client."""

from __future__ import annotations

import random
from typing import Any

import pytest

from crystallize_opt import Constraint, Objective, Observation, Treatment
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.errors import NoCompletedTrialError, UsageError
from tests.adapters.ax.native import LOSS, SQUARE, by_hand, quick_strategy, run, sobol_strategy


def noisy(params: Any) -> dict[str, float]:
    noise = random.Random(f"{params['x']}").gauss(0, 0.3)
    return {"loss": (params["x"] - 0.5) ** 2 + (params["y"] - 0.5) ** 2 + noise}


def test_the_model_recommends_what_the_client_does() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=1, generation_strategy=quick_strategy(initial=6))
    run(optimizer, 8, noisy)
    before = random.getstate()
    recommended = optimizer.recommend("model")
    assert random.getstate() == before

    with by_hand():
        params, _, index, _ = optimizer.client.get_best_parameterization()
    assert recommended is optimizer.observations[index].treatment
    assert dict(recommended.params) == {"x": params["p0"], "y": params["p1"]}
    again = AxOptimizer(SQUARE, LOSS, seed=1, generation_strategy=quick_strategy(initial=6))
    again.replay(optimizer.events)
    assert again.recommend("model").params == recommended.params


def test_without_a_model_it_is_the_best_mean_and_the_baseline_may_be_it() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=sobol_strategy())
    usual = Treatment("usual", {"x": 0.5, "y": 0.5})
    optimizer.set_baseline(Observation(usual, {"loss": -9.0}))
    with pytest.raises(NoCompletedTrialError, match="nothing has been told"):
        optimizer.recommend("model")
    run(optimizer, 2)

    assert optimizer.recommend("model") is usual
    assert optimizer.recommend() is optimizer.get_best_treatment() is not usual


def test_what_ax_does_not_recommend_is_refused() -> None:
    several = AxOptimizer(
        SQUARE, [LOSS, Objective("a", "maximize")], seed=0, generation_strategy=sobol_strategy()
    )
    with pytest.raises(UsageError, match="for one objective only"):
        several.recommend("model")
    optimizer = AxOptimizer(
        SQUARE,
        LOSS,
        constraints=[Constraint("a", "<=", 0.0)],
        seed=0,
        generation_strategy=sobol_strategy(),
    )
    optimizer.ask()
    optimizer.tell({"loss": 1.0, "a": 1.0})
    with pytest.raises(NoCompletedTrialError, match=r"violates a <= 0\.0 by 1"):
        optimizer.recommend("model")
