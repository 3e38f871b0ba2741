"""SMACOptimizer's suggestions are those of SMAC's own loop, bit for bit."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ConfigSpace import ConfigurationSpace, UniformFloatHyperparameter
from hypothesis import given, settings
from hypothesis import strategies as st
from smac import (
    AlgorithmConfigurationFacade,
    BlackBoxFacade,
    HyperparameterOptimizationFacade,
    MultiFidelityFacade,
    RandomFacade,
    Scenario,
)
from smac.runhistory import TrialValue

from crystallize_opt import Integer, Objective, Observation, SearchSpace
from crystallize_opt.adapters import SMACOptimizer
from crystallize_opt.trials.objective import Direction
from tests.adapters.parity import any_loss, exactly, search
from tests.adapters.smac.native import (
    LOSS,
    MIXED,
    ONLY_THE_INITIAL_DESIGN,
    SQUARE,
    Facade,
    SortedLocalSearch,
    native_suggestions,
)
from tests.strategies import spaces

# Parity with a loop written by hand ------------------------------------------------------------


def check_parity(
    data: st.DataObject, kind: Facade, trials: int, n_trials: int, *, max_size: int = 5
) -> None:
    space = data.draw(spaces(constraints=False, max_size=max_size))
    seed = data.draw(st.integers(0, 2**32 - 1))
    direction: Direction = data.draw(st.sampled_from(["minimize", "maximize"]))
    objective = Objective("loss", direction)
    if space.size < math.inf:
        # Of a finite space SMAC's own loop may never find what is left.
        trials = min(trials, max(1, int(space.size) // 4)) if trials > 0 else trials
    native = native_suggestions(space, kind, seed, trials, n_trials=n_trials, sign=objective.sign)
    if trials == ONLY_THE_INITIAL_DESIGN:
        trials = len(native)
    ours = SMACOptimizer(space, objective, seed=seed, facade=kind, n_trials=n_trials)
    suggested = search(ours, trials)

    assert exactly(suggested[: len(native)]) == exactly(native)
    # In a finite space SMAC may end early; then come the points that are left.
    assert len(suggested) == min(trials, len({repr(p) for p in suggested}))


@settings(max_examples=8)
@given(data=st.data())
def test_suggestions_of_the_random_facade_are_its_own(data: st.DataObject) -> None:
    check_parity(data, RandomFacade, trials=12, n_trials=100)


@settings(max_examples=8)
@given(data=st.data())
def test_the_initial_design_is_smacs_own(data: st.DataObject) -> None:
    check_parity(data, HyperparameterOptimizationFacade, ONLY_THE_INITIAL_DESIGN, n_trials=32)


@pytest.mark.slow
@settings(max_examples=20)
@given(data=st.data())
def test_suggestions_of_the_hpo_facade_are_its_own(data: st.DataObject) -> None:
    check_parity(data, HyperparameterOptimizationFacade, trials=6, n_trials=16)


@pytest.mark.slow
@settings(max_examples=10)
@given(data=st.data())
def test_suggestions_of_the_black_box_facade_are_its_own(data: st.DataObject) -> None:
    check_parity(data, BlackBoxFacade, trials=6, n_trials=16, max_size=3)


@pytest.mark.slow
@settings(max_examples=8)
@given(data=st.data())
def test_suggestions_of_the_algorithm_configuration_facade_are_its_own(
    data: st.DataObject,
) -> None:
    check_parity(data, AlgorithmConfigurationFacade, trials=4, n_trials=16)


@pytest.mark.parametrize(
    "kind",
    [
        HyperparameterOptimizationFacade,
        BlackBoxFacade,
        pytest.param(AlgorithmConfigurationFacade, marks=pytest.mark.slow),
    ],
)
def test_suggestions_are_those_of_the_facade(kind: Facade) -> None:
    native = native_suggestions(MIXED, kind, 7, 6, n_trials=16)
    ours = SMACOptimizer(MIXED, LOSS, seed=7, facade=kind, n_trials=16)

    assert exactly(search(ours, 6)) == exactly(native)
    assert len({repr(point) for point in native}) == 6


def test_with_smac_defaults_suggestions_are_those_of_a_plain_facade() -> None:
    """Also with several pending: one training for eight suggestions, which know of none."""
    space = SearchSpace({**SQUARE, "kind": ["a", "b"]})
    native = native_suggestions(
        space,
        HyperparameterOptimizationFacade,
        3,
        16,
        n_trials=16,
        retrain_after=None,
        pending=2,
    )
    ours = SMACOptimizer(space, LOSS, seed=3, n_trials=16, smac_defaults=True)
    suggested = []
    for _ in range(8):
        for treatment in ours.ask(2):
            suggested.append(dict(treatment.params))
            ours.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))

    assert exactly(suggested) == exactly(native)
    assert ours.capabilities.pending is False


def test_options_reach_the_facade() -> None:
    options: dict[str, dict[str, Any]] = {
        "acquisition_maximizer": {"challengers": 50, "local_search_iterations": 2},
        "model": {"n_trees": 3},
        "random_design": {"probability": 0.0},
    }
    native = native_suggestions(
        MIXED, HyperparameterOptimizationFacade, 1, 6, n_trials=12, options=options
    )
    ours = SMACOptimizer(MIXED, LOSS, seed=1, n_trials=12, facade_options=options)

    assert exactly(search(ours, 6)) == exactly(native)
    assert search(SMACOptimizer(MIXED, LOSS, seed=1, n_trials=12), 6) != native


@pytest.mark.slow
def test_an_order_between_two_parameters_is_a_relation_of_configspace() -> None:
    space = SearchSpace(
        {"a": (0.0, 1.0), "b": (0.0, 1.0), "n": (1, 9), "m": (1, 9)}, ["a <= b", "m >= n"]
    )
    native = native_suggestions(space, HyperparameterOptimizationFacade, 4, 9, n_trials=32)
    ours = SMACOptimizer(space, LOSS, seed=4, n_trials=32)
    suggested = search(ours, 9)

    assert exactly(suggested) == exactly(native)
    assert all(point["a"] <= point["b"] and point["n"] <= point["m"] for point in suggested)


@pytest.mark.slow
def test_suggestions_of_the_multi_fidelity_facade_are_its_own(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        configspace = ConfigurationSpace()
        configspace.add([UniformFloatHyperparameter(name, 0.0, 1.0) for name in SQUARE])
        scenario = Scenario(
            configspace,
            deterministic=True,
            n_trials=40,
            seed=2,
            min_budget=1,
            max_budget=9,
            output_directory=Path(folder),
        )
        facade = MultiFidelityFacade(
            scenario,
            None,
            logging_level=False,
            config_selector=MultiFidelityFacade.get_config_selector(scenario, retrain_after=1),
        )
        facade._acquisition_maximizer._local_search.__class__ = SortedLocalSearch  # type: ignore[attr-defined]
        native = []
        for _ in range(30):
            info = facade.ask()
            native.append({**dict(info.config), "epochs": round(info.budget or 0)})
            facade.tell(info, TrialValue(cost=any_loss(native[-1])))
    space = {**SQUARE, "epochs": Integer(1, 9, fidelity=True)}
    ours = SMACOptimizer(space, LOSS, seed=2, n_trials=40, facade=MultiFidelityFacade)

    assert exactly(search(ours, 30)) == exactly(native)
    assert {point["epochs"] for point in native} == {1, 3, 9}
