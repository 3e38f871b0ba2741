"""The baseline of a search: it runs once and first, is stored, and ends the search if it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest

from crystallize_opt import (
    Categorical,
    Choice,
    Constraint,
    Experiment,
    Float,
    History,
    Integer,
    Objective,
    Pipeline,
    Storage,
    Treatment,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import RunChanged, TrialsFailedError, UsageError
from crystallize_opt.interchange import history_from_optuna, study_of
from crystallize_opt.search import BaselineCompleted, RunStarted, TrialAsked
from crystallize_opt.trials.calls import BaselineSet
from tests.search.ways import WAYS, each_way
from tests.toy import PlainOptimizer, exact, experiment_of, numbers

SEEDS = [(0, 7), (1, 7 + 31337)]


def noisy(data: Any, ctx: Any, *, x: float = 5.0) -> Any:
    return data, {"loss": x + ctx["seed_used"] % 10}


def grid() -> GridOptimizer:
    return GridOptimizer({"x": Categorical([3.0, 1.0])}, Objective("loss", "minimize"))


def search(experiment: Experiment, trials: int = 2, **settings: Any) -> GridOptimizer:
    optimizer = grid()
    experiment.optimize(optimizer, trials, 2, progress=False, **settings)
    return optimizer


@each_way
def test_it_runs_once_before_the_trials_on_their_seeds(way: str) -> None:
    _, workers = WAYS[way]
    step = noisy
    if "asynchronous" in way:

        async def step(data: Any, ctx: Any, *, x: float = 5.0) -> Any:
            return noisy(data, ctx, x=x)

    seen: list[Any] = []
    optimizer = search(
        experiment_of(step, seed=7), workers=workers, baseline=True, callbacks=[seen.append]
    )

    baseline = optimizer.history.baseline
    assert baseline is not None
    assert [(each.index, each.seed) for each in baseline.replicates] == SEEDS
    for trial in optimizer.observations:
        assert [(each.index, each.seed) for each in trial.replicates] == SEEDS
    assert (baseline.treatment.name, baseline["loss"]) == ("baseline", 10.5)
    assert len(optimizer.observations) == 2
    kinds = [type(event) for event in seen]
    assert kinds.index(BaselineCompleted) == 1
    assert kinds.count(BaselineCompleted) == 1
    assert kinds.index(RunStarted) < kinds.index(BaselineCompleted) < kinds.index(TrialAsked)


def test_a_treatment_is_the_baseline_also_of_a_plain_optimizer() -> None:
    found: list[Any] = []
    experiment_of(noisy, seed=7).optimize(
        PlainOptimizer([1.0], Objective("loss", "minimize"), "x"),
        1,
        baseline=Treatment("usual", {"x": 4.0}),
        callbacks=[found.append],
        progress=False,
    )
    (event,) = [each for each in found if isinstance(each, BaselineCompleted)]
    assert event.observation.treatment.name == "baseline"
    assert event.observation["loss"] == 11.0


def test_a_baseline_that_fails_ends_the_search_and_shows_why() -> None:
    def needs_x(data: Any, ctx: Any, *, x: float) -> Any:
        return data, {"loss": x}

    optimizer = grid()
    with pytest.raises(TrialsFailedError, match=r"(?s)baseline failed.*'x'.*Treatment\('default'"):
        experiment_of(needs_x).optimize(optimizer, 2, baseline=True, progress=False)
    assert optimizer.calls == []


def test_a_baseline_without_the_objective_fails() -> None:
    def silent(data: Any, ctx: Any, *, x: float = 0.0) -> Any:
        return data, ({"loss": x} if x else {"other": 1.0})

    with pytest.raises(TrialsFailedError, match=r"(?s)baseline failed.*'loss' was not recorded"):
        experiment_of(silent).optimize(grid(), 2, baseline=True, progress=False)


@pytest.mark.parametrize("wrong", [1, "default", {"x": 1.0}])
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"baseline= is True .* or a Treatment"):
        search(experiment_of(noisy), baseline=wrong)


@pytest.mark.parametrize(
    "baseline",
    [True, Treatment("usual", {"x": 4.0}), Treatment("f", lambda ctx: ctx.add("x", 4.0))],
)
def test_a_stored_baseline_is_not_run_again(tmp_path: Path, baseline: Any) -> None:
    path = tmp_path / "runs.db"
    calls: list[int] = []

    def counts(data: Any, ctx: Any, *, x: float = 5.0) -> Any:
        calls.append(ctx["condition"] == "baseline")
        return noisy(data, ctx, x=x)

    first = search(experiment_of(counts, seed=7), 1, storage=path, baseline=baseline)
    again = search(experiment_of(counts, seed=7), 2, storage=path, baseline=baseline)

    assert sum(calls) == 2
    stored = History.load(path).baseline
    for other in (again.history.baseline, stored):
        assert first.history.baseline is not None
        assert other is not None
        expected = exact(first.history.baseline).replace(repr(first.history.baseline.treatment), "")
        assert exact(other).replace(repr(other.treatment), "") == expected


def test_another_baseline_is_another_run(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(experiment_of(noisy), 1, storage=path, baseline=True)

    with pytest.raises(RunChanged, match="has another baseline"):
        search(experiment_of(noisy), storage=path, baseline=Treatment("usual", {"x": 4.0}))


def test_a_run_without_one_gets_one_when_it_continues(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(experiment_of(noisy), 1, storage=path)
    assert History.load(path).baseline is None

    search(experiment_of(noisy), storage=path, baseline=True)
    assert History.load(path).baseline is not None
    assert search(experiment_of(noisy), storage=path).history.baseline is not None


CALLS: list[str] = []


def dies(data: Any, ctx: Any, *, x: float = 5.0) -> Any:
    if len(CALLS) == int(os.environ.get("DIES_AFTER", "100")):
        os._exit(9)
    CALLS.append(f"{ctx['condition']} {ctx['replicate']}")
    return noisy(data, ctx, x=x)


KILLED = """
import sys
from tests.search.test_baseline import *
search(experiment_of(dies, seed=7), storage=sys.argv[1], baseline=True)
"""


@pytest.mark.parametrize(("survives", "repeated"), [("1", 1), ("3", 0)])
def test_a_killed_search_repeats_only_an_unfinished_baseline(
    tmp_path: Path, survives: str, repeated: int
) -> None:
    path = str(tmp_path / "runs.db")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "DIES_AFTER": survives}
    killed = subprocess.run(  # noqa: S603
        [sys.executable, "-c", KILLED, path], capture_output=True, text=True, check=False, env=env
    )
    assert killed.returncode == 9, killed.stderr

    CALLS.clear()
    again = search(experiment_of(dies, seed=7), storage=path, baseline=True).history
    assert CALLS.count("baseline 0") == repeated
    whole = search(experiment_of(noisy, seed=7), baseline=True).history
    assert [dict(each) for each in again] == [dict(each) for each in whole]
    assert again.baseline is not None
    assert dict(again.baseline) == {"loss": 10.5}


# Constraints relative to it ---------------------------------------------------------------------

LESS = Constraint("loss", "<=", -30, relative_to_baseline=True)
"""The untreated experiment has the losses 12 and 9: at most 0.7 * 10.5 = 7.35."""


def judged(
    trials: int = 3, limit: Constraint = LESS, *, seed: int = 0, **settings: Any
) -> OptunaOptimizer:
    optimizer = OptunaOptimizer(
        {"x": (0.0, 3.0)}, Objective("gain", "maximize"), constraints=[limit], seed=seed
    )
    experiment = experiment_of(with_gain, seed=7)
    experiment.optimize(optimizer, trials, 2, progress=False, **settings)
    return optimizer


def with_gain(data: Any, ctx: Any, *, x: float = 5.0) -> Any:
    data, metrics = noisy(data, ctx, x=x)
    return data, {**metrics, "gain": x}


def test_a_search_judges_by_the_baseline_that_it_runs() -> None:
    states: list[Any] = []
    seen: list[Any] = []

    def look(state: Any) -> None:
        states.append(state.best and state.best["loss"])

    optimizer = judged(12, baseline=True, stop=[look], callbacks=[seen.append])

    best = optimizer.history.best
    assert best is not None
    feasible = [o for o in optimizer.observations if o["loss"] <= 0.7 * 10.5]
    assert 0 < len(feasible) < 12
    assert best["gain"] == max(o["gain"] for o in feasible)
    assert states[-1] is None or states[-1] <= 7.35
    (started,) = [each for each in seen if isinstance(each, RunStarted)]
    assert started.criterion.best(optimizer.observations) is best


def test_a_search_without_the_baseline_is_refused_before_it_begins(tmp_path: Path) -> None:
    for settings in ({}, {"storage": tmp_path / "runs.db"}):
        with pytest.raises(UsageError, match=r"'loss <= baseline - 30 %' is relative.*baseline="):
            judged(**settings)  # type: ignore[arg-type]


def test_a_stored_search_is_judged_by_its_baseline(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    judged(4, storage=path, baseline=True)
    again = judged(8, storage=path)  # The run has its baseline.
    whole = judged(8, baseline=True)

    assert [dict(o.params) for o in again.observations] == [
        dict(o.params) for o in whole.observations
    ]
    loaded = History.load(path)
    best, expected = loaded.best, whole.history.best
    assert best is not None
    assert expected is not None
    assert best.params == again.get_best_treatment().params == expected.params
    assert loaded.constraints == (LESS,)
    study = study_of(loaded)
    assert [trial.number for trial in study.best_trials] == [
        int(best.treatment.name.removeprefix("trial_"))
    ]
    read = history_from_optuna(study)
    assert read.best is not None
    assert read.best.params == best.params
    (note,) = read.notes
    assert "loss <= baseline - 30 %" in note


@pytest.mark.parametrize(
    ("limit", "changed"),
    [
        (Constraint("loss", "<=", -30), r"constraints\[0\]: \['loss', '<=', -30, None, True\] b"),
        (Constraint("loss", "<=", -20, relative_to_baseline=True), "-30 became -20"),
    ],
)
def test_another_constraint_is_noticed_when_the_run_continues(
    tmp_path: Path, limit: Constraint, changed: str
) -> None:
    judged(2, storage=tmp_path / "runs.db", baseline=True)
    with pytest.raises(RunChanged, match=changed):
        judged(3, limit, storage=tmp_path / "runs.db", baseline=True)


def test_another_threshold_is_noticed_when_the_run_continues(tmp_path: Path) -> None:
    def several(trials: int, threshold: float) -> None:
        objectives = [
            Objective("loss", "minimize", threshold=threshold),
            Objective("gain", "maximize", threshold=0.0),
        ]
        optimizer = GridOptimizer({"x": (1, 4)}, objectives)
        experiment_of(with_gain).optimize(
            optimizer, trials, storage=tmp_path / "runs.db", progress=False
        )

    several(1, 9.0)
    assert History.load(tmp_path / "runs.db").objectives[0].threshold == 9.0
    with pytest.raises(RunChanged, match=r"9.0 became 10.0"):
        several(2, 10.0)
    several(2, 9.0)


def test_attached_trials_are_judged_by_the_baseline_of_their_run(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    judged(4, storage=path, baseline=True)
    attach = Storage(path, resume="attach")
    limit = Constraint("loss", "<=", -20, relative_to_baseline=True)
    changed = judged(6, limit, seed=1, storage=attach)

    assert len(changed.history) == 6
    assert changed.history.baseline is not None
    assert changed.history.baseline["loss"] == 10.5
    feasible = {o["gain"] for o in changed.observations if o["loss"] <= 0.8 * 10.5}
    assert changed.get_best_treatment().params["x"] == max(feasible)
    again = judged(7, limit, seed=1, storage=path)
    assert len(again.history) == 7
    assert History.load(path).best == again.history.best


def test_trials_of_another_experiment_are_not_judged_by_its_baseline(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(experiment_of(noisy), 1, storage=path, baseline=True)
    optimizer = GridOptimizer(
        {"x": Categorical([3.0, 1.0])}, Objective("loss", "minimize"), constraints=[LESS]
    )
    with pytest.raises(UsageError, match="the baseline, which was of another experiment"):
        experiment_of(noisy, seed=8).optimize(
            optimizer, 2, storage=Storage(path, resume="attach"), baseline=True, progress=False
        )


# The point of the space that it is ---------------------------------------------------------------


def in_two_steps(*defaults: float) -> Experiment:
    def one(data: Any, ctx: Any, *, x: float = defaults[0]) -> Any:
        return data

    def other(data: Any, ctx: Any, *, x: float = defaults[-1], y: int = 1) -> Any:
        return data, {"loss": x + y}

    steps = [pipeline_step()(each)() for each in (one, other)]
    return Experiment(numbers(), Pipeline(steps))


def needed(data: Any, ctx: Any, *, x: float) -> Any:
    return data, {"loss": x}


def test_the_parameters_of_a_choice_are_those_of_its_first_alternative() -> None:
    @pipeline_step()
    def svm(data: Any, ctx: Any, *, width: Annotated[float, Float(0.0, 1.0)] = 0.5) -> Any:
        return data, {"loss": width}

    @pipeline_step()
    def tree(data: Any, ctx: Any, *, depth: Annotated[int, Integer(1, 9)] = 3) -> Any:
        return data, {"loss": 1.0 / depth}

    pipeline = Pipeline([Choice("model", svm=svm().prefixed("svm_"), tree=tree())])
    experiment = Experiment(numbers(), pipeline)
    space = experiment.search_space()
    cases: list[tuple[Any, Any]] = [
        (True, {"model": "svm", "svm_width": 0.5}),
        (Treatment("tree", {"model": "tree"}), {"model": "tree", "depth": 3}),
    ]
    for baseline, point in cases:
        optimizer = RandomOptimizer(space, Objective("loss", "minimize"), seed=0)
        experiment.optimize(optimizer, 1, baseline=baseline, progress=False)
        assert optimizer.events[0].point == point  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("experiment", "baseline", "point"),
    [
        (experiment_of(noisy), True, {"x": 5.0}),
        (experiment_of(noisy), Treatment("b", {"x": 2.0}), {"x": 2.0}),
        (experiment_of(noisy), Treatment("b", lambda ctx: ctx.add("x", 2.0)), None),
        (experiment_of(noisy), Treatment("b", {"x": 99.0}), None),  # Outside of the space.
        (experiment_of(needed), Treatment("b", {"x": 2.0}), {"x": 2.0}),
        (in_two_steps(4.0), True, {"x": 4.0}),
        (in_two_steps(4.0, 5.0), True, None),
        (in_two_steps(4.0, 5.0), Treatment("b", {"x": 3.0}), {"x": 3.0}),
    ],
)
def test_the_optimizer_gets_its_parameters_where_they_are_known(
    experiment: Experiment, baseline: Any, point: Any
) -> None:
    optimizer = RandomOptimizer({"x": (0.0, 9.0)}, Objective("loss", "minimize"), seed=0)
    experiment.optimize(optimizer, 1, baseline=baseline, progress=False)

    (event,) = [each for each in optimizer.events if isinstance(each, BaselineSet)]
    assert event.point == point
