"""Runs that are there already are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import (
    Experiment,
    Float,
    History,
    Objective,
    Observation,
    Storage,
    Treatment,
    compare,
    compare_runs,
)
from crystallize_opt.adapters import GridOptimizer, RandomOptimizer
from crystallize_opt.errors import UsageError
from crystallize_opt.trials.status import Status

LOSS = Objective("loss", "minimize")


def run(values: Sequence[float | None], *, objective: Objective = LOSS) -> History:
    """Return a run, in which None stands for a trial that failed."""
    trials = []
    for number, value in enumerate(values):
        treatment = Treatment(f"t{number}", {})
        failed = Observation(treatment, status=Status.FAILED, error="no")
        trials.append(failed if value is None else Observation(treatment, {"loss": value}))
    return History(trials, [objective])


def test_runs_say_the_same_as_the_comparison_that_made_them(tmp_path: Path) -> None:
    def loss(x: Float(0.0, 1.0)) -> float:  # type: ignore[valid-type]
        return float(x)

    space = {"x": (0.0, 1.0)}
    made = compare(
        Experiment.of(loss, seed=0, name="loss"),
        {
            "random": lambda seed: RandomOptimizer(space, LOSS, seed=seed),
            "grid": lambda seed: GridOptimizer(space, LOSS, levels={"x": 4}, seed=seed),
        },
        num_trials=4,
        seeds=6,
        storage=Storage(tmp_path / "runs.db", run="c"),
    )

    found = compare_runs(
        {
            name: [
                History.load(tmp_path / "runs.db", f"c: loss, {name}, seed {seed}")
                for seed in range(6)
            ]
            for name in ("random", "grid")
        },
        experiment="loss",
    )

    assert found.verdict == made.verdict
    assert found.goals == made.goals
    for name in ("random", "grid"):
        for seed in range(6):
            assert found.cell(name, seed).best == made.cell(name, seed).best


def test_longer_runs_count_as_far_as_the_shortest() -> None:
    found = compare_runs({"a": [run([3.0, 2.0])], "b": [run([None, 2.5, 0.0])]})

    assert found.num_trials == 2
    assert [found.cell(name, 0).final for name in "ab"] == [2.0, 2.5]
    assert found.cell("b", 0).failures == 1


def test_a_run_without_a_value_counts_as_the_worst() -> None:
    found = compare_runs({"a": [run([None, None])], "b": [run([9.0, 9.0])]})

    assert found.cell("a", 0).final is None
    assert found.ranks == {"b": 1.0, "a": 2.0}


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "as many runs"),
        ({"a": []}, "as many runs"),
        ({"a": [run([1.0])], "b": [run([1.0]), run([2.0])]}, r"not {'a': 1, 'b': 2}"),
        (
            {"a": [run([1.0])], "b": [run([1.0], objective=Objective("loss", "maximize"))]},
            "different objectives",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(
    runs: dict[str, list[History]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        compare_runs(runs)


@pytest.mark.parametrize("wrong", [[], {"a": 5}, {"a": History([], LOSS)}, {"a": ["b"]}])
def test_what_is_no_list_of_histories_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"a list of histories for each optimizer"):
        compare_runs(wrong)
