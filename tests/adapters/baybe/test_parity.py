"""BayBEOptimizer against BayBE itself: `Campaign.recommend` and `add_measurements`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from baybe.recommenders import RandomRecommender, TwoPhaseMetaRecommender
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Float,
    Integer,
    Objective,
    Observation,
    Ordinal,
    SearchSpace,
)
from crystallize_opt.adapters import BayBEOptimizer
from crystallize_opt.errors import UnsupportedSpaceError
from tests.adapters.baybe.native import LOSS, SQUARE, ByHand, Point, native_suggestions
from tests.adapters.parity import any_loss, exactly, search
from tests.strategies import spaces

QUICK = (Phase.reuse, Phase.generate)  # Shrinking takes minutes.


@st.composite
def plain_spaces(draw: st.DrawFn) -> SearchSpace:
    """Generated spaces that BayBE takes, and in which the loop by hand says the same."""
    space = draw(spaces(conditions=False, constraints=False, max_size=4))
    hand = ByHand(space)
    assume(hand.searched)
    choices = [p.size for p in hand.searched.values() if isinstance(p, Categorical)]
    assume(math.prod(choices) <= 64)
    for parameter in space.values():
        if isinstance(parameter, Float) and parameter.size == math.inf:
            width = parameter.high - parameter.low
            assume(width > 1e-6 * abs(parameter.low))
    return space


@settings(max_examples=12, deadline=None, phases=QUICK)
@given(space=plain_spaces(), seed=st.integers(0, 2**32 - 1))
def test_random_points_in_generated_spaces_are_those_of_the_loop(
    space: SearchSpace, seed: int
) -> None:
    optimizer = BayBEOptimizer(space, LOSS, seed=seed, recommender=RandomRecommender())
    trials = int(min(6, space.size))
    if space.size < math.inf:
        trials = 1  # Of a random recommender, BayBE itself repeats points of a hybrid space.
    native = native_suggestions(space, trials, seed=seed, recommender=RandomRecommender())

    assert exactly(search(optimizer, trials)) == exactly(native)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, phases=QUICK)
@given(
    space=plain_spaces(),
    seed=st.integers(0, 2**32 - 1),
    direction=st.sampled_from(["minimize", "maximize"]),
)
def test_suggestions_in_generated_spaces_are_those_of_the_loop(
    space: SearchSpace, seed: int, direction: Any
) -> None:
    goal = Objective("loss", direction)
    optimizer = BayBEOptimizer(space, goal, seed=seed)
    native = native_suggestions(space, int(min(4, space.size)), seed=seed, objectives=(goal,))
    suggested = search(optimizer, len(native))

    if space.size < math.inf and len({space.key(point) for point in native}) < len(native):
        return  # BayBE suggests a point again, where it is continuous and rounded.
    assert exactly(suggested) == exactly(native)


def test_suggestions_of_the_model_are_those_of_the_loop() -> None:
    space = SearchSpace({"x": (-5.0, 5.0), "rate": Float(1e-5, 1.0, log=True), "n": (1, 1000)})
    optimizer = BayBEOptimizer(space, LOSS, seed=1)

    assert exactly(search(optimizer, 3)) == exactly(native_suggestions(space, 3, seed=1))


@pytest.mark.slow
def test_suggestions_over_every_kind_are_those_of_the_loop() -> None:
    space = SearchSpace(
        {
            "x": (-5.0, 5.0),
            "grid": Float(0.0, 0.2, step=0.1),
            "width": Integer(1, 3, log=True),
            "kind": Categorical(["rbf", None, True]),
            "size": Ordinal(["s", "m"]),
        }
    )
    optimizer = BayBEOptimizer(space, LOSS, seed=1)

    assert exactly(search(optimizer, 4)) == exactly(native_suggestions(space, 4, seed=1))


@pytest.mark.slow
def test_suggestions_under_a_linear_constraint_are_those_of_the_loop() -> None:
    # The least loss is inside: a point on the border may violate it by a rounding.
    space = SearchSpace(SQUARE, ["x + 2*y <= 1.5"])

    def evaluate(params: Mapping[str, Any]) -> dict[str, float]:
        return {"loss": (params["x"] - 0.4) ** 2 + (params["y"] - 0.2) ** 2}

    optimizer = BayBEOptimizer(space, LOSS, seed=2)
    suggested = []
    for _ in range(4):
        (treatment,) = optimizer.ask()
        suggested.append(dict(treatment.params))
        optimizer.tell(evaluate(treatment.params))

    assert exactly(suggested) == exactly(native_suggestions(space, 4, seed=2, evaluate=evaluate))


@pytest.mark.slow
def test_suggestions_for_several_objectives_are_those_of_the_loop() -> None:
    objectives = (Objective("loss", "minimize"), Objective("gain", "maximize"))

    def evaluate(params: Mapping[str, Any]) -> dict[str, float]:
        loss = (params["x"] - 1) ** 2 + params["y"]
        return {"loss": loss, "gain": params["x"] - params["y"]}

    optimizer = BayBEOptimizer(SQUARE, objectives, seed=0)
    suggested = []
    for _ in range(4):
        (treatment,) = optimizer.ask()
        suggested.append(dict(treatment.params))
        optimizer.tell(evaluate(treatment.params))
    native = native_suggestions(
        SearchSpace(SQUARE), 4, seed=0, objectives=objectives, evaluate=evaluate
    )

    assert exactly(suggested) == exactly(native)


@pytest.mark.slow
def test_batches_are_those_of_recommend() -> None:
    optimizer = BayBEOptimizer(SQUARE, LOSS, seed=3)
    suggested: list[Point] = []
    for _ in range(2):
        treatments = optimizer.ask(2)
        suggested += [dict(treatment.params) for treatment in treatments]
        for treatment in treatments:
            optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))

    assert exactly(suggested) == exactly(
        native_suggestions(SearchSpace(SQUARE), 4, seed=3, batch=2)
    )


def test_a_recommender_is_that_recommender_and_stays_fresh() -> None:
    space = SearchSpace({"k": ["a", "b", "c"], "n": (1, 3)})
    given_ = TwoPhaseMetaRecommender(recommender=RandomRecommender(), switch_after=2)
    first, second = (BayBEOptimizer(space, LOSS, seed=5, recommender=given_) for _ in range(2))
    native = native_suggestions(space, 5, seed=5, recommender=RandomRecommender())

    assert exactly(search(first, 5)) == exactly(native) == exactly(search(second, 5))


def test_too_many_choices_are_refused_and_too_many_numbers_are_rounded() -> None:
    many = {f"k{i}": ["a", "b", "c", "d"] for i in range(4)}
    with pytest.raises(UnsupportedSpaceError, match=r"'k0'.* 256 combinations of choices.*Ordinal"):
        BayBEOptimizer({**many, "x": (0.0, 1.0)}, LOSS)

    optimizer = BayBEOptimizer(
        {"n": (1, 100_000), "x": (0.0, 1.0)}, LOSS, seed=0, recommender=RandomRecommender()
    )
    search(optimizer, 3)
    assert optimizer.campaign is not None
    stored = optimizer.campaign.measurements["p0"]
    assert list(stored) == [float(o.params["n"]) for o in optimizer.observations]
