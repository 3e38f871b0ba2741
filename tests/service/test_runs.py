"""A service's experiments are runs like any other, and runs of a search can be served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import (
    Categorical,
    Experiment,
    Float,
    History,
    Integer,
    Objective,
    Pruned,
    SearchSpace,
    Storage,
    compare,
    compare_runs,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.cli import main
from tests.service.http import EXPERIMENT, Web

SPACE = SearchSpace(
    {
        "kind": Categorical(["poly", "rbf"]),
        "C": Float(0.01, 100.0, log=True),
        "degree": Integer(1, 5).when(kind="poly"),
    },
    [],
)
LOSS = Objective("loss", "minimize")


def loss(kind: str, C: float, degree: int = 0) -> float:  # noqa: N803
    if C > 50:
        raise ValueError("too large")
    if C < 0.02:
        raise Pruned
    return abs(C - 1) + degree + len(kind)


def searched(path: Path, trials: int, optimizer: Any) -> None:
    Experiment.of(loss, metric="loss", seed=1).optimize(
        optimizer, trials, storage=Storage(path, "night")
    )


def test_an_experiment_of_the_service_is_a_run_like_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "service.db"
    web = Web(path)
    number = web("POST", "experiments", EXPERIMENT).json()["id"]
    for _ in range(5):
        suggestion = web("POST", f"experiments/{number}/suggestions", {}).json()
        x = suggestion["assignments"]["x"]
        data = {"suggestion": suggestion["id"], "values": [{"name": "score", "value": -x}]}
        web("POST", f"experiments/{number}/observations", data)
    web.handler.close()

    history = History.load(path, run=number)
    assert len(history) == 5
    assert history.best is not None
    assert main(["show", str(path), "--run", number]) == 0
    assert "5 completed" in capsys.readouterr().out
    assert main(["report", str(path), str(tmp_path / "report.html"), "--run", number]) == 0
    assert "maximize score" in (tmp_path / "report.html").read_text(encoding="utf-8")
    # Its winner is confirmed, as usual.
    experiment = Experiment.of(lambda x: -x, metric="score", seed=0)
    confirmation = experiment.confirm(
        history.best, replicates=2, baseline=history[0].treatment, objective=history.objectives[0]
    )
    assert "pairs of replicates" in str(confirmation)


def test_experiments_of_the_service_are_compared_while_they_are_served(tmp_path: Path) -> None:
    path = tmp_path / "service.db"
    web = Web(path)
    numbers: dict[str, list[str]] = {"random": [], "TPE": []}
    for name, optimizer in (("random", "RandomOptimizer"), ("TPE", "OptunaOptimizer")):
        for seed in range(3):
            data = {**EXPERIMENT, "metadata": {"optimizer": optimizer, "seed": seed}}
            numbers[name].append(web("POST", "experiments", data).json()["id"])
            of = f"experiments/{numbers[name][-1]}"
            for _ in range(4):
                suggestion = web("POST", f"{of}/suggestions", {}).json()
                value = suggestion["assignments"]["x"] + (name == "TPE")
                told = {"suggestion": suggestion["id"], "value": value}
                assert web("POST", f"{of}/observations", told).status_code == 201
            web("POST", f"{of}/suggestions", {})  # By now, the observations are in the run.

    comparison = compare_runs(
        {name: [History.load(path, run=each) for each in some] for name, some in numbers.items()}
    )
    best = [web("GET", f"experiments/{each}/best_assignments").json() for each in numbers["TPE"]]
    # A comparison of the client's own function goes into the same file, on the same space.
    history = History.load(path, run=numbers["TPE"][0])
    goals = list(history.objectives)
    assert history.space is not None
    space = history.space
    made = compare(
        Experiment.of(lambda x: x, metric="score", seed=0, name="x"),
        {"random": lambda seed: RandomOptimizer(space, goals, seed=seed)},
        num_trials=2,
        seeds=2,
        storage=Storage(path, "comparison"),
    )
    web.handler.close()

    assert comparison.ranks == {"TPE": 1.0, "random": 2.0}
    finals = [comparison.cell("TPE", seed).final for seed in range(3)]
    assert finals == [each["data"][0]["value"] for each in best]
    assert made.num_trials == 2


def test_a_search_goes_on_as_an_experiment_of_the_service(tmp_path: Path) -> None:
    whole = OptunaOptimizer(SPACE, LOSS, seed=3)
    searched(tmp_path / "whole.db", 20, whole)
    path = tmp_path / "runs.db"
    searched(path, 12, OptunaOptimizer(SPACE, LOSS, seed=3))
    web = Web(path)
    web.handler.close()
    web = Web(path)  # Once is enough.
    assert web.handler.not_served == []
    (experiment,) = web("GET", "experiments").json()["data"]
    assert experiment["name"] == "night"
    assert experiment["progress"]["observation_count"] == 12
    of = f"experiments/{experiment['id']}"
    told = [dict(each.params) for each in whole.history]
    for params in told[12:]:
        suggestion = web("POST", f"{of}/suggestions", {}).json()
        assert suggestion["assignments"] == params
        try:
            outcome: Any = {"values": [{"name": "loss", "value": loss(**params)}]}
        except (ValueError, Pruned):
            outcome = {"failed": True}
        response = web("POST", f"{of}/observations", {"suggestion": suggestion["id"], **outcome})
        assert response.status_code == 201
    best = web("GET", f"{of}/best_assignments").json()["data"][0]
    web.handler.close()

    assert whole.history.best is not None
    assert best["assignments"] == dict(whole.history.best.params)
    assert len(History.load(path, run="night")) == 20


def test_what_cannot_be_served_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    optimizer = RandomOptimizer({"C": [1.5, "auto"]}, LOSS, seed=0)
    experiment = Experiment.of(lambda C: float(C == "auto"), metric="loss")  # noqa: N803
    experiment.optimize(optimizer, 2, storage=Storage(path, "mixed"))
    web = Web(path)
    (reason,) = web.handler.not_served
    web.handler.close()

    assert reason.startswith("The run 'mixed' is not served: ")
    assert "1.5" in reason
