"""After a switch, the native object of the new backend holds every earlier trial."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import History, Observation, Status
from tests.recording.killed_runs import exactly

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

TRIALS = (20, 22, 24)  # The total after each backend; few, because Ax takes seconds a trial.
KINDS = ("sum", "max")


@pytest.fixture(scope="module")
def switched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    import switch_backend

    path = tmp_path_factory.mktemp("switch") / "switch.db"
    return path, switch_backend.main(path, TRIALS)


def test_every_optimizer_holds_the_trials_before(switched: tuple[Path, list[Any]]) -> None:
    path, optimizers = switched
    history = [exactly(o) for o in History.load(path)]

    for optimizer, trials in zip(optimizers, TRIALS, strict=True):
        assert [exactly(o) for o in optimizer.observations] == history[:trials]
    assert len(history) == TRIALS[-1]
    assert {name for name, *_ in history} == {f"trial_{i}" for i in range(TRIALS[-1])}
    assert Status.FAILED in [o.status for o in optimizers[0].observations]


def test_the_study_holds_its_trials(switched: tuple[Path, list[Any]]) -> None:
    optuna = switched[1][0]

    assert len(optuna.study.trials) == TRIALS[0]
    for trial, observation in zip(optuna.study.trials, optuna.observations, strict=True):
        assert trial.params == observation.treatment.params
        if observation.status is Status.COMPLETED:
            assert trial.value == observation["loss"]


def test_the_client_holds_all_trials(switched: tuple[Path, list[Any]]) -> None:
    ax = switched[1][1]
    table = ax.client.summarize().set_index("trial_index")

    assert len(table) == TRIALS[1]
    for index, observation in enumerate(ax.observations):
        row = table.loc[index]
        # Ax's names of the parameters, in the order of the space; a choice is stored as its index.
        assert_same_point((row["p0"], row["p1"], row["p2"], KINDS[int(row["p3"])]), observation)
        if observation.status is Status.COMPLETED:
            assert row["m0"] == observation["loss"]


def test_the_facade_holds_all_trials(switched: tuple[Path, list[Any]]) -> None:
    smac = switched[1][2]
    history = smac.facade.runhistory

    assert history.finished == TRIALS[2]
    for (key, value), observation in zip(history.items(), smac.observations, strict=True):
        stored = history.get_config(key.config_id)
        numbers = (stored[name] for name in ("center", "width", "power"))
        assert_same_point((*numbers, KINDS[stored["kind"]]), observation)
        if observation.status is Status.COMPLETED:
            assert value.cost == observation["loss"]


def assert_same_point(stored: tuple[Any, ...], observation: Observation) -> None:
    """Compare all values; SMAC rounds floats to 13 decimals."""
    *numbers, kind = (observation.treatment.params[n] for n in ("center", "width", "power", "kind"))
    assert stored[:-1] == pytest.approx(tuple(numbers), rel=1e-12)
    assert stored[-1] == kind
