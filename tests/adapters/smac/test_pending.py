"""Pending trials, the end of a finite space, and attached trials."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from smac import BlackBoxFacade, HyperparameterOptimizationFacade, RandomFacade
from smac.runhistory import StatusType, TrialInfo, TrialValue

from crystallize_opt import Integer, Observation, SearchSpace, SpaceExhausted, Status, Treatment
from crystallize_opt.adapters import SMACOptimizer
from tests.adapters.parity import any_loss, search
from tests.adapters.smac.native import (
    FEW_CANDIDATES,
    LOSS,
    MIXED,
    SQUARE,
    Facade,
    fail,
    rows_of_the_model,
    told,
)


def test_many_are_pending_and_told_in_any_order() -> None:
    optimizer = SMACOptimizer(SQUARE, LOSS, seed=0, n_init=4, facade_options=FEW_CANDIDATES)
    first = optimizer.ask(16)
    assert optimizer.facade.runhistory.running == 16
    for treatment in random.Random(0).sample(first, 16):
        optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
    asked = [*first, *optimizer.ask(3)]

    assert len({repr(dict(treatment.params)) for treatment in asked}) == 19
    assert optimizer.facade.runhistory.finished == 16
    costs = {dict(i.config)["x"]: v.cost for i, v in finished(optimizer)}
    assert costs == {t.params["x"]: any_loss(t.params) for t in first}


def finished(optimizer: SMACOptimizer) -> list[tuple[TrialInfo, TrialValue]]:
    history = optimizer.facade.runhistory
    return [
        (TrialInfo(history.get_config(key.config_id)), value)
        for key, value in history.items()
        if value.status is not StatusType.RUNNING
    ]


def test_the_order_of_tells_between_two_asks_plays_no_part() -> None:
    found = []
    for order in (1, -1):
        optimizer = SMACOptimizer(SQUARE, LOSS, seed=0, n_init=4, facade_options=FEW_CANDIDATES)
        for treatment in optimizer.ask(4)[::order]:
            optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
        found.append([dict(treatment.params) for treatment in optimizer.ask(2)])
    assert found[0] == found[1]


def test_pending_points_keep_their_distance() -> None:
    """A Gaussian process that knows of none suggests the same point again, but for a rounding."""
    nearest = []
    for smac_defaults in (True, False):
        optimizer = SMACOptimizer(
            SQUARE,
            LOSS,
            seed=0,
            facade=BlackBoxFacade,
            n_init=8,
            smac_defaults=smac_defaults,
            facade_options={"random_design": {"probability": 0.0}},
        )
        for treatment in optimizer.ask(8):
            x, y = treatment.params["x"], treatment.params["y"]
            optimizer.tell(Observation(treatment, {"loss": (x - 0.4) ** 2 + (y - 0.6) ** 2}))
        asked = [tuple(treatment.params.values()) for treatment in optimizer.ask(2)]
        nearest.append(math.dist(*asked))
    assert nearest[0] < 0.01 < nearest[1]


def test_what_is_pending_is_in_the_model_until_it_is_told() -> None:
    optimizer = SMACOptimizer(SQUARE, LOSS, seed=0)
    search(optimizer, 3)
    (treatment,) = optimizer.ask()
    assert rows_of_the_model(optimizer) == 4
    optimizer.tell(Observation(treatment, {"loss": 0.0}))
    assert rows_of_the_model(optimizer) == 4


# Finite spaces ------------------------------------------------------------------------------------


SMALL = SearchSpace({"a": (1, 4), "b": (1, 4), "c": Integer(0, 1).when(a=1)}, ["a <= b"])


@pytest.mark.parametrize(
    ("kind", "batch"),
    [
        (HyperparameterOptimizationFacade, 5),  # With 1 it is one of the contract's tests.
        (RandomFacade, 1),
        pytest.param(HyperparameterOptimizationFacade, 1, marks=pytest.mark.slow),
        pytest.param(RandomFacade, 5, marks=pytest.mark.slow),
    ],
)
def test_a_finite_space_is_used_up_and_no_further(kind: Facade, batch: int) -> None:
    options = {} if kind is RandomFacade else FEW_CANDIDATES
    optimizer = SMACOptimizer(SMALL, LOSS, seed=0, facade=kind, n_trials=40, facade_options=options)
    every = {SMALL.key(point) for point in SMALL.points()}
    seen: list[Any] = []
    while len(seen) < len(every):
        for treatment in optimizer.ask(batch):
            seen.append(SMALL.key(treatment.params))
            optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
    assert len(seen) == len(every) == 14
    assert set(seen) == every
    for _ in range(2):
        with pytest.raises(SpaceExhausted):
            optimizer.ask()
    assert optimizer.facade.runhistory.finished == 14
    assert optimizer.facade.runhistory.running == 0


def test_a_finite_space_ends_while_everything_fails() -> None:
    optimizer = SMACOptimizer(SMALL, LOSS, seed=0)
    for _ in range(14):
        fail(optimizer)
    with pytest.raises(SpaceExhausted):
        optimizer.ask()


def test_a_large_finite_space_does_not_end_early() -> None:
    """SMAC gives up after 16 draws that were suggested before: here with few points left."""
    space = SearchSpace({"a": (1, 12), "b": (1, 12)})
    optimizer = SMACOptimizer(space, LOSS, seed=0, facade=RandomFacade)
    found = search(optimizer, 200)

    assert len({repr(point) for point in found}) == len(found) == 144


def test_a_huge_space_with_a_point_that_is_suggested_over_and_over() -> None:
    space = {"kind": ["one", "many"], "n": Integer(1, 10**9).when(kind="many")}
    optimizer = SMACOptimizer(space, LOSS, seed=0, facade=RandomFacade)
    found = search(optimizer, 100)

    assert len({repr(point) for point in found}) == len(found) == 100


# Attached -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 2])
def test_attached_trials_are_like_its_own(before: int) -> None:
    """Also before the first ask: the same seed, so they can become the incumbent."""
    optimizer = SMACOptimizer(MIXED, LOSS, seed=0, n_init=3, facade_options=FEW_CANDIDATES)
    search(optimizer, before)
    point = {
        "x": 0.3,
        "rate": 1e-3,
        "n": 7,
        "grid": 0.3,
        "kind": 1,
        "size": "m",
        "fixed": (1, 2),
    }
    optimizer.attach(Observation(Treatment("mine", point), {"loss": -1.0}))
    optimizer.attach(Observation(Treatment("bad", {**point, "n": 8}), status=Status.FAILED))
    search(optimizer, 4)

    history = optimizer.facade.runhistory
    assert len({key.seed for key in history}) == 1
    incumbent = optimizer.facade.intensifier.get_incumbent()
    assert incumbent is not None
    assert incumbent["n"] == 7
    assert rows_of_the_model(optimizer) == before + 6
    assert sum(status is StatusType.CRASHED for _, status in told(optimizer)) == 1


def test_the_seed_of_attached_trials_is_that_of_smac() -> None:
    seeds = []
    for attach in (True, False):
        optimizer = SMACOptimizer(SQUARE, LOSS, seed=0)
        if attach:
            optimizer.attach(Observation(Treatment("mine", {"x": 0.5, "y": 0.5}), {"loss": 1.0}))
        optimizer.ask()
        seeds.append({key.seed for key in optimizer.facade.runhistory})
    assert seeds == [{209652396}, {209652396}]
