"""Further replicates only for trials that could still be the best, and trials with failed ones."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import (
    Adaptive,
    Categorical,
    Constraint,
    Failures,
    FrozenContext,
    History,
    Objective,
    Observation,
    Search,
    Status,
    Treatment,
    TrialLimits,
    Workers,
)
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import NoCompletedTrialError, RunChanged, TrialsFailedError, UsageError
from tests.recording.killed_runs import exactly
from tests.toy import PlainOptimizer, experiment_of

LOSS = Objective("loss", "minimize")
UP_TO_8 = Adaptive(2, 8)
MEANS = [3.0, 1.0, 5.0, 2.0, 0.0, 4.0]


def noisy(data: Any, ctx: FrozenContext, *, mean: float) -> Any:
    """The noise comes mostly with the seed; a little is the trial's own."""
    replicate = ctx["replicate"]
    return data, {"loss": mean + 50 * math.sin(9 * replicate) + 0.1 * math.sin(mean + replicate)}


def lucky(data: Any, ctx: FrozenContext, *, mean: float) -> Any:
    """The first two seeds are lucky ones."""
    return data, {"loss": mean + (0.0, 0.01 * mean, 100.0)[min(ctx["replicate"], 2)]}


def grid(**options: Any) -> GridOptimizer:
    return GridOptimizer({"mean": MEANS}, LOSS, **options)


def counts(observations: list[Observation]) -> list[int]:
    return [len(each.replicates) for each in observations]


def test_only_trials_that_could_be_the_best_run_all_replicates() -> None:
    optimizer = grid()
    best = experiment_of(noisy, seed=0).optimize(optimizer, 6, Adaptive(2, 8))

    assert best.params["mean"] == 0.0
    found = {each.params["mean"]: each for each in optimizer.observations}
    assert [len(found[mean].replicates) for mean in (3.0, 1.0, 0.0)] == [8, 8, 8]
    assert found[3.0].beaten_by is None  # It was the best when it ran.
    for mean, winner in ((5.0, "trial_1"), (2.0, "trial_1"), (4.0, "trial_4")):
        assert len(found[mean].replicates) < 8
        assert found[mean].beaten_by == winner
        assert found[mean].status is Status.COMPLETED
        assert f"beaten by {winner}" in repr(found[mean])


def test_a_lucky_trial_with_few_replicates_is_not_the_best() -> None:
    """On its two seeds, the worse trial has a lower mean than the better one on its eight."""

    optimizer = GridOptimizer({"mean": Categorical([1.0, 2.0])}, LOSS)
    best = experiment_of(lucky, seed=0).optimize(optimizer, 2, Adaptive(2, 8))
    first, second = optimizer.observations

    assert second["loss"] < first["loss"]
    assert second.beaten_by == "trial_0"
    assert best is first.treatment
    assert optimizer.history.best is first
    assert optimizer.pareto_front == [first]


def test_a_trial_that_violates_a_constraint_gets_no_more_replicates() -> None:
    optimizer = grid(constraints=[Constraint("mean", ">=", 2.5)])

    def step(data: Any, ctx: FrozenContext, *, mean: float) -> Any:
        return data, {"loss": noisy(data, ctx, mean=mean)[1]["loss"], "mean": mean}

    best = experiment_of(step, seed=0).optimize(optimizer, 6, Adaptive(2, 8))

    assert best.params["mean"] == 3.0
    assert counts(optimizer.observations) == [8, 2, 2, 2, 2, 2]
    assert [each.beaten_by for each in optimizer.observations][1] is None


def test_a_constraint_may_be_relative_to_the_baseline() -> None:
    optimizer = grid(constraints=[Constraint("mean", ">=", 25, relative_to_baseline=True)])

    def step(data: Any, ctx: FrozenContext, *, mean: float) -> Any:
        return data, {"loss": noisy(data, ctx, mean=mean)[1]["loss"], "mean": mean}

    baseline = Treatment("default", {"mean": 2.0})
    best = experiment_of(step, seed=0).optimize(optimizer, 6, UP_TO_8, baseline=baseline)

    assert best.params["mean"] == 3.0
    assert counts(optimizer.observations) == [8, 2, 2, 2, 2, 2]


