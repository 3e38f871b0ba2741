"""An optimizer without a seed draws one, and a stored run goes on with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from crystallize_opt import Objective, SpaceOptimizer
from crystallize_opt.adapters import (
    GridOptimizer,
    OptunaOptimizer,
    RandomOptimizer,
    SMACOptimizer,
)
from crystallize_opt.errors import RunChanged, UsageError
from tests.recording.killed_runs import LOSS, SPACE
from tests.recording.resuming import FLOAT, search, told

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
Optimizer = SpaceOptimizer[Any]
S = optuna.samplers


def with_sampler(make: Callable[[], optuna.samplers.BaseSampler]) -> Callable[[], Optimizer]:
    return lambda: OptunaOptimizer(FLOAT, LOSS, sampler=make())


UNSEEDED: dict[str, Callable[[], Optimizer]] = {
    "random": lambda: RandomOptimizer(SPACE, LOSS),
    "grid": lambda: GridOptimizer(SPACE, LOSS),
    "default": lambda: OptunaOptimizer(SPACE, LOSS),
    "several": lambda: OptunaOptimizer(SPACE, [LOSS, Objective("drawn", "maximize")]),
    "TPE": with_sampler(lambda: S.TPESampler(n_startup_trials=2)),
    "QMC": with_sampler(lambda: S.QMCSampler(scramble=True, warn_asynchronous_seeding=False)),
    "NSGA": with_sampler(lambda: S.NSGAIISampler(population_size=3)),
    "CMA": with_sampler(lambda: S.CmaEsSampler(n_startup_trials=2)),
    "fixed": with_sampler(lambda: S.PartialFixedSampler({"x": 0.5}, S.TPESampler())),
    "SMAC": lambda: SMACOptimizer(FLOAT, LOSS, n_init=2),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "SMAC")) for name in UNSEEDED],
)
def test_a_run_without_a_seed_is_resumed_exactly(name: str, tmp_path: Path) -> None:
    make = UNSEEDED[name]
    search(tmp_path / "parts.db", first := make(), 5)
    parts = search(tmp_path / "parts.db", make(), 9)

    assert parts.seed == first.seed
    # More than five where a point came twice: an answer from what is known costs no trial.
    assert told(parts)[: len(told(first))] == told(first)
    whole = make()
    whole.adopt_seed(first.seed)
    assert told(search(tmp_path / "whole.db", whole, 9)) == told(parts)


@pytest.mark.parametrize("name", [name for name in UNSEEDED if name not in ("grid", "SMAC")])
def test_two_optimizers_without_a_seed_differ(name: str) -> None:
    one, other = UNSEEDED[name](), UNSEEDED[name]()

    assert one.seed != other.seed
    assert [t.params for t in one.ask(3)] != [t.params for t in other.ask(3)]


def test_a_used_optimizer_takes_no_other_seed(tmp_path: Path) -> None:
    search(tmp_path / "runs.db", RandomOptimizer(SPACE, LOSS), 3)
    used = RandomOptimizer(SPACE, LOSS)
    used.ask()

    with pytest.raises(UsageError, match="has been used"):
        used.adopt_seed(1)
    with pytest.raises(RunChanged, match=r"optimizer\.seed: \d+ became \d+"):
        search(tmp_path / "runs.db", used, 6)


def test_the_versions_are_of_what_decides_a_suggestion() -> None:
    def libraries(optimizer: Optimizer) -> set[str]:
        return {*optimizer.versions} - {"python", "crystallize-opt"}

    assert libraries(RandomOptimizer(FLOAT, LOSS)) == set()
    assert libraries(OptunaOptimizer(FLOAT, LOSS)) == {"optuna", "numpy"}
    assert libraries(UNSEEDED["QMC"]()) == {"optuna", "numpy", "scipy"}
    assert libraries(UNSEEDED["CMA"]()) >= {"optuna", "numpy", "cmaes"}
    gp = OptunaOptimizer(FLOAT, LOSS, sampler=S.GPSampler(seed=0))
    assert libraries(gp) == {"optuna", "numpy", "scipy", "torch", "greenlet"}
    assert {"smac", "numpy", "scipy", "scikit-learn"} <= {*SMACOptimizer.libraries}


def test_other_versions_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path / "runs.db", OptunaOptimizer(SPACE, LOSS, seed=0), 3)
    monkeypatch.setattr(OptunaOptimizer, "versions", {"numpy": "0.1"})
    monkeypatch.setattr("crystallize_opt.recording.resume.versions_of", lambda _: {"numpy": "0.1"})
    with caplog.at_level(logging.WARNING):
        search(tmp_path / "runs.db", OptunaOptimizer(SPACE, LOSS, seed=0), 4)

    assert "numpy 2" in caplog.text
    assert ", now 0.1" in caplog.text
