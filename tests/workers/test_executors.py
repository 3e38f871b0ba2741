"""Trials on executors: side by side, in order, and whatever a worker does."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crystallize_opt import (
    BasePlugin,
    Experiment,
    FrozenContext,
    Objective,
    Observation,
    Status,
    Treatment,
)
from crystallize_opt.adapters import GridOptimizer, RandomOptimizer
from crystallize_opt.errors import MissingExtraError, UsageError
from crystallize_opt.workers.workers import Workers
from tests.toy import PlainOptimizer, experiment_of, toy_experiment
from tests.workers.jobs import Meeting, come_or_wait, meet, start_a_process
from tests.workers.pools import EXECUTORS, LOSS, PROCESSES, grid, statuses

each_executor = pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
# Loky's pool is the same to a search as the spawned one, and takes longest to start.
each_executor_but_loky = pytest.mark.parametrize(
    "executor",
    [pytest.param(each, marks=[pytest.mark.slow] * (each == "loky")) for each in EXECUTORS],
    indirect=True,
)
each_process_executor = pytest.mark.parametrize("executor", PROCESSES, indirect=True)


# Side by side ---------------------------------------------------------------------------------


@each_executor_but_loky
def test_trials_run_side_by_side_where_they_are_said_to(executor: Any) -> None:
    optimizer = grid([1.0, 2.0])
    with Meeting(2) as meeting:
        experiment = experiment_of(meet, initial_ctx={"meeting": meeting.address})
        best = experiment.optimize(optimizer, 2, workers=Workers(executor, 2))

    assert best.params == {"x": 1.0}
    assert {o.status for o in optimizer.observations} == {Status.COMPLETED}
    pids = {o["pid"] for o in optimizer.observations}
    if executor == "threads":
        assert pids == {os.getpid()}
        assert threading.get_ident() not in {o["thread"] for o in optimizer.observations}
    else:
        assert len(pids) == 2
        assert os.getpid() not in pids


@each_executor_but_loky
def test_a_free_worker_gets_the_next_trial_at_once(executor: Any) -> None:
    """The first trial ends when three others have come: in batches it would wait for ever."""
    optimizer = grid([0.0, 1.0, 2.0, 3.0])
    with Meeting(4) as meeting:
        experiment = experiment_of(come_or_wait, initial_ctx={"meeting": meeting.address})
        experiment.optimize(optimizer, 4, workers=Workers(executor, 2))

    assert statuses(optimizer) == dict.fromkeys([0.0, 1.0, 2.0, 3.0], Status.COMPLETED)


@each_executor
def test_the_results_are_those_of_a_search_in_this_process(executor: Any) -> None:
    """Also for steps that are closures, as those of notebooks and `__main__` are."""
    scale, in_threads = 2.0, executor == "threads"

    def record(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        ctx.metrics.add("array", np.arange(2))
        noise = ctx["seed_used"] / 2**32 if in_threads else random.random()
        return data, {"loss": scale * x + noise + np.float64(ctx["replicate"])}

    def search(**options: Any) -> dict[str, Any]:
        optimizer = grid([3.0, 1.0, 2.0])
        experiment = experiment_of(record, seed=3)
        experiment.optimize(optimizer, 3, 2, **options)
        assert all(o.started_at and o.duration is not None for o in optimizer.observations)
        return {
            o.treatment.name: (
                dict(o), dict(o.sem), [(r.index, r.seed, dict(r)) for r in o.replicates],
            )
            for o in optimizer.observations
        }  # fmt: skip

    assert search(workers=Workers(executor, 2)) == search()


def test_a_batch_is_asked_for_jointly_and_told_before_the_next() -> None:
    calls: list[Any] = []

    class Batches(GridOptimizer):
        def ask(self, n: int = 1, *, ttl: float | None = None) -> list[Treatment]:
            calls.append(n)
            return super().ask(n, ttl=ttl)

        def tell(self, objective_values: Any) -> None:
            calls.append("tell")
            super().tell(objective_values)

    optimizer = Batches({"delta": [1.0, 2.0, 3.0, 4.0, 5.0]}, Objective("sum", "minimize"))
    toy_experiment().optimize(optimizer, 5, workers=Workers("threads", 2, batch=True))

    assert calls == [2, "tell", "tell", 2, "tell", "tell", 1, "tell"]


def test_a_plain_optimizer_is_told_in_its_own_order() -> None:
    """It knows no pending trials. The first treatment of an ask ends last."""

    class AllAtOnce(PlainOptimizer):
        def ask(self) -> list[Treatment]:
            return self.treatments

    optimizer = AllAtOnce([0.0, 1.0, 2.0, 3.0], LOSS, "x")
    with Meeting(4) as meeting:
        experiment = experiment_of(come_or_wait, initial_ctx={"meeting": meeting.address})
        best = experiment.optimize(optimizer, 4, workers=Workers("threads", 4))

    assert best.params == {"x": 0.0}
    assert [told["loss"] for told in optimizer.told] == [0.0, 1.0, 2.0, 3.0]


def test_a_plain_optimizer_is_asked_again_when_it_has_been_told() -> None:
    optimizer = PlainOptimizer([2.0, 0.0, 1.0])

    best = toy_experiment().optimize(optimizer, 3, workers=Workers("threads", 3))

    assert best.params == {"delta": 0.0}
    assert [told["sum"] for told in optimizer.told] == [12.0, 6.0, 9.0]


class Pruning(GridOptimizer):
    """Ends every trial whose first replicate has a loss above 0."""

    def report_replicate(self, treatment: Treatment, replicate: int, metrics: Any) -> bool:
        return bool(metrics["loss"] > 0.0)


@pytest.mark.parametrize("executor", ["threads", "processes"], indirect=True)
def test_trials_are_pruned_between_replicates(executor: Any) -> None:
    def record(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x}

    optimizer = Pruning({"x": [1.0, 0.0, 2.0]}, LOSS)
    experiment_of(record).optimize(optimizer, 3, 3, workers=Workers(executor, 2))

    assert statuses(optimizer) == {0.0: Status.COMPLETED, 1.0: Status.PRUNED, 2.0: Status.PRUNED}
    assert {len(o.replicates) for o in optimizer.observations if o["loss"]} == {1}


@pytest.mark.parametrize("executor", ["threads", "processes"], indirect=True)
def test_asynchronous_steps_run_on_executors(executor: Any) -> None:
    async def record(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x}

    optimizer = grid([1.0, 0.0])
    best = experiment_of(record).optimize(optimizer, 2, workers=Workers(executor, 2))

    assert best.params == {"x": 0.0}


@pytest.mark.parametrize("executor", ["threads", "processes"], indirect=True)
def test_the_callers_generators_stay_as_they_were(executor: Any) -> None:
    def draw(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x + random.random() + np.random.rand()}

    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()

    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS)
    experiment_of(draw).optimize(optimizer, 8, 2, workers=Workers(executor, 3))

    after = random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()
    assert after == before


def test_setup_and_teardown_surround_each_trial_in_its_process(tmp_path: Path) -> None:
    from crystallize_opt import Pipeline
    from tests.toy import numbers
    from tests.workers.jobs import Recording

    step = Recording(str(tmp_path / "calls"))
    experiment = Experiment(numbers(), Pipeline([step]))
    experiment.optimize(grid([1.0, 2.0]), 2, 2, workers=1)

    lines = (tmp_path / "calls").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["setup", "call", "call", "teardown"] * 2
    assert str(os.getpid()) not in {line.split()[1] for line in lines}


def test_a_trial_may_start_processes_of_its_own() -> None:
    optimizer = grid([1.0])
    experiment_of(start_a_process).optimize(optimizer, 1, workers=1)

    assert optimizer.observations[0]["loss"] == 7.0


# What is refused, or reported early -----------------------------------------------------------


@pytest.mark.parametrize("executor", ["cluster", 3, b"threads"])
def test_what_is_no_executor_is_refused(executor: Any) -> None:
    with pytest.raises(UsageError, match="kind is None, 'threads', 'processes'"):
        toy_experiment().optimize(PlainOptimizer([1.0]), 1, workers=Workers(executor, 1))


def test_what_a_function_makes_must_be_an_executor() -> None:
    def seven() -> Any:
        return 7

    with pytest.raises(UsageError, match="returned 7, which is not an executor"):
        toy_experiment().optimize(PlainOptimizer([1.0]), 1, workers=Workers(seven, 1))


LOCK = threading.Lock()


class WithLock(BasePlugin):
    def __init__(self) -> None:
        self.lock = threading.Lock()


def locked(lock: Any) -> Callable[..., Any]:
    def train(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        with lock:
            return data, {"loss": x}

    return train


def fine(data: Any, ctx: FrozenContext, *, x: Any) -> Any:
    return data, {"loss": 1.0}


@each_process_executor
def test_a_step_that_cannot_be_sent_is_reported_before_the_first_trial(executor: Any) -> None:
    optimizer = grid([1.0])
    with pytest.raises(UsageError, match=r"Step 'train' cannot be sent to another process.*lock"):
        experiment_of(locked(threading.Lock())).optimize(optimizer, 1, workers=Workers(executor, 1))

    assert optimizer.events == []


@pytest.mark.parametrize(
    ("what", "experiment", "values"),
    [
        ("The plugin WithLock", lambda: experiment_of(fine, plugins=[WithLock()]), [1.0]),
        ("The parameter 'x' of the search space", lambda: experiment_of(fine), [LOCK, 1.0]),
    ],
)
def test_everything_that_cannot_be_sent_is_named(
    what: str, experiment: Callable[[], Experiment], values: list[Any]
) -> None:
    with pytest.raises(UsageError, match=f"{what} cannot be sent"):
        experiment().optimize(grid(values), 1, workers=1)


@pytest.mark.parametrize("library", ["cloudpickle", "loky", "psutil"])
@pytest.mark.parametrize("executor", ["processes", "spawn"], indirect=True)
def test_a_library_that_is_missing_is_named_with_what_installs_it(
    executor: Any, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    optimizer = grid([1.0])
    message = f'need {library}, which is not installed. Run: pip install "crystallize-opt'
    with pytest.raises(MissingExtraError, match=re.escape(f'{message}[processes]"')) as error:
        experiment_of(fine).optimize(optimizer, 1, workers=Workers(executor, 1))

    assert error.value.name == library
    assert optimizer.events == []


SCRIPT = """
from crystallize_opt import *
from crystallize_opt.adapters import GridOptimizer