def test_an_exported_study_has_the_same_best_trial() -> None:
    pytest.importorskip("optuna")
    from crystallize_opt.adapters.optuna import history_from_optuna, study_of

    optimizer = RandomOptimizer({"mean": (0.0, 5.0)}, LOSS, seed=1)
    experiment_of(lucky, seed=0).optimize(optimizer, 12, UP_TO_8)
    history = optimizer.history
    study = study_of(history)
    assert history.best is not None

    lowest = min(history, key=lambda each: each["loss"])
    assert lowest.beaten_by is not None  # Its mean over fewer seeds is lower.
    assert study.best_trial.params == history.best_params
    assert list(map(exactly, history_from_optuna(study))) == list(map(exactly, history))


@pytest.mark.parametrize(
    "workers", [Workers("threads", 3), Workers("processes", 2), Workers("threads", 3, batch=True)]
)
def test_parallel_trials_run_as_many_replicates_as_they_need(workers: Workers) -> None:
    optimizer = grid()
    best = experiment_of(noisy, seed=0).optimize(optimizer, 6, Adaptive(2, 8), workers=workers)

    assert best.params["mean"] == 0.0
    for each in optimizer.observations:
        assert [r.index for r in each.replicates] == list(range(len(each.replicates)))
        assert (len(each.replicates) == 8) == (each.beaten_by is None)
    assert sum(counts(optimizer.observations)) < 6 * 8


def test_a_plain_optimizer_may_be_used() -> None:
    optimizer = PlainOptimizer(MEANS, LOSS, "mean")
    best = experiment_of(noisy, seed=0).optimize(optimizer, 6, Adaptive(2, 8))

    assert best.params["mean"] == 0.0


def test_a_pruner_still_hears_of_every_replicate() -> None:
    optuna = pytest.importorskip("optuna")
    pruner = optuna.pruners.ThresholdPruner(upper=1e6)
    optimizer = OptunaOptimizer({"mean": (0.0, 5.0)}, LOSS, seed=0, pruner=pruner)
    experiment_of(noisy, seed=0).optimize(optimizer, 8, Adaptive(2, 5))

    assert len(set(counts(optimizer.observations))) > 1
    for each, trial in zip(optimizer.observations, optimizer.study.trials, strict=True):
        assert list(trial.intermediate_values) == [r.index for r in each.replicates]


def test_a_run_resumes_exactly_and_its_history_shows_what_happened(tmp_path: Path) -> None:
    def search(path: str, trials: int, replicates: Any = UP_TO_8) -> list[Observation]:
        optimizer = RandomOptimizer({"mean": (0.0, 5.0)}, LOSS, seed=1)
        experiment = experiment_of(noisy, seed=0)
        experiment.optimize(optimizer, trials, replicates, storage=tmp_path / path)
        return optimizer.observations

    whole = list(map(exactly, search("whole.db", 12)))
    search("parts.db", 5)
    assert list(map(exactly, search("parts.db", 12))) == whole
    history = History.load(tmp_path / "parts.db")
    assert list(map(exactly, history)) == whole
    assert history.best is not None
    assert history.best.beaten_by is None
    with pytest.raises(RunChanged, match="replicates_per_trial"):
        search("parts.db", 12, Adaptive(2, 9))

    frame = history.to_frame()
    assert list(frame["replicates"]) == counts(history.observations)
    assert frame["beaten_by"].notna().sum() == sum(c < 8 for c in frame["replicates"])
    history.to_csv(tmp_path / "trials.csv")
    other = RandomOptimizer({"mean": (0.0, 5.0)}, LOSS)
    other.attach(tmp_path / "trials.csv")
    assert [o.beaten_by for o in other.observations] == [o.beaten_by for o in history]


