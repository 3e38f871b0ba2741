"""Enqueued points in a stored run: written down, and suggested again when the run is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import (
    FrozenContext,
    History,
    MaxTime,
    Objective,
    ReplayDiverged,
    Search,
    SpaceOptimizer,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.search.callbacks import Event, TrialTold
from tests.toy import experiment_of

LOSS = Objective("loss", "minimize")
SPACE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}


def measure(data: Any, ctx: FrozenContext, *, x: float, y: float) -> Any:
    return data, {"loss": (x - 0.3) ** 2 + y}


def make(kind: str) -> SpaceOptimizer[Any]:
    return (OptunaOptimizer if kind == "Optuna" else RandomOptimizer)(SPACE, LOSS, seed=0)


def enqueue_later(optimizer: SpaceOptimizer[Any]) -> Any:
    """Somebody has an idea while the search runs."""

    def call(event: Event) -> None:
        if isinstance(event, TrialTold) and event.observation.treatment.name == "trial_10":
            optimizer.enqueue({"y": 0.125}, {"x": 0.25, "y": 0.75})

    return call


def run(optimizer: SpaceOptimizer[Any], trials: int, path: Path | None, **more: Any) -> list[Any]:
    Search(experiment_of(measure, seed=0), optimizer, trials, storage=path, **more).run()
    return [dict(observation.treatment.params) for observation in optimizer.observations]


@pytest.mark.parametrize("kind", ["Optuna", "Random"])
@pytest.mark.parametrize("cut", [1, 2, 5, 11, 12, 13, 17])
def test_a_run_with_enqueued_points_is_resumed_exactly(kind: str, cut: int, tmp_path: Path) -> None:
    whole = make(kind)
    whole.enqueue({"x": 0.5, "y": 0.5}, {"x": 0.75})
    expected = run(whole, 20, None, callbacks=[enqueue_later(whole)])
    assert expected[0] == {"x": 0.5, "y": 0.5}
    assert expected[1]["x"] == 0.75
    assert expected[11]["y"] == 0.125
    assert expected[12] == {"x": 0.25, "y": 0.75}

    path = tmp_path / "runs.db"
    for trials in (cut, 20):
        optimizer = make(kind)
        optimizer.enqueue({"x": 0.5, "y": 0.5}, {"x": 0.75})
        found = run(optimizer, trials, path, callbacks=[enqueue_later(optimizer)])
    assert found == expected
    assert [dict(each.treatment.params) for each in History.load(path)] == expected


def test_points_that_were_not_asked_for_are_asked_for_after_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    first = make("Random")
    first.enqueue(*({"x": i / 8, "y": 0.0} for i in range(4)))
    run(first, 2, path)
    again = make("Random")
    found = run(again, 5, path)

    assert [params["x"] for params in found[:4]] == [0.0, 0.125, 0.25, 0.375]
    assert found[4]["y"] != 0.0


def test_other_points_first_are_another_run(tmp_path: Path) -> None:
    first = make("Random")
    first.enqueue({"x": 0.5, "y": 0.5})
    run(first, 3, tmp_path / "runs.db", stop=MaxTime(60))
    other = make("Random")
    other.enqueue({"x": 0.25, "y": 0.5})

    with pytest.raises((ReplayDiverged, ValueError), match=r"Enqueued|0\.25"):
        run(other, 3, tmp_path / "runs.db")
