"""NevergradOptimizer against Nevergrad itself: `ask`, `tell(candidate, loss)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nevergrad as ng
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constraint,
    Float,
    Integer,
    Objective,
    Observation,
    Ordinal,
    SearchSpace,
    SpaceOptimizer,
    Treatment,
)
from crystallize_opt.adapters import NevergradOptimizer
from tests.adapters.nevergrad.native import LOSS, SQUARE, ByHand, Point, native_suggestions
from tests.adapters.parity import any_loss, exactly, search
from tests.strategies import spaces

QUICK = (Phase.reuse, Phase.generate)  # Shrinking takes minutes.
OPTIMIZERS = ("NGOpt", "OnePlusOne", "TwoPointsDE", "CMA", "DiscreteOnePlusOne", "PSO", "TBPSA")
EVERY_KIND = SearchSpace(
    {
        "x": (-5.0, 5.0),
        "rate": Float(1e-5, 1.0, log=True),
        "grid": Float(0.0, 0.7, step=0.1),
        "n": (1, 20),
        "width": Integer(1, 300, log=True),
        "kind": Categorical(["rbf", None, True, 1]),
        "gamma": Float(1e-3, 1e3, log=True).when(kind="rbf"),
        "size": Ordinal(["s", "m", "l"]),
    }
)


def run(optimizer: SpaceOptimizer[Any], trials: int, evaluate: Any) -> list[Point]:
    suggested = []
    for _ in range(trials):
        (treatment,) = optimizer.ask()
        suggested.append(dict(treatment.params))
        optimizer.tell(evaluate(treatment.params))
    return suggested


@pytest.mark.parametrize("name", OPTIMIZERS[:4])
@settings(max_examples=5, deadline=None, phases=QUICK)
@given(data=st.data())
def test_suggestions_are_those_of_the_loop(name: str, data: st.DataObject) -> None:
    space = data.draw(spaces(constraints=False))
    assume(len(ByHand(space).dict_of()) > (name == "CMA"))  # Of one parameter, CMA needs fcmaes.
    seed = data.draw(st.integers(0, 2**32 - 1))
    suggested = search(NevergradOptimizer(space, LOSS, seed=seed, optimizer=name, budget=20), 12)
    native = native_suggestions(space, 12, seed=seed, optimizer=name, budget=20)

    assert exactly(suggested) == exactly(native[: len(suggested)])
    if len(suggested) < 12:  # The end comes when every point has been suggested.
        seen = {space.key(point) for point in suggested}
        assert all(space.key(point) in seen for point in space.points())


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=100, deadline=None, phases=QUICK)
@given(data=st.data())
def test_suggestions_in_many_spaces_are_those_of_the_loop(name: str, data: st.DataObject) -> None:
    space = data.draw(spaces(constraints=False))
    assume(len(ByHand(space).dict_of()) > (name == "CMA"))  # Of one parameter, CMA needs fcmaes.
    seed = data.draw(st.integers(0, 2**32 - 1))
    suggested = search(NevergradOptimizer(space, LOSS, seed=seed, optimizer=name, budget=40), 40)
    native = native_suggestions(space, 40, seed=seed, optimizer=name, budget=40)

    assert exactly(suggested) == exactly(native[: len(suggested)])


def test_suggestions_over_every_kind_are_those_of_the_loop_to_maximize() -> None:
    optimizer = NevergradOptimizer(EVERY_KIND, Objective("loss", "maximize"), seed=3)
    native = native_suggestions(EVERY_KIND, 30, seed=3, loss=lambda point: -any_loss(point))

    assert exactly(search(optimizer, 30)) == exactly(native)
    assert {"gamma" in point for point in native} == {True, False}


def test_suggestions_under_linear_constraints_are_those_of_the_loop() -> None:
    space = SearchSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}, ["x + 2*y <= 1.5", "y <= 3*x"])
    optimizer = NevergradOptimizer(space, LOSS, seed=2, optimizer="TwoPointsDE")
    native = native_suggestions(
        space, 40, seed=2, optimizer="TwoPointsDE", allowed=space.satisfies_constraints
    )

    assert exactly(search(optimizer, 40)) == exactly(native)


@pytest.mark.parametrize("thresholds", [(None, None), (2.0, -0.25)])
def test_suggestions_for_several_objectives_are_those_of_the_loop(
    thresholds: tuple[float | None, float | None],
) -> None:
    def evaluate(params: Mapping[str, Any]) -> dict[str, float]:
        loss = (params["x"] - 1) ** 2 + params["y"]
        return {"loss": loss, "gain": params["x"] - params["y"], "area": 2 * params["x"]}

    def reference(native: Any, parametrization: Any) -> None:
        if thresholds[0] is not None:
            native.tell(ng.p.MultiobjectiveReference(), [2.0, 0.25])

    optimizer = NevergradOptimizer(
        SQUARE,
        [
            Objective("loss", "minimize", threshold=thresholds[0]),
            Objective("gain", "maximize", threshold=thresholds[1]),
        ],
        constraints=[Constraint("area", "<=", 1.5)],
        seed=0,
        optimizer="DE",
    )
    native = native_suggestions(
        SearchSpace(SQUARE),
        60,
        seed=0,
        optimizer="DE",
        loss=lambda point: [evaluate(point)["loss"], -evaluate(point)["gain"]],
        violation=lambda point: [2 * point["x"] - 1.5],
        first=reference,
    )

    assert exactly(run(optimizer, 60, evaluate)) == exactly(native)


def test_suggestions_after_attach_are_those_of_the_loop() -> None:
    known = [({"x": 0.1 * i, "y": 0.9 - 0.1 * i}, float(i % 3)) for i in range(6)]

    def tell(native: Any, parametrization: Any) -> None:
        for point, loss in known:
            native.tell(parametrization.spawn_child(new_value=point), loss)

    optimizer = NevergradOptimizer(SQUARE, LOSS, seed=0, optimizer="OnePlusOne")
    optimizer.attach(
        Observation(Treatment(f"old_{i}", p), {"loss": y}) for i, (p, y) in enumerate(known)
    )
    native = native_suggestions(SearchSpace(SQUARE), 20, seed=0, optimizer="OnePlusOne", first=tell)

    assert exactly(search(optimizer, 20)) == exactly(native)


def test_a_configured_optimizer_is_that_optimizer() -> None:
    configured = ng.optimizers.DifferentialEvolution(crossover="twopoints")
    ours, named = (
        NevergradOptimizer(SQUARE, LOSS, seed=1, optimizer=each)
        for each in (configured, "TwoPointsDE")
    )

    assert exactly(search(ours, 40)) == exactly(search(named, 40))
