"""The arguments of NevergradOptimizer: what is taken, and what is refused when it is built."""

from __future__ import annotations

import random
from typing import Any

import nevergrad as ng
import numpy as np
import pytest

from crystallize_opt import (
    Float,
    Integer,
    Objective,
    Ordinal,
    SearchSpace,
)
from crystallize_opt.adapters import NevergradOptimizer
from crystallize_opt.errors import MissingExtraError, UnsupportedSpaceError, UsageError
from crystallize_opt.runtime.extras import is_installed
from tests.adapters.nevergrad.native import LOSS, SQUARE, native_suggestions
from tests.adapters.parity import any_loss, exactly, search


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "NGOpf"}, "no optimizer 'NGOpf'. Did you mean 'NGOpt'"),
        ({"optimizer": 3}, "takes a name of Nevergrad's registry, such as 'NGOpt', .* not 3"),
        ({"optimizer": "Cobyla"}, "Cobyla takes one trial at a time, .* work: 'NGOpt'"),
        ({"optimizer": "BAR4"}, "BAR4 runs another library in a thread"),
        ({"num_workers": 1}, "num_workers is a whole number, at least 2, not 1"),
        ({"budget": 0}, "budget is a whole number, at least 1, not 0"),
    ],
)
def test_what_cannot_be_searched_with_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NevergradOptimizer(SQUARE, LOSS, **arguments)


@pytest.mark.skipif(is_installed("fcmaes"), reason="then it is not missing")
def test_a_name_that_needs_another_package_is_refused() -> None:
    with pytest.raises(MissingExtraError, match=r"FCMA .*fcmaes.* Others that work: 'NGOpt'"):
        NevergradOptimizer(SQUARE, LOSS, optimizer="FCMA")


def test_whole_numbers_that_floats_cannot_hold_are_refused() -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"'n'.*2\*\*53"):
        NevergradOptimizer({"n": Integer(0, 2**60)}, LOSS)


def test_the_budget_and_the_space_choose_the_method() -> None:
    def method(space: Any, **arguments: Any) -> str:
        native: Any = NevergradOptimizer(space, LOSS, seed=0, **arguments).native
        return type(native.optim).__name__

    assert method(SQUARE) == "_MetaModel"
    assert method({**SQUARE, "kind": ["a", "b"]}, budget=100) != "_MetaModel"


def test_a_second_ask_never_waits_for_an_outcome() -> None:
    """With one worker, `NGOpt` here becomes Cobyla in a thread: the second ask waits for ever."""
    optimizer = NevergradOptimizer(SQUARE, LOSS, seed=0, budget=20)

    assert len(optimizer.ask(6)) == 6


def test_models_are_fitted_with_every_numpy() -> None:
    """The model of `NGOpt` calls `float` with an array of one number, which numpy 2.4 refuses."""
    with pytest.MonkeyPatch.context() as patch:
        made = []
        model = ng.optimization.metamodel.learn_on_k_best

        def learn(*arguments: Any, **options: Any) -> Any:
            made.append(model(*arguments, **options))
            return made[-1]

        patch.setattr(ng.optimization.optimizerlib, "learn_on_k_best", learn)
        optimizer = NevergradOptimizer({"x": (-5.0, 5.0), "y": (-5.0, 5.0)}, LOSS, seed=1)
        for _ in range(30):
            (treatment,) = optimizer.ask()
            x, y = treatment.params.values()
            optimizer.tell({"loss": (x - 1) ** 2 + (y + 2) ** 2})

    assert made, "the test needs a search in which a model suggests a point"
    assert not hasattr(ng.optimization.metamodel, "float")


def test_global_generators_play_no_part_and_stay_as_they_were() -> None:
    """NGOpt's discrete mutations draw from numpy's global generator."""
    space = {"x": (0.0, 1.0), "kind": ["a", "b", "c"], "n": (1, 9)}
    state = np.random.get_state()
    found = []
    try:
        for seed in (1, 2):
            optimizer = NevergradOptimizer(space, LOSS, seed=0)
            points = []
            for _ in range(30):
                np.random.seed(seed)
                random.seed(seed)
                (treatment,) = optimizer.ask()
                points.append(dict(treatment.params))
                optimizer.tell({"loss": any_loss(treatment.params)})
                before = np.random.RandomState(seed).get_state()
                assert repr(np.random.get_state()) == repr(before)
            found.append(exactly(points))
    finally:
        np.random.set_state(state)

    assert found[0] == found[1]
    assert found[0] == exactly(native_suggestions(SearchSpace(space), 30, seed=0))


