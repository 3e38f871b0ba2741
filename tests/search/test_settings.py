"""The arguments of a search are checked before anything runs."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crystallize_opt import BasePlugin, Experiment, Objective, Search, Treatment
from crystallize_opt.adapters import GridOptimizer
from crystallize_opt.errors import ObjectiveError, UsageError
from crystallize_opt.search.settings import DEFAULTS, SearchSettings
from tests.search.grids import MINIMIZE, grid
from tests.search.ways import VALUES, Calls, record
from tests.toy import DELTAS, PlainOptimizer, experiment_of, toy_experiment
from tests.workers.pools import grid as x_grid


class Refuse(BasePlugin):
    def before_run(self, experiment: Experiment) -> None:
        raise AssertionError("something ran")


def never_run(**options: Any) -> Experiment:
    return toy_experiment(plugins=[Refuse()], **options)


class NoOptimizer:
    objective = MINIMIZE

    def ask(self) -> list[Treatment]:
        return []


@pytest.mark.parametrize("number", [0, -1, True, 2.0, "3", None])
@pytest.mark.parametrize("argument", ["num_trials", "replicates_per_trial"])
def test_what_is_no_count_is_refused(argument: str, number: Any) -> None:
    counts = {"num_trials": 1, "replicates_per_trial": 1, argument: number}

    with pytest.raises(UsageError, match=f"{argument} is a whole.*at least 1, not {number!r}"):
        never_run().optimize(grid(DELTAS), **counts)


def test_numpys_whole_numbers_are_counts() -> None:
    count: Any = np.int64(2)
    optimizer = grid(DELTAS)
    toy_experiment().optimize(optimizer, count, count)

    assert [len(o.replicates) for o in optimizer.observations] == [2, 2]


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (GridOptimizer, "is a class; build it first"),
        (None, r"without \['ask', 'tell', 'get_best_treatment', 'objective'\]"),
        (NoOptimizer(), r"without \['tell', 'get_best_treatment'\]"),
    ],
)
def test_what_is_no_optimizer_is_refused(optimizer: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        never_run().optimize(optimizer, 1)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("sum", "needs a metric and a direction.*'sum' lacks"),
        ([], "At least one objective"),
        (type("Objective", (), {"metric": "sum", "direction": "max"})(), "direction 'max'"),
        (type("Objective", (), {"metric": ["sum"], "direction": "maximize"})(), "one metric"),
    ],
)
def test_an_objective_without_metric_or_direction_is_refused(objective: Any, message: str) -> None:
    """A failed trial must be told the infinity that loses; a wrong guess would make it the best."""
    with pytest.raises(ObjectiveError, match=message):
        never_run().optimize(PlainOptimizer(DELTAS, objective), 1)


@pytest.mark.parametrize("name", ["replicate", "condition", "seed_used", "size"])
def test_a_parameter_that_is_a_key_of_the_context_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"parameter '{name}'.*has that key already"):
        never_run(initial_ctx={"size": 1}).optimize(grid([1, 2], name=name), 1)


@pytest.mark.parametrize("asked", [[], None, Treatment("a", {}), [{"delta": 1.0}]])
def test_an_ask_without_treatments_is_refused(asked: Any) -> None:
    class Wrong(PlainOptimizer):
        def ask(self) -> list[Treatment]:
            return asked  # type: ignore[no-any-return]

    with pytest.raises(TypeError, match="list of at least one Treatment, not"):
        toy_experiment().optimize(Wrong(DELTAS), 1)


@pytest.mark.parametrize("door", [Search, Experiment.optimize, Experiment.aoptimize])
def test_every_door_shows_the_same_arguments(door: Any) -> None:
    parameters = inspect.signature(door).parameters.values()
    shown = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    assert shown == DEFAULTS
    assert list(shown) == list(SearchSettings.__annotations__)
    for name in DEFAULTS:
        assert re.search(rf"(?m)^ *{name}: [A-Z]", door.__doc__), name


def test_settings_are_checked_before_anything_runs(tmp_path: Path) -> None:
    plugin = Calls()
    experiment = experiment_of(record, plugins=[plugin])
    wrong: Any
    for wrong in ({"workers": "cluster"}, {"workers": 0}, {"storage": ":memory:"}, {"stop": 5}):
        with pytest.raises(UsageError):
            Search(experiment, x_grid(VALUES), 5, **wrong)

    assert plugin.calls == []
    assert GridOptimizer({"x": VALUES}, Objective("loss", "minimize")).observations == []
