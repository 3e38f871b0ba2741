"""After a switch the native object of the new backend holds every trial, values equal."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import History, Observation, Status
from tests.recording.killed_runs import exactly

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

TRIALS = (20, 22, 24)  # After so many trials in all, the next backend goes on. Ax takes seconds.


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = ax.client._experiment.lookup_data().df
    trials = ax.client._experiment.trials

    assert len(trials) == TRIALS[1]
    means = dict(zip(data["trial_index"], data["mean"], strict=True))
    for index, observation in enumerate(ax.observations):
        params = ax._ax_space.decode(trials[index].arm.parameters)
        assert close(params, observation)
        if observation.status is Status.COMPLETED:
            assert means[index] == observation["loss"]


def test_the_facade_holds_all_trials(switched: tuple[Path, list[Any]]) -> None:
    smac = switched[1][2]
    history = smac.facade.runhistory

    assert history.finished == TRIALS[2]
    for (key, value), observation in zip(history.items(), smac.observations, strict=True):
        params = smac._searched.params(history.get_config(key.config_id))
        assert close(params, observation)
        if observation.status is Status.COMPLETED:
            assert value.cost == observation["loss"]


def close(params: Any, observation: Observation) -> bool:
    """Whether they are the same but for the decimals that a backend keeps."""
    point = observation.treatment.params
    floats = [name for name, value in point.items() if type(value) is float]
    others = {name: value for name, value in params.items() if name not in floats}
    return json.dumps(others, sort_keys=True) == json.dumps(
        {name: value for name, value in point.items() if name not in floats}, sort_keys=True
    ) and all(params[name] == pytest.approx(point[name], rel=1e-12) for name in floats)