def test_a_one_shot_design_is_followed_by_random_points() -> None:
    optimizer = NevergradOptimizer(SQUARE, LOSS, seed=0, optimizer="LHSSearch", budget=5)
    native = native_suggestions(SearchSpace(SQUARE), 5, seed=0, optimizer="LHSSearch", budget=5)
    suggested = search(optimizer, 8)

    assert exactly(suggested[:5]) == exactly(native)
    assert len({tuple(point.values()) for point in suggested}) == 8


def test_one_that_learns_only_from_its_own_points_says_so() -> None:
    optimizer = NevergradOptimizer(SQUARE, LOSS, seed=0, optimizer="EDA")

    assert not optimizer.capabilities.attached
    optimizer.enqueue({"x": 0.25, "y": 0.75})
    assert len(search(optimizer, 20)) == 20


def test_ranges_that_nevergrad_cannot_compute_with_are_positions() -> None:
    space = {
        "wide": Float(-1.7e308, 1.7e308),
        "narrow": Float(1.0, 1.0 + 1e-12, log=True),
        "tiny": Float(0.0, 1e-300),
        "step": Float(0.0, 0.3, step=0.1),
        "size": Ordinal(["s", "m", "l"]),
    }
    optimizer = NevergradOptimizer(space, LOSS, seed=0)
    points = search(optimizer, 20)

    for name in ("wide", "narrow", "tiny"):
        assert len({point[name] for point in points}) > 5, name
    assert {point["step"] for point in points} <= {0.0, 0.1, 0.2, 0.3}


def test_a_recommendation_is_that_of_nevergrad_and_changes_nothing() -> None:
    first, second = (NevergradOptimizer(SQUARE, LOSS, seed=0, optimizer="CMA") for _ in range(2))
    search(first, 30)
    search(second, 30)
    recommended = first.recommend("model")
    native = second.native.provide_recommendation()  # type: ignore[union-attr]

    assert dict(recommended.params) == {k: float(v) for k, v in native.value.items()}
    assert exactly(search(first, 10)) == exactly(search(second, 10))

    one = NevergradOptimizer(SQUARE, LOSS, seed=0, optimizer="OnePlusOne")
    search(one, 10)
    assert one.recommend("model") is one.get_best_treatment()


def test_settings_tell_one_optimizer_from_another() -> None:
    def settings(**arguments: Any) -> str:
        return repr(NevergradOptimizer(SQUARE, LOSS, seed=0, **arguments).settings)

    de = ng.optimizers.DifferentialEvolution
    found = {
        settings(),
        settings(budget=50),
        settings(num_workers=4),
        settings(optimizer="DE"),
        settings(optimizer=de(popsize=10)),
        settings(optimizer=de(popsize=11)),
    }

    assert len(found) == 6
    assert settings(optimizer=de(popsize=10)) == settings(optimizer=de(popsize=10))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ng.optimizers.registry))
def test_every_name_of_the_registry_works_or_is_refused_when_built(name: str) -> None:
    space = {"x": (-5.0, 10.0), "rate": Float(1e-5, 0.1, log=True), "kind": ["a", "b", "c"]}
    try:
        optimizer = NevergradOptimizer(space, LOSS, seed=0, optimizer=name, budget=20)
    except (UsageError, MissingExtraError):
        return
    optimizer.ask(3)
    for treatment in reversed(optimizer.pending):
        optimizer.tell(_told(treatment))
    search(optimizer, 20)


def _told(treatment: Any) -> Any:
    from crystallize_opt import Observation

    return Observation(treatment, {"loss": any_loss(treatment.params)})


def test_objectives_to_maximize_are_costs() -> None:
    gain = Objective("gain", "maximize")
    optimizer = NevergradOptimizer(SQUARE, gain, seed=0, optimizer="OnePlusOne")
    for _ in range(60):
        (treatment,) = optimizer.ask()
        optimizer.tell({"gain": -((treatment.params["x"] - 0.3) ** 2)})

    assert abs(optimizer.get_best_treatment().params["x"] - 0.3) < 0.05
