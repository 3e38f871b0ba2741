"""Pending trials, and the end: of a finite space, of a strategy."""

from __future__ import annotations

import random

import pytest
from ax.adapter.registry import Generators
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generation_strategy.transition_criterion import (
    MaxGenerationParallelism,
    MaxTrialsAwaitingData,
    MinTrials,
)

from crystallize_opt import (
    Constant,
    Integer,
    Observation,
    Ordinal,
    SearchSpace,
    SpaceExhausted,
    Treatment,
)
from crystallize_opt.adapters import AxOptimizer
from tests.adapters.ax.native import (
    LOSS,
    SQUARE,
    generators_of,
    quick_strategy,
    run,
    sobol_strategy,
    statuses,
    told_data,
    trials_of,
)
from tests.adapters.parity import any_loss, exactly


def test_sixteen_pending_trials_can_be_told_in_any_order() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0)
    treatments = optimizer.ask(16)
    assert len({tuple(t.params.values()) for t in treatments}) == 16
    random.Random(0).shuffle(treatments)
    for treatment in treatments[:12]:
        optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
    some = optimizer.ask(2)

    assert generators_of(optimizer)[16:] == ["BoTorch", "BoTorch"]
    assert len({tuple(t.params.values()) for t in treatments + some}) == 18
    for treatment in treatments[12:] + some:
        optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
    assert statuses(optimizer) == ["COMPLETED"] * 18
    for index, trial in trials_of(optimizer).items():
        params = {"x": trial.arm.parameters["p0"], "y": trial.arm.parameters["p1"]}
        assert told_data(optimizer)[index][0] == any_loss(params), "a value is told for another"


def test_a_batch_has_other_points_than_what_is_enqueued_attached_or_pending() -> None:
    space = SearchSpace({"n": (1, 3), "c": ["a", "b"], "m": (1, 2)})
    optimizer = AxOptimizer(space, LOSS, seed=0, generation_strategy=sobol_strategy())
    optimizer.attach(Observation(Treatment("old", {"n": 1, "c": "a", "m": 1}), {"loss": 1.0}))
    optimizer.enqueue({"n": 2, "c": "b", "m": 2})
    first = optimizer.ask(4)
    assert first[0].params == {"n": 2, "c": "b", "m": 2}
    for treatment in first[:3]:
        optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
    rest = optimizer.ask(12)  # Seven points are left.

    points = [{"n": 1, "c": "a", "m": 1}, *(dict(t.params) for t in (*first, *rest))]
    assert len({space.key(point) for point in points}) == len(points) == 12
    assert statuses(optimizer).count("RUNNING") == len(optimizer.pending) == 8
    replayed = AxOptimizer(space, LOSS, seed=0, generation_strategy=sobol_strategy())
    replayed.replay(optimizer.events)
    assert exactly([dict(t.params) for t in replayed.pending]) == exactly(
        [dict(t.params) for t in optimizer.pending]
    )
    assert statuses(replayed) == statuses(optimizer)


def test_a_strategy_that_wants_fewer_pending_or_more_data_never_raises() -> None:
    strategy = quick_strategy(
        pausing_criteria=[
            MaxGenerationParallelism(threshold=2),
            MaxTrialsAwaitingData(threshold=3, use_all_trials_in_exp=True),
        ]
    )
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=strategy)
    treatments = optimizer.ask(6)

    assert len({tuple(t.params.values()) for t in treatments}) == 6
    assert generators_of(optimizer) == ["Sobol", "Sobol", None, None, None, None]


# The end ------------------------------------------------------------------------------------------


FINITE = [
    SearchSpace({"n": (0, 2), "c": ["a", "b"]}),
    SearchSpace(
        {"c": ["a", "b", "d"], "n": Integer(1, 2).when(c={"a", "b"}), "m": Integer(1, 2)},
        ["n + m <= 3"],
    ),
    SearchSpace({"only": Constant(1), "one": Integer(3, 3)}),
    SearchSpace({"p": ["a", "b"], "q": Ordinal([1, 2]).when(p="a")}),
]


@pytest.mark.slow
@pytest.mark.parametrize("space", FINITE, ids=["plain", "constrained", "one point", "tree"])
def test_a_finite_space_ends_when_the_model_suggested_every_point_once(space: SearchSpace) -> None:
    optimizer = AxOptimizer(space, LOSS, seed=0, generation_strategy=quick_strategy())
    size = sum(1 for _ in space.points())
    keys = {space.key(params) for params in run(optimizer, size)}

    assert len(keys) == size
    with pytest.raises(SpaceExhausted, match=f"All {size} points"):
        optimizer.ask()
    assert "RUNNING" not in statuses(optimizer)


def test_a_strategy_that_ends_ends_the_search() -> None:
    done = MinTrials(threshold=2, transition_to="Sobol")
    node = GenerationNode(
        name="Sobol", generator_specs=[GeneratorSpec(Generators.SOBOL)], transition_criteria=[done]
    )
    strategy = GenerationStrategy(name="two", nodes=[node])
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=strategy)
    run(optimizer, 2)

    with pytest.raises(SpaceExhausted, match="generation strategy"):
        optimizer.ask()


@pytest.mark.parametrize("generator", [Generators.SOBOL, Generators.UNIFORM])
def test_the_only_point_needs_no_generator(generator: Generators) -> None:
    node = GenerationNode(name="n", generator_specs=[GeneratorSpec(generator)])
    strategy = GenerationStrategy(name="s", nodes=[node])
    optimizer = AxOptimizer(
        {"c": Constant(3), "i": Integer(7, 7)}, LOSS, seed=0, generation_strategy=strategy
    )
    (treatment,) = optimizer.ask()
    assert treatment.params == {"c": 3, "i": 7}
    optimizer.tell({"loss": 1.0})
    with pytest.raises(SpaceExhausted):
        optimizer.ask()