class Model:
    factor = 2.0

@data_source
def numbers(ctx):
    return [1.0]

@pipeline_step()
def fit(data, ctx, *, x):
    return data, {"loss": Model.factor * x}

optimizer = GridOptimizer({"x": [3.0, 1.0, 2.0]}, Objective("loss", "minimize"))
experiment = Experiment(numbers(), Pipeline([fit()]))
print(experiment.optimize(optimizer, 3, workers=2).params["x"])
print([o.status.value for o in optimizer.observations])
"""


@pytest.mark.parametrize("how", [pytest.param("file", marks=pytest.mark.slow), "stdin"])
def test_a_script_needs_no_module_and_no_guard(how: str, tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", *([str(path)] if how == "file" else ["-"])],
        input=None if how == "file" else SCRIPT,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert shown.stdout.splitlines() == ["1.0", "['completed', 'completed', 'completed']"]
    assert shown.stderr == ""


def test_observations_are_told_in_the_thread_of_the_search() -> None:
    threads: set[int] = set()

    class Watching(GridOptimizer):
        def ask(self, n: int = 1, *, ttl: float | None = None) -> list[Treatment]:
            threads.add(threading.get_ident())
            return super().ask(n, ttl=ttl)

        def tell(self, objective_values: Any) -> None:
            threads.add(threading.get_ident())
            assert isinstance(objective_values, Observation)
            super().tell(objective_values)

    optimizer = Watching({"delta": [1.0, 2.0, 3.0]}, Objective("sum", "minimize"))
    toy_experiment().optimize(optimizer, 3, workers=Workers("threads", 2))

    assert threads == {threading.get_ident()}
