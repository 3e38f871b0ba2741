"""CMA-ES starts from attached trials as Optuna starts it from `source_trials`; parity without."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, PartialFixedSampler
from optuna.trial import create_trial

from crystallize_opt import Categorical, Float, Observation, SearchSpace, Status, Treatment
from crystallize_opt.adapters import OptunaOptimizer
from tests.adapters.optuna.native import LOSS
from tests.adapters.parity import exactly

# Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

BOWL: dict[str, Any] = {"x": (-5.0, 5.0), "y": (-5.0, 5.0)}


def cma() -> CmaEsSampler:
    return CmaEsSampler(seed=0)


def loss(params: Any) -> float:
    return float((params["x"] - 3.0) ** 2 + (params["y"] - 3.0) ** 2)


def attached(number: int, **more: Any) -> list[Observation]:
    rng = random.Random(0)
    points = [{name: rng.uniform(-5.0, 5.0) for name in BOWL} | more for _ in range(number)]
    return [
        Observation(Treatment(f"attached_{index}", point), {"loss": loss(point)})
        for index, point in enumerate(points)
    ]


def asked(optimizer: OptunaOptimizer, number: int = 25) -> list[dict[str, Any]]:
    points = []
    for _ in range(number):
        (treatment,) = optimizer.ask()
        points.append(dict(treatment.params))
        optimizer.tell({"loss": loss(treatment.params)})
    return points


SPACE: dict[str, BaseDistribution] = {name: FloatDistribution(*BOWL[name]) for name in BOWL}


def native(known: list[Observation], starts: bool, **options: Any) -> list[dict[str, Any]]:
    """Return what Optuna suggests where known trials are in the study, or also the start."""
    trials = [
        create_trial(params=dict(each.treatment.params), distributions=SPACE, values=[each["loss"]])
        for each in known
    ]
    sampler = CmaEsSampler(seed=3, source_trials=trials if starts else None, **options)
    study = optuna.create_study(sampler=sampler, study_name="native")
    study.add_trials(trials)
    points = []
    for _ in range(25):
        trial = study.ask(SPACE)
        points.append(trial.params)
        study.tell(trial, loss(trial.params))
    return points


@pytest.mark.parametrize("options", [{}, {"with_margin": True}, {"lr_adapt": True}])
def test_suggestions_are_those_of_source_trials(options: dict[str, Any]) -> None:
    optimizer = OptunaOptimizer(BOWL, LOSS, sampler=CmaEsSampler(seed=3, **options))
    optimizer.attach(attached(40))

    assert exactly(asked(optimizer)) == exactly(native(attached(40), True, **options))


@pytest.mark.parametrize("number", [1, 9, 10])
def test_less_than_ten_change_nothing(number: int) -> None:
    optimizer = OptunaOptimizer(BOWL, LOSS, sampler=CmaEsSampler(seed=3))
    optimizer.attach(attached(number))

    assert exactly(asked(optimizer)) == exactly(native(attached(number), number >= 10))


def test_trials_that_come_after_the_first_generation_change_nothing() -> None:
    found = []
    for known in (attached(20), [Observation(e.treatment, {"loss": 0.0}) for e in attached(20)]):
        optimizer = OptunaOptimizer(BOWL, LOSS, sampler=CmaEsSampler(seed=3))
        points = asked(optimizer, 9)  # A generation has six.
        optimizer.attach(known)
        found.append(points + asked(optimizer, 9))
    assert exactly(found[0]) == exactly(found[1])


def test_failed_trials_are_no_start() -> None:
    optimizer = OptunaOptimizer(BOWL, LOSS, sampler=CmaEsSampler(seed=3))
    good, bad = attached(9), attached(20)[9:]
    optimizer.attach(good)
    optimizer.attach(Observation(e.treatment, dict(e), Status.FAILED) for e in bad)
    worst = max(each["loss"] for each in good)
    told = [*good, *(Observation(each.treatment, {"loss": worst}) for each in bad)]

    assert exactly(asked(optimizer)) == exactly(native(told, False))


@pytest.mark.parametrize(
    ("space", "more", "sampler"),
    [
        (BOWL | {"z": (0.0, 1.0)}, {"z": 0.5}, lambda: PartialFixedSampler({"z": 0.5}, cma())),
        (BOWL | {"kind": ["a", "b"]}, {"kind": "a"}, cma),
        (
            BOWL | {"kind": Categorical(["a", "b"]), "z": Float(0, 1).when(kind="b")},
            {"kind": "a"},
            cma,
        ),
    ],
)
def test_other_parameters_do_not_keep_it_from_starting(
    space: Mapping[str, Any], more: dict[str, Any], sampler: Any
) -> None:
    made: BaseSampler = sampler()
    optimizer = OptunaOptimizer(SearchSpace(space), LOSS, sampler=made)
    optimizer.attach(attached(40, **more))
    losses = sorted(map(loss, asked(optimizer, 20)))

    assert losses[10] < 3.0


def test_a_started_search_replays() -> None:
    optimizer = OptunaOptimizer(BOWL, LOSS, sampler=cma())
    optimizer.attach(attached(40))
    asked(optimizer, 12)
    again = OptunaOptimizer(BOWL, LOSS, sampler=cma())
    again.replay(optimizer.events)

    assert exactly(asked(again, 5)) == exactly(asked(optimizer, 5))


def test_it_starts_from_a_grid_that_optuna_does_not_recognize() -> None:
    space = {"x": Float(1e6, 1e6 + 1, step=0.001), "y": (0.0, 1.0)}
    optimizer = OptunaOptimizer(space, LOSS, sampler=cma())
    optimizer.attach(
        [
            Observation(Treatment(f"given_{n}", {"x": 1e6 + n / 1000, "y": n / 20}), {"loss": n})
            for n in range(1, 16)
        ]
    )
    for number in range(3):
        (treatment,) = optimizer.ask()
        optimizer.tell({"loss": float(number)})

    assert optimizer.space.validate(treatment.params)
