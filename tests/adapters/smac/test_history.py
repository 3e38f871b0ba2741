"""`history_from_smac`: nothing of a run directory is lost, or a note says what is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ConfigSpace as cs  # noqa: N813
import pytest
from smac import HyperbandFacade, RandomFacade, Scenario
from smac.runhistory import StatusType

from crystallize_opt import Categorical, Constraint, Float, SearchSpace, Status
from crystallize_opt.errors import StorageError
from crystallize_opt.interchange import history_from_smac


def new_space() -> Any:
    return cs.ConfigurationSpace({"k": ["a", "b"], "j": ["u", "v"], "x": (0.0, 1.0)})


def run(folder: Path, space: Any, target: Any, kind: Any = RandomFacade, **scenario: Any) -> Any:
    """Run SMAC in its own loop, and return the facade."""
    options = {"deterministic": True, "n_trials": 24, **scenario}
    made = Scenario(space, name="r", output_directory=folder, seed=3, **options)
    facade = kind(made, target, logging_level=False, overwrite=True)
    facade.optimize()
    return facade


def cost_of(config: Any, seed: int = 0) -> float:
    return abs(float(config.get("x", 1.0)) - 0.3)


@pytest.mark.parametrize("seeds", ["one", "several"])
def test_means_over_other_instances_are_not_compared(seeds: str, tmp_path: Path) -> None:
    def target(config: Any, instance: str, seed: int = 0) -> float:
        # Instance 1 is easy for all, and rewards what is bad for the others.
        x = config["x"]
        return float(2.0 - x if instance == "1" else 10.0 + 10.0 * x)

    facade = run(
        tmp_path,
        cs.ConfigurationSpace({"x": (0.0, 1.0)}),
        target,
        deterministic=seeds == "one",
        instances=["1", "2", "3"],
        instance_features={name: [1.0] for name in "123"},
    )

    history = history_from_smac(tmp_path / "r" / "3")

    best, incumbent = history.best, facade.intensifier.get_incumbent()
    assert best is not None
    assert best.treatment.params == dict(incumbent)
    assert best["cost"] == pytest.approx(facade.runhistory.average_cost(incumbent))
    for trial in history:
        for name in "123":
            if f"cost[{name}]" in trial:
                expected = target(trial.treatment.params, name)
                assert trial[f"cost[{name}]"] == pytest.approx(expected)
    assert {len(trial.replicates) for trial in history} != {len(best.replicates)}
    assert any("means are not comparable" in note for note in history.notes)
    assert "The features of the instances are left out." in history.notes


def test_the_best_has_the_highest_budget(tmp_path: Path) -> None:
    def target(config: Any, seed: int = 0, budget: float = 0) -> float:
        return cost_of(config) + budget  # Low budgets look better.

    facade = run(tmp_path, new_space(), target, HyperbandFacade, min_budget=1, max_budget=9)

    history = history_from_smac(tmp_path / "r" / "3")

    assert history.best is not None
    assert history.best["budget"] == 9.0
    costs = {k.config_id: v.cost for k, v in facade.runhistory.items() if k.budget == 9.0}
    best = facade.runhistory.get_config(min(costs, key=lambda config: costs[config]))
    assert history.best.treatment.params == dict(best)
    assert history.constraints == (Constraint("budget", ">=", 9.0),)
    assert any("highest budget" in note for note in history.notes)
    assert len(history) == len(facade.runhistory)


def forbidden(space: Any) -> Any:
    return cs.ForbiddenAndConjunction(
        cs.ForbiddenEqualsClause(space["k"], "b"), cs.ForbiddenEqualsClause(space["j"], "v")
    )


def either(space: Any) -> Any:
    return cs.OrConjunction(
        cs.EqualsCondition(space["x"], space["k"], "a"),
        cs.EqualsCondition(space["x"], space["j"], "u"),
    )


@pytest.mark.parametrize(
    ("added", "named"),
    [
        (forbidden, "ForbiddenAndConjunction"),
        (either, "OrConjunction"),
        (lambda _: cs.CategoricalHyperparameter("w", ["a", "b"], weights=[0.2, 0.8]), "weights"),
        (lambda _: cs.NormalFloatHyperparameter("n", 0.0, 1.0, lower=-3, upper=3), "NormalFloat"),
    ],
)
def test_a_space_that_is_not_ours_is_named(added: Any, named: str, tmp_path: Path) -> None:
    space = new_space()
    space.add(added(space))
    facade = run(tmp_path, space, cost_of, n_trials=8)
    files = sorted(path.name for path in (tmp_path / "r" / "3").iterdir())

    history = history_from_smac(tmp_path / "r" / "3")

    assert history.space is None
    assert named in history.notes[0]
    assert [o.treatment.params for o in history] == [
        dict(config) for config in facade.runhistory.get_configs()
    ]
    assert history.best is not None
    assert history.best.treatment.params == dict(facade.intensifier.get_incumbent())
    assert sorted(path.name for path in (tmp_path / "r" / "3").iterdir()) == files


def test_every_status_is_read_and_nan_never_completes(tmp_path: Path) -> None:
    space = cs.ConfigurationSpace({"k": ["", "\r", "None"], "x": (0.0, 1.0)}, seed=0)
    facade = run(tmp_path, space, cost_of, n_trials=1)
    history = facade.runhistory
    configs = space.sample_configuration(6)
    for config, status in zip(configs, StatusType, strict=False):
        cost = 1.0 if status is StatusType.SUCCESS else 1e9
        history.add(config, cost=cost, seed=7, status=status, additional_info={"acc": 0.5})
    history.add(configs[5], cost=math.nan, seed=7, status=StatusType.SUCCESS)
    folder = tmp_path / "r" / "3"
    history.save(folder / "runhistory.json")

    read = history_from_smac(folder)

    assert read.space == SearchSpace(
        {"k": Categorical(["", "\r", "None"], default=""), "x": Float(0.0, 1.0, default=0.5)}
    )
    assert [o.status for o in read][1:] == [
        Status.COMPLETED,
        Status.FAILED,
        Status.TIMED_OUT,
        Status.OUT_OF_MEMORY,
        Status.INVALID,
    ]
    assert [t.params for t in read.pending] == [dict(configs[0])]
    assert read[1]["acc"] == 0.5
    assert "1e" not in str(read[2].metrics)
    (folder / "runhistory.json").write_text("[]")
    with pytest.raises(StorageError, match="does not hold a run"):
        history_from_smac(folder)
