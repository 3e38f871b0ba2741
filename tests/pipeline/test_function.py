"""The experiment of one plain function."""

from __future__ import annotations

import asyncio
import functools
import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from crystallize_opt import (
    BasePlugin,
    Experiment,
    Float,
    Objective,
    Status,
    Treatment,
    pipeline_step,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import MissingParameterError, RunChanged, TrialsFailedError

LOSS = Objective("loss", "minimize")


def loss(x: Float(-5.0, 5.0), layers: Annotated[int, (1, 4)] = 2) -> float:  # type: ignore[valid-type]
    return float((x - 2.0) ** 2 + layers)


async def slowly(x: Float(-5.0, 5.0)) -> dict[str, float]:  # type: ignore[valid-type]
    await asyncio.sleep(0)
    return {"loss": x**2}


class Model:
    def __init__(self, shift: float) -> None:
        self.shift = shift

    def __call__(self, x: Float(-5.0, 5.0)) -> float:  # type: ignore[valid-type]
        return float(x - self.shift) ** 2

    def method(self, x: Float(-5.0, 5.0)) -> float:  # type: ignore[valid-type]
        return float(x - self.shift) ** 2


def scaled(x: Float(-5.0, 5.0), *, scale: float) -> float:  # type: ignore[valid-type]
    return float(scale * x**2)


def test_the_annotations_are_the_space_and_a_number_is_the_metric() -> None:
    experiment = Experiment.of(loss, seed=0)
    optimizer = OptunaOptimizer(experiment.search_space(), LOSS, seed=0)

    best = experiment.optimize(optimizer, num_trials=30)

    assert experiment.search_space().names == ("x", "layers")
    assert experiment.name == "loss"
    history = optimizer.history
    assert [each["loss"] for each in history] == [loss(**each.params) for each in history]
    assert history.best is not None
    assert experiment.apply(best) == history.best["loss"]


@pytest.mark.parametrize(
    ("function", "metric"),
    [
        (slowly, "loss"),
        (Model(1.0), "Model"),
        (Model(1.0).method, "method"),
        (functools.partial(scaled, scale=3.0), "partial"),
        (lambda x: np.float32(x), "<lambda>"),
    ],
)
@pytest.mark.parametrize("workers", [None, "threads", pytest.param(2, marks=pytest.mark.slow)])
def test_any_callable_is_a_function(
    function: Callable[..., Any], metric: str, workers: Any
) -> None:
    experiment = Experiment.of(function)
    optimizer = RandomOptimizer({"x": (-5.0, 5.0)}, Objective(metric, "minimize"), seed=0)

    experiment.optimize(optimizer, num_trials=4, workers=workers)

    assert [o.status for o in optimizer.observations] == [Status.COMPLETED] * 4
    assert "<lambda>" in metric or experiment.search_space().names == ("x",)


def test_a_function_may_take_the_context_and_return_metrics() -> None:
    def measured(ctx: Any, x: float, shift: float = 0.0) -> Mapping[str, float]:
        ctx.metrics.add("steps", ctx["replicate"])
        return {"loss": x + shift, "seconds": 1.0}

    experiment = Experiment.of(measured, initial_ctx={"shift": 1.0}, name="mine")

    assert experiment.apply(Treatment("one", {"x": 1.0})) == {"loss": 2.0, "seconds": 1.0}
    assert experiment.name == "mine"


def test_the_metric_of_a_number_can_be_named() -> None:
    experiment = Experiment.of(loss, metric="error")
    optimizer = RandomOptimizer(experiment.search_space(), Objective("error", "minimize"), seed=0)

    assert experiment.optimize(optimizer, num_trials=2) is not None


@pytest.mark.parametrize("returned", [None, "0.5", (1.0, 2.0), [1.0], 1j])
def test_anything_else_is_a_failure_that_says_what_to_return(returned: Any) -> None:
    def wrong(x: float) -> Any:
        return returned

    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
    with pytest.raises(TrialsFailedError, match=r"wrong\(\) returned .* the metric 'wrong'"):
        Experiment.of(wrong).optimize(optimizer, num_trials=5)


def test_a_value_that_is_not_finite_is_invalid() -> None:
    def sometimes(x: float) -> float:
        return math.nan if x > 0.5 else x

    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, Objective("sometimes", "minimize"), seed=0)
    Experiment.of(sometimes).optimize(optimizer, num_trials=20)

    for each in optimizer.observations:
        invalid = each.params["x"] > 0.5
        assert each.status is (Status.INVALID if invalid else Status.COMPLETED)


def test_signatures_that_cannot_be_filled_are_refused() -> None:
    def several(*xs: float) -> float:
        return sum(xs)

    def by_position(x: float, /) -> float:
        return x

    with pytest.raises(TypeError, match=r"several\(\) has a parameter \*xs"):
        Experiment.of(several)
    with pytest.raises(TypeError, match=r"by_position\(\) takes 'x' by position only"):
        Experiment.of(by_position)
    for given in (3, None, "loss"):
        with pytest.raises(TypeError, match="takes a function of parameters, not"):
            Experiment.of(given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max> does not tell the names"):
        Experiment.of(max)
    with pytest.raises(MissingParameterError, match="'x': give it in a treatment or the"):
        Experiment.of(loss).apply()


def test_a_step_is_no_function_of_parameters() -> None:
    @pipeline_step
    def train(data: Any, ctx: Any, *, x: float = 0.5) -> Any:
        return data

    for given in (train, train()):
        with pytest.raises(TypeError, match=r"train\(\) is a step.*Pipeline\(\[train\(\)\]\)"):
            Experiment.of(given)


def test_the_advice_about_a_number_under_another_name_works() -> None:
    def train(x: Float(0.0, 1.0)) -> float:  # type: ignore[valid-type]
        return float(x)

    def search(experiment: Experiment, metric: str) -> None:
        optimizer = RandomOptimizer({"x": (0.0, 1.0)}, Objective(metric, "minimize"), seed=0)
        experiment.optimize(optimizer, 3)

    with pytest.raises(TrialsFailedError) as caught:
        search(Experiment.of(train), "loss")
    assert "is recorded as 'train': search for Objective('train', ...), or" in str(caught.value)
    assert "Experiment.of(..., metric='loss')" in str(caught.value)
    search(Experiment.of(train), "train")
    search(Experiment.of(train, metric="loss"), "loss")


def test_a_run_of_a_function_is_resumed_and_a_changed_function_noticed(tmp_path: Path) -> None:
    def search(function: Callable[..., Any], trials: int) -> None:
        optimizer = RandomOptimizer({"x": (-5.0, 5.0)}, LOSS, seed=0)
        experiment = Experiment.of(function, metric="loss", name="mine", seed=0)
        experiment.optimize(optimizer, trials, storage=tmp_path / "runs.db")

    search(loss, 3)
    search(loss, 5)
    with pytest.raises(RunChanged, match="pipeline"):
        search(lambda x: x, 6)


def test_the_experiment_can_be_pickled_and_hears_plugins() -> None:
    class Watch(BasePlugin):
        def after_run(self, experiment: Any, result: Any) -> None:
            seen.append(result)

    seen: list[Any] = []
    experiment = pickle.loads(pickle.dumps(Experiment.of(loss)))  # noqa: S301
    assert experiment.apply(Treatment("two", {"x": 2.0})) == 2.0
    Experiment.of(loss, plugins=[Watch()]).apply(Treatment("two", {"x": 2.0}))
    assert len(seen) == 1
