"""Points that OptunaOptimizer did not suggest: enqueued and attached ones, against Optuna's own."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from crystallize_opt import Float, Integer, Objective, Observation, Treatment
from crystallize_opt.adapters import OptunaOptimizer
from crystallize_opt.adapters.optuna.space import distribution_of, takes_grid
from crystallize_opt.interchange import history_from_optuna, study_of

LOSS = Objective("loss", "minimize")
SPACE = {"x": Float(-5.0, 5.0), "lr": Float(1e-4, 1.0, log=True), "n": Integer(1, 50)}
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "x": FloatDistribution(-5.0, 5.0),
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "n": IntDistribution(1, 50),
}
SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "TPE": lambda: TPESampler(seed=3, multivariate=True, constant_liar=True),
    "NSGA-II": lambda: NSGAIISampler(seed=3, population_size=6),
    "CMA-ES": lambda: CmaEsSampler(seed=3),
    "Random": lambda: RandomSampler(seed=3),
    "QMC": lambda: QMCSampler(seed=3),
}
# Optuna calls some samplers and `enqueue_trial` experimental.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def loss(params: dict[str, float]) -> float:
    return params["x"] ** 2 + params["lr"] + abs(params["n"] - 7) / 10


def native_study(sampler: BaseSampler) -> optuna.Study:
    return optuna.create_study(study_name="crystallize-opt", sampler=sampler)


@pytest.mark.parametrize("name", SAMPLERS)
def test_enqueued_points_are_those_of_enqueue_trial(name: str) -> None:
    queue: dict[int, dict[str, float]] = {
        3: {"x": 1.0, "lr": 0.5, "n": 9},
        9: {"n": 40},
        15: {"lr": 0.125, "x": -2.0},
    }
    study = native_study(SAMPLERS[name]())
    optimizer = OptunaOptimizer(SPACE, LOSS, sampler=SAMPLERS[name](), duplicates=True)
    for number in range(24):
        if number in queue:
            study.enqueue_trial(queue[number])
            optimizer.enqueue(queue[number])
        trial = study.ask(DISTRIBUTIONS)
        (treatment,) = optimizer.ask()
        assert treatment.params == trial.params
        assert queue.get(number, {}).items() <= trial.params.items()
        study.tell(trial, loss(trial.params))
        optimizer.tell({"loss": loss(dict(treatment.params))})


# CMA-ES starts from attached trials, as Optuna's `source_trials` do: see test_warm_start.py.
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "CMA-ES"])
def test_attached_trials_are_those_of_add_trial(name: str) -> None:
    known = [{"x": i / 2 - 3, "lr": 0.01 * (i + 1), "n": 4 * i + 1} for i in range(12)]
    study = native_study(SAMPLERS[name]())
    optimizer = OptunaOptimizer(SPACE, LOSS, sampler=SAMPLERS[name](), duplicates=True)
    for params in known:
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=DISTRIBUTIONS, value=loss(params)
            )
        )
    optimizer.attach(
        [Observation(Treatment(f"known_{i}", p), {"loss": loss(p)}) for i, p in enumerate(known)]
    )
    for _ in range(20):
        trial = study.ask(DISTRIBUTIONS)
        (treatment,) = optimizer.ask()
        assert treatment.params == trial.params
        study.tell(trial, loss(trial.params))
        optimizer.tell({"loss": loss(dict(treatment.params))})


@st.composite
def grids(draw: st.DrawFn) -> Float:
    """Grids of decimal steps, near zero and far from it."""
    digits = draw(st.integers(0, 12))
    low = draw(st.integers(-(10**12), 10**12) | st.integers(-100, 100))
    step, count = draw(st.integers(1, 999)), draw(st.integers(1, 10**6) | st.integers(1, 9))
    values = [float(f"{number}e-{digits}") for number in (low, low + count * step, step)]
    return Float(values[0], values[1], step=values[2])


@settings(max_examples=25)
@given(grids(), st.data())
def test_the_values_of_a_grid_reach_the_study_without_a_warning(
    grid: Float, data: st.DataObject
) -> None:
    """Warnings are errors here. Optuna warns where rounding hides that a value is on the grid."""
    indices = st.integers(0, int(grid.size) - 1)
    optimizer = OptunaOptimizer({"x": grid, "y": (0.0, 1.0)}, LOSS, seed=0)
    for number in range(3):
        index = data.draw(indices)
        exact, computed = grid.value_at(index), grid.low + index * (grid.step or 0.0)
        value = exact if number else min(computed, grid.high)  # as backends compute it
        optimizer.enqueue({"x": value})
        (treatment,) = optimizer.ask()
        assert treatment.params["x"] == grid.canonical(value)
        optimizer.tell({"loss": 1.0})
        given = Treatment(
            f"given_{number}", {"x": computed, "y": 0.5}
        )  # perhaps above the highest value
        optimizer.attach([Observation(given, {"loss": 0.5})])
        optimizer.ask()
        optimizer.tell({"loss": 1.0})
    shown = study_of(optimizer.history)
    again = history_from_optuna(shown)

    assert [dict(each.treatment.params) for each in again] == [
        dict(each.treatment.params) for each in optimizer.history
    ]
    distribution = shown.trials[0].distributions["x"]
    assert isinstance(distribution, FloatDistribution)
    assert distribution.step == (grid.step if takes_grid(grid) else None)
    assert bool(shown.user_attrs.get("notes")) is not takes_grid(grid)


@given(grids(), st.data())
def test_optuna_takes_each_value_of_a_grid_that_it_is_said_to_take(
    grid: Float, data: st.DataObject
) -> None:
    value = grid.value_at(data.draw(st.integers(0, int(grid.size) - 1)))
    contained = distribution_of(grid)._contains(value)

    assert contained or not takes_grid(grid)
