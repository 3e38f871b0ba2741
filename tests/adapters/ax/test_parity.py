"""AxOptimizer against Ax itself: `Client(random_seed=s)` and `get_next_trials(1)`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constant,
    Constraint,
    Float,
    Integer,
    Objective,
    Observation,
    Ordinal,
    SearchSpace,
    Treatment,
)
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.trials.objective import Direction
from tests.adapters.ax.native import (
    LOSS,
    SQUARE,
    Point,
    generators_of,
    native_suggestions,
    quick_strategy,
    run,
)
from tests.adapters.parity import any_loss, exactly
from tests.strategies import spaces

EVERY_KIND = SearchSpace(
    {
        "x": (-5.0, 5.0),
        "rate": Float(1e-5, 1.0, log=True),
        "grid": Float(0.0, 0.7, step=0.1),
        "n": (1, 20),
        "width": Integer(1, 300, log=True),
        "kind": ["rbf", "linear", "poly"],
        "flag": [True, False],
        "size": Ordinal(["s", "m", "l"]),
        "fixed": Constant("adam"),
    }
)


def test_suggestions_are_those_of_the_documented_loop() -> None:
    ours = run(AxOptimizer(EVERY_KIND, LOSS, seed=3), 7)

    assert exactly(ours) == exactly(native_suggestions(EVERY_KIND, 7, seed=3))


def test_suggestions_are_those_of_a_given_strategy_to_maximize() -> None:
    space = SearchSpace({"x": (0.0, 1.0), "n": (1, 9), "numbers": [3, 1, 2]})
    optimizer = AxOptimizer(
        space, Objective("loss", "maximize"), seed=0, generation_strategy=quick_strategy(5)
    )
    native = native_suggestions(space, 5, seed=0, strategy=quick_strategy(5), objective="loss")

    assert exactly(run(optimizer, 5)) == exactly(native)
    assert generators_of(optimizer) == ["Sobol"] * 3 + ["BoTorch"] * 2


def check_parity(space: SearchSpace, seed: int, direction: Direction) -> None:
    optimizer = AxOptimizer(
        space, Objective("loss", direction), seed=seed, generation_strategy=quick_strategy(seed)
    )
    ours = run(optimizer, 5)
    native = native_suggestions(
        space,
        5,
        seed=seed,
        strategy=quick_strategy(seed),
        objective="-loss" if direction == "minimize" else "loss",
    )
    assert exactly(ours) == exactly(native)
    assert "Sobol" not in generators_of(optimizer)[3:]


@st.composite
def plain_spaces(draw: st.DrawFn) -> SearchSpace:
    """Generated spaces in which the loop by hand says the same: what Ax itself can hold."""
    space = draw(spaces(conditions=False, constraints=False, max_size=4))
    assume(space.size > 5)
    for parameter in space.values():
        if isinstance(parameter, Float) and parameter.size == math.inf:
            width = parameter.high - parameter.low
            assume(width > max(1e-4, 1e-6 * abs(parameter.low)))
    return space


@settings(max_examples=2)
@given(space=plain_spaces(), seed=st.integers(0, 2**32 - 1))
def test_suggestions_in_generated_spaces_are_those_of_the_loop(
    space: SearchSpace, seed: int
) -> None:
    check_parity(space, seed, "minimize")


@pytest.mark.slow
@settings(max_examples=25, phases=[Phase.reuse, Phase.generate])  # shrinking takes too long
@given(
    space=plain_spaces(),
    seed=st.integers(0, 2**32 - 1),
    direction=st.sampled_from(["minimize", "maximize"]),
)
def test_suggestions_in_many_generated_spaces_are_those_of_the_loop(
    space: SearchSpace, seed: int, direction: Direction
) -> None:
    check_parity(space, seed, direction)


def in_batches(optimizer: AxOptimizer, trials: int, batch: int) -> list[Point]:
    suggested = []
    for _ in range(0, trials, batch):
        treatments = optimizer.ask(batch)
        suggested += [dict(treatment.params) for treatment in treatments]
        for treatment in treatments:
            optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
    return suggested


def test_batches_are_those_of_get_next_trials() -> None:
    batched, single = (
        AxOptimizer(SQUARE, LOSS, seed=3, generation_strategy=quick_strategy(3)) for _ in range(2)
    )
    batches = in_batches(batched, 6, 3)
    native = native_suggestions(SearchSpace(SQUARE), 6, seed=3, strategy=quick_strategy(3), batch=3)

    assert exactly(batches) == exactly(native)
    assert generators_of(batched) == ["Sobol"] * 3 + ["BoTorch"] * 3
    # They are others than those of one ask after the other: see docs/ax.md.
    in_batches(single, 3, 3)
    assert exactly(batches[3:]) != exactly([dict(single.ask()[0].params) for _ in range(3)])


@pytest.mark.slow
def test_batches_of_the_default_strategy_are_those_of_get_next_trials() -> None:
    optimizer = AxOptimizer(EVERY_KIND, LOSS, seed=3)
    native = native_suggestions(EVERY_KIND, 12, seed=3, batch=6)

    assert exactly(in_batches(optimizer, 12, 6)) == exactly(native)


@pytest.mark.slow
def test_suggestions_in_conditional_spaces_are_those_of_the_loop() -> None:
    space = SearchSpace(
        {
            "kernel": ["rbf", "poly", "linear"],
            "gamma": Float(1e-3, 1e3, log=True).when(kernel="rbf"),
            "degree": Integer(2, 5).when(kernel="poly"),
            "scaled": Categorical([True, False]).when(kernel="poly"),
            "mean": Float(-1.0, 1.0).when(scaled=True),
            "C": (0.0, 1.0),
        }
    )
    optimizer = AxOptimizer(space, LOSS, seed=1, generation_strategy=quick_strategy(1))
    ours = run(optimizer, 8)

    assert exactly(ours) == exactly(
        native_suggestions(space, 8, seed=1, strategy=quick_strategy(1))
    )
    assert {tuple(point) for point in ours} >= {("kernel", "C"), ("kernel", "gamma", "C")}


@pytest.mark.slow
def test_suggestions_under_linear_constraints_are_those_of_the_loop() -> None:
    # Of the loop by hand, what violates a constraint by the rounding of Ax' solver counts, too:
    # here the best point is inside.
    space = SearchSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}, ["x + 2*y <= 1.5", "y <= 3*x"])

    def evaluate(params: Mapping[str, Any]) -> dict[str, float]:
        return {"loss": (params["x"] - 0.5) ** 2 + (params["y"] - 0.2) ** 2}

    optimizer = AxOptimizer(space, LOSS, seed=2, generation_strategy=quick_strategy(2))
    native = native_suggestions(space, 6, seed=2, strategy=quick_strategy(2), evaluate=evaluate)

    assert exactly(run(optimizer, 6, evaluate)) == exactly(native)


@pytest.mark.parametrize(
    "thresholds", [(None, None), pytest.param((1.0, -0.25), marks=pytest.mark.slow)]
)
def test_suggestions_for_several_objectives_are_those_of_the_loop(
    thresholds: tuple[float | None, float | None],
) -> None:
    # The order of the metrics, which Ax models alphabetically, is another than that of objectives.
    def evaluate(params: Mapping[str, Any]) -> dict[str, float]:
        loss = (params["x"] - 1) ** 2 + params["y"]
        return {"loss": loss, "gain": params["x"] - params["y"], "area": 2 * params["x"]}

    optimizer = AxOptimizer(
        SQUARE,
        [
            Objective("loss", "minimize", threshold=thresholds[0]),
            Objective("gain", "maximize", threshold=thresholds[1]),
        ],
        constraints=[Constraint("area", "<=", 1.5)],
        seed=0,
        generation_strategy=quick_strategy(),
    )
    native = native_suggestions(
        SearchSpace(SQUARE),
        5,
        seed=0,
        strategy=quick_strategy(),
        objective="-loss, gain",
        constraints=["area <= 1.5"]
        if thresholds[0] is None
        else ["area <= 1.5", "loss <= 1.0", "gain >= -0.25"],
        evaluate=evaluate,
    )

    assert exactly(run(optimizer, 5, evaluate)) == exactly(native)


def test_standard_errors_reach_the_model() -> None:
    def suggestions(*, sems: bool) -> list[Point]:
        optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
        suggested = []
        for _ in range(5):
            (treatment,) = optimizer.ask()
            suggested.append(dict(treatment.params))
            sem = {"loss": 0.2 + treatment.params["x"]} if sems else {}
            optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}, sem=sem))
        return suggested

    native = native_suggestions(
        SearchSpace(SQUARE),
        5,
        seed=0,
        strategy=quick_strategy(),
        evaluate=lambda params: {"loss": (any_loss(params), 0.2 + params["x"])},
    )

    assert exactly(suggestions(sems=True)) == exactly(native)
    assert exactly(suggestions(sems=False)) != exactly(native)


def test_suggestions_after_attach_are_those_of_the_loop() -> None:
    known = [({"x": 0.1 * i, "y": 0.9 - 0.1 * i}, float(i % 3)) for i in range(4)]
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
    optimizer.attach(
        [Observation(Treatment(f"old_{i}", p), {"loss": y}) for i, (p, y) in enumerate(known)]
    )
    native = native_suggestions(
        SearchSpace(SQUARE), 2, seed=0, strategy=quick_strategy(), first=known
    )

    assert exactly(run(optimizer, 2)) == exactly(native)
    assert generators_of(optimizer)[4:] == ["BoTorch", "BoTorch"]
