"""Which treatment an optimizer recommends."""

from __future__ import annotations

from typing import Any

import pytest

from crystallize_opt import Objective, Observation
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import NoCompletedTrialError, UsageError

LOSS = Objective("loss", "minimize")


def test_the_best_mean_is_recommended_by_default() -> None:
    optimizer = RandomOptimizer({"x": (0, 9)}, LOSS, seed=0)
    with pytest.raises(NoCompletedTrialError, match="nothing has been told yet"):
        optimizer.recommend()
    first, second = optimizer.ask(2)
    optimizer.tell(Observation(first, {"loss": 2.0}))
    optimizer.tell(Observation(second, {"loss": 1.0}))

    assert optimizer.recommend() is optimizer.recommend("mean") is second


@pytest.mark.parametrize("make", [RandomOptimizer, OptunaOptimizer])
def test_a_model_that_is_not_there_is_refused_with_who_has_one(make: Any) -> None:
    optimizer = make({"x": (0, 9)}, LOSS, seed=0)
    message = rf"{make.__name__} has no model .*; AxOptimizer has one.*confirm\(.*top\(5\)\).best"
    with pytest.raises(UsageError, match=message):
        optimizer.recommend("model")
    with pytest.raises(UsageError, match="takes 'mean' or 'model', not 'median'"):
        optimizer.recommend("median")