@pytest.mark.parametrize("make", [grid, lambda: PlainOptimizer(MEANS, LOSS, "mean")])
def test_a_trial_that_was_interrupted_goes_on_with_its_next_replicate(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    ran: list[tuple[str, int]] = []

    def step(data: Any, ctx: FrozenContext, *, mean: float) -> Any:
        ran.append((ctx["condition"], ctx["replicate"]))
        if ctx["replicate"] == 5 and ran.count(ran[-1]) == 1:
            raise KeyboardInterrupt
        return noisy(data, ctx, mean=mean)

    whole, parts = grid(), make()
    experiment_of(noisy, seed=0).optimize(whole, 1, UP_TO_8)
    with pytest.raises(KeyboardInterrupt):
        experiment_of(step, seed=0).optimize(make(), 1, UP_TO_8, storage=tmp_path / "runs.db")
    experiment_of(step, seed=0).optimize(parts, 1, UP_TO_8, storage=tmp_path / "runs.db")

    assert [replicate for _, replicate in ran] == [0, 1, 2, 3, 4, 5, 5, 6, 7]
    (stored,) = History.load(tmp_path / "runs.db")
    assert exactly(stored) == exactly(whole.observations[0])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Adaptive(1, 5), "minimum is a whole number, at least 2"),
        (lambda: Adaptive(5, 5), "maximum is greater than minimum.*replicates_per_trial=5"),
        (lambda: Adaptive(2, 5, alpha=0.6), "alpha is at most 0.5"),
        (lambda: Adaptive(2, 5, alpha=0), "alpha is a number above 0"),
        (lambda: Failures(min_share=0), "min_share is a number above 0"),
        (lambda: Failures(min_share=1.5), "min_share is at most 1"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        make()


# Failed replicates ------------------------------------------------------------------------------


def failing(*failed: int, how: str = "raise") -> Any:
    def step(data: Any, ctx: FrozenContext, *, mean: float) -> Any:
        if ctx["replicate"] in failed and how == "raise":
            raise ValueError("boom")
        value = math.nan if ctx["replicate"] in failed else mean + ctx["replicate"]
        return data, {} if ctx["replicate"] in failed and how == "missing" else {"loss": value}

    return experiment_of(step, seed=0)


@pytest.mark.parametrize("how", ["raise", "nan", "missing"])
@pytest.mark.parametrize("workers", [None, Workers("processes", 1)], ids=["here", "process"])
def test_a_trial_completes_if_enough_replicates_do(how: str, workers: Workers | None) -> None:
    optimizer = GridOptimizer({"mean": [1.0]}, LOSS)
    settings: Any = {"failures": Failures(min_share=0.6), "workers": workers}
    failing(1, 3, how=how).optimize(optimizer, 1, 5, **settings)
    (observation,) = optimizer.observations

    assert observation.status is Status.COMPLETED
    assert observation["loss"] == 1.0 + (0 + 2 + 4) / 3
    assert observation.sem["loss"] == pytest.approx(math.sqrt(4 / 3))
    assert len(observation.replicates) == 5
    assert [each.index for each in observation.failed_replicates] == [1, 3]
    assert "5 replicates, 2 of them failed" in repr(observation)
    assert list(optimizer.history.to_frame()["failed_replicates"]) == [2]


@pytest.mark.parametrize("how", ["raise", "nan", "missing"])
def test_a_trial_fails_as_soon_as_too_few_can_complete(how: str) -> None:
    optimizer = GridOptimizer({"mean": [1.0]}, LOSS)
    with pytest.raises(TrialsFailedError):
        failing(0, 1, 2, how=how).optimize(
            optimizer, 1, 5, failures=Failures(min_share=0.6, then="raise")
        )
    (observation,) = optimizer.observations

    assert observation.status is (Status.FAILED if how == "raise" else Status.INVALID)
    if how == "raise":  # A worker runs the replicates of a turn until one raises.
        assert len(observation.replicates) == 3


def test_by_default_every_replicate_must_complete() -> None:
    optimizer = GridOptimizer({"mean": [1.0]}, LOSS)
    with pytest.raises(TrialsFailedError):
        failing(3).optimize(optimizer, 1, 5, failures="raise")

    assert optimizer.observations[0].status is Status.FAILED


def test_adaptive_trials_and_failed_replicates_go_together() -> None:
    def step(data: Any, ctx: FrozenContext, *, mean: float) -> Any:
        if ctx["replicate"] == 1:
            raise ValueError("boom")
        return noisy(data, ctx, mean=mean)

    optimizer = grid()
    best = experiment_of(step, seed=0).optimize(
        optimizer, 6, Adaptive(2, 8), failures=Failures(min_share=0.5)
    )

    assert best.params["mean"] == 0.0
    assert {each.status for each in optimizer.observations} == {Status.COMPLETED}
    assert all(len(each.failed_replicates) == 1 for each in optimizer.observations)
    assert min(counts(optimizer.observations)) == 3  # two completed ones, and the failed one


def test_the_baseline_must_complete_in_any_case() -> None:
    with pytest.raises(TrialsFailedError, match="baseline failed in replicate 4"):
        failing(4).optimize(
            GridOptimizer({"mean": [1.0]}, LOSS),
            1,
            5,
            baseline=Treatment("default", {"mean": 0.0}),
            failures=Failures(min_share=0.6),
        )


def test_a_pruner_is_refused_with_a_share() -> None:
    optuna = pytest.importorskip("optuna")
    optimizer = OptunaOptimizer(
        {"mean": (0.0, 1.0)}, LOSS, seed=0, pruner=optuna.pruners.MedianPruner()
    )
    with pytest.raises(UsageError, match=r"has a pruner.*min_share"):
        failing().optimize(optimizer, 1, 5, failures=Failures(min_share=0.6))


KILLED_IN_REPLICATE_2 = """
import os, signal, sys, threading
from crystallize_opt import Adaptive, Categorical, Experiment, Objective, Pipeline, Workers
from crystallize_opt import data_source, pipeline_step
from crystallize_opt.adapters import GridOptimizer
from crystallize_opt.search import TrialTold

told = threading.Event()

def note(event):
    if isinstance(event, TrialTold) and event.observation.params["mean"] == 0.0:
        told.set()

@data_source
def nothing(ctx):
    return None

@pipeline_step(version="1")
def step(data, ctx, *, mean):
    if mean == 5.0 and ctx["replicate"] == 2:
        told.wait(60 if sys.argv[1] != "resume" else 0)  # The better trial finishes meanwhile.
        if sys.argv[1] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
    ctx.metrics.add("loss", mean + ctx["replicate"] * (1 + 0.01 * mean))

optimizer = GridOptimizer({"mean": Categorical([5.0, 0.0])}, Objective("loss", "minimize"))
Experiment(nothing(), Pipeline([step()]), seed=0).optimize(
    optimizer, 2, Adaptive(2, 6), workers=Workers("threads", 2), storage=sys.argv[2],
    callbacks=[note], progress=False,
)
print([(o.params["mean"], len(o.replicates), o.beaten_by) for o in optimizer.observations])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
def test_a_killed_search_keeps_its_decision_although_it_knows_more_now(tmp_path: Path) -> None:
    """After two replicates, the poor trial went on: nothing was known of the better one then."""

    def run(how: str, path: str) -> str:
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-c", KILLED_IN_REPLICATE_2, how, str(tmp_path / path)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == (-signal.SIGKILL if how == "die" else 0), ran.stderr
        return ran.stdout

    whole = run("live", "whole.db")
    run("die", "parts.db")

    assert run("resume", "parts.db") == whole
    assert "(5.0, 3, 'trial_1')" in whole


def test_the_seconds_of_a_trial_count_from_before_a_resume(tmp_path: Path) -> None:
    first = True

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if first and ctx["replicate"] == 2:
            raise KeyboardInterrupt
        time.sleep(0.4)
        return data, {"loss": x}

    def search(workers: Any) -> Status:
        optimizer = GridOptimizer({"x": [1.0]}, LOSS)
        run = Search(
            experiment_of(step, seed=0),
            optimizer,
            1,
            Adaptive(2, 3),
            workers=workers,
            storage=tmp_path / "runs.db",
        )
        with suppress(KeyboardInterrupt, NoCompletedTrialError):
            run.run()
        return optimizer.observations[0].status

    assert search(None) is Status.ABANDONED
    first = False
    limits = TrialLimits(seconds=1.0)  # Two replicates took 0.8.
    assert search(Workers("processes", 1, limits=limits)) is Status.TIMED_OUT
