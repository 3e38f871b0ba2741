"""SMACOptimizer against SMAC itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from smac import (
    BlackBoxFacade,
    HyperparameterOptimizationFacade,
    MultiFidelityFacade,
    RandomFacade,
)
from smac.facade.abstract_facade import AbstractFacade

from crystallize_opt import (
    Categorical,
    Constraint,
    Float,
    Integer,
    Objective,
    Observation,
    SearchSpace,
    Status,
)
from crystallize_opt.adapters import SMACOptimizer
from crystallize_opt.adapters import _smac_facade as ours
from crystallize_opt.errors import CrystallizeOptError
from crystallize_opt.testing import OptimizerContract
from tests.adapters.test_optuna import any_loss

LOSS = Objective("loss", "minimize")
CHEAP = {"acquisition_maximizer": {"challengers": 50, "local_search_iterations": 1}}


class SMACContract(OptimizerContract):
    """The rules of every optimizer, with few suggestions: each trains a model."""

    asks_per_test = 4
    most_pending = 8
    trap_trials = 0  # see the slow test below
    options: ClassVar[dict[str, Any]] = {"n_init": 3, "facade_options": CHEAP}

    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> SMACOptimizer:
        return SMACOptimizer(space, objective, constraints=constraints, seed=seed, **self.options)


@pytest.mark.slow
class TestHyperparameterOptimizationFacade(SMACContract):
    """Random forests."""


def test_the_same_seed_suggests_the_same_under_another_hash_seed() -> None:
    code = """
from crystallize_opt import *
from crystallize_opt.adapters import SMACOptimizer
space = {"x": (-5.0, 5.0), "y": (0.0, 1.0), "c": ["a", "b", None]}
optimizer = SMACOptimizer(space, Objective("loss", "minimize"), seed=0, n_init=4)
for trial in range(8):
    (treatment,) = optimizer.ask()
    print(dict(treatment.params))
    optimizer.tell({"loss": treatment.params["x"] ** 2 + treatment.params["y"]})
"""
    outputs = {
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "2")
    }

    assert len(outputs) == 1
    assert outputs.pop().count("\n") == 8


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.COMPLETED])
def test_a_failure_is_told_as_a_finite_cost(status: Status) -> None:
    optimizer = SMACOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0, n_init=4)
    for loss in (None, 1.0, 3.0):
        (treatment,) = optimizer.ask()
        if loss is None:
            optimizer.tell(Observation(treatment, status=status, error="boom"))
        else:
            optimizer.tell({"loss": loss})

    history = optimizer.facade.runhistory
    assert history.running == 0
    costs = [value.cost for value in history.values()]
    assert all(np.isfinite(costs))
    assert costs[0] == pytest.approx(3.2)  # the worst and a tenth of the range, told late
    assert optimizer.get_best_treatment().name == "trial_1"


@pytest.mark.parametrize("facade", [BlackBoxFacade, RandomFacade, HyperparameterOptimizationFacade])
def test_each_facade_searches(facade: type[AbstractFacade], tmp_path: Path) -> None:
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        optimizer = SMACOptimizer(
            {"x": (-5.0, 5.0), "c": ["a", "b"]}, LOSS, seed=0, facade=facade, n_trials=16
        )
        for _ in range(6):
            (treatment,) = optimizer.ask()
            optimizer.tell({"loss": treatment.params["x"] ** 2})
    finally:
        os.chdir(before)

    assert isinstance(optimizer.facade, facade)
    assert list(tmp_path.iterdir()) == []


def test_multi_fidelity_raises_the_budget_of_what_does_well() -> None:
    space = {"x": (-5.0, 5.0), "epochs": Integer(1, 9)}
    optimizer = SMACOptimizer(
        space, LOSS, seed=0, facade=MultiFidelityFacade, fidelity="epochs", facade_options=CHEAP
    )
    for _ in range(14):
        (treatment,) = optimizer.ask()
        optimizer.tell({"loss": treatment.params["x"] ** 2 / treatment.params["epochs"]})

    budgets = [o.treatment.params["epochs"] for o in optimizer.observations]
    assert budgets[:9] == [1] * 9
    assert set(budgets) == {1, 3, 9}
    assert optimizer.get_best_treatment().params["epochs"] == 9


def test_pending_points_differ() -> None:
    def nearest(knows_pending: bool) -> float:
        optimizer = SMACOptimizer(
            {"x": (0.0, 1.0), "y": (0.0, 1.0)},
            LOSS,
            seed=0,
            n_init=6,
            facade=BlackBoxFacade,
            smac_defaults=not knows_pending,
        )
        for _ in range(6):
            (treatment,) = optimizer.ask()
            optimizer.tell({"loss": sum(treatment.params.values())})
        points = [np.array(list(t.params.values())) for t in optimizer.ask(3)]
        return min(float(np.linalg.norm(a - b)) for i, a in enumerate(points) for b in points[:i])

    assert nearest(knows_pending=True) > 3 * nearest(knows_pending=False)


def test_the_private_names_are_there() -> None:
    facade: Any = SMACOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0).facade
    parts: list[Any] = [
        facade,
        facade._optimizer,
        facade._runhistory_encoder,
        facade._acquisition_maximizer,
    ]
    parts += [facade._acquisition_maximizer._local_search, facade._model]
    parts += [facade.intensifier.config_selector]

    for kind, name in ours.PRIVATE_NAMES:
        there = any(isinstance(part, kind) and hasattr(part, name) for part in parts)
        assert there or hasattr(kind, name), f"{kind.__name__}.{name} is gone"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"facade": "hpo"}, "facade class"),
        ({"facade": MultiFidelityFacade}, "fidelity="),
        ({"fidelity": "x"}, "0 < low < high"),
        ({"n_trials": 0}, "n_trials="),
        ({"n_init": -1}, "n_init="),
        ({"facade_options": {"modle": {}}}, "no component 'modle'"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(CrystallizeOptError, match=match):
        SMACOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0, **arguments)


@pytest.mark.slow
def test_a_failing_region_does_not_trap_the_search() -> None:
    """Half of the space fails, and holds the unconstrained optimum."""
    optimizer = SMACOptimizer({"x": (0.0, 1.0), "y": (0.0, 1.0)}, LOSS, seed=0, n_trials=60)
    outside = 0
    for trial in range(60):
        (treatment,) = optimizer.ask()
        x, y = treatment.params.values()
        if x < 0.5:
            optimizer.tell(Observation(treatment, status=Status.FAILED, error="boom"))
        else:
            optimizer.tell({"loss": (x - 0.25) ** 2 + (y - 0.5) ** 2})
            outside += trial >= 30

    assert outside >= 15


def test_conditions_and_choices_come_out_right() -> None:
    space = SearchSpace(
        {
            "kind": Categorical([None, True, 1, (1, 2)]),
            "depth": Integer(1, 10**9, log=True).when(kind={None, 1}),
            "rate": Float(0, 0.5, step=0.1).when(depth={1, 2}),
        }
    )
    optimizer = SMACOptimizer(space, LOSS, seed=0, n_init=8, facade_options=CHEAP)
    for _ in range(12):
        (treatment,) = optimizer.ask()
        assert space.validate(treatment.params) == dict(treatment.params)
        optimizer.tell({"loss": any_loss(treatment.params)})
