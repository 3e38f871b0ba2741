"""Trials on executors: side by side, in order, and whatever a worker does."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loky import get_reusable_executor

from crystallize_opt import (
    BasePlugin,
    Experiment,
    FrozenContext,
    Objective,
    Observation,
    Status,
    Treatment,
    TrialLimits,
)
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import ExecutorBrokenError, TrialsFailedError, UsageError
from tests.toy import PlainOptimizer, experiment_of, toy_experiment
from tests.trials import dying, mark_and_wait_for, meet, start_a_process

LOSS = Objective("loss", "minimize")


def grid(values: list[Any], objective: Objective = LOSS) -> GridOptimizer:
    return GridOptimizer({"x": values}, objective)


def statuses(optimizer: Any) -> dict[float, Status]:
    """The status of each trial, by its parameter."""
    return {o.treatment.params["x"]: o.status for o in optimizer.observations}


def spawn_pool() -> Executor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def loky_pool() -> Executor:
    pool: Executor = get_reusable_executor(max_workers=2)
    return pool


@pytest.fixture(scope="module")
def dask_pool() -> Iterator[Callable[[], Executor]]:
    import dask
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.daemon": False,
        "distributed.admin.log-length": 0,
    }
    make_cluster: Any = LocalCluster
    make_client: Any = Client
    with (
        dask.config.set(settings),
        make_cluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=60
        ) as cluster,
        make_client(cluster) as client,
    ):
        yield client.get_executor


EXECUTORS = ["threads", "processes", "spawn", "loky", "dask"]
PROCESSES = EXECUTORS[1:]


@pytest.fixture
def executor_named(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    def make(name: str) -> Any:
        if name == "dask":
            return request.getfixturevalue("dask_pool")
        return {"spawn": spawn_pool, "loky": loky_pool}.get(name, name)

    return make


@pytest.fixture
def executor(request: pytest.FixtureRequest, executor_named: Callable[[str], Any]) -> Any:
    return executor_named(request.param)


each_executor = pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
each_process_executor = pytest.mark.parametrize("executor", PROCESSES, indirect=True)


# Side by side ---------------------------------------------------------------------------------


@each_executor
def test_trials_run_side_by_side_where_they_are_said_to(
    executor: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    experiment = experiment_of(meet, initial_ctx={"folder": str(tmp_path), "number": 2})
    optimizer = grid([1.0, 2.0])

    assert experiment.optimize(optimizer, 2, executor=executor, max_concurrency=2).params["x"] == 1
    assert {o.status for o in optimizer.observations} == {Status.COMPLETED}
    pids = {o["pid"] for o in optimizer.observations}
    if executor == "threads":
        assert pids == {os.getpid()}
        assert threading.get_ident() not in {o["thread"] for o in optimizer.observations}
    else:
        assert len(pids) == 2
        assert os.getpid() not in pids


@each_executor
def test_a_free_worker_gets_the_next_trial_at_once(executor: Any, tmp_path: Path) -> None:
    """The first trial ends when three others have: with a barrier it would wait for ever."""
    experiment = experiment_of(mark_and_wait_for, initial_ctx={"folder": str(tmp_path)})
    optimizer = grid([0.0, 1.0, 2.0, 3.0])

    experiment.optimize(optimizer, 4, executor=executor, max_concurrency=2)

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

    assert search(executor=executor, max_concurrency=2) == search()


def test_a_batch_is_asked_for_jointly_and_told_before_the_next() -> None:
    calls: list[Any] = []

    class Batches(GridOptimizer):
        def ask(self, n: int = 1) -> list[Treatment]:
            calls.append(n)
            return super().ask(n)

        def tell(self, objective_values: Any) -> None:
            calls.append("tell")
            super().tell(objective_values)

    optimizer = Batches({"delta": [1.0, 2.0, 3.0, 4.0, 5.0]}, Objective("sum", "minimize"))
    toy_experiment().optimize(optimizer, 5, executor="threads", max_concurrency=2, batch=True)

    assert calls == [2, "tell", "tell", 2, "tell", "tell", 1, "tell"]


def test_a_plain_optimizer_is_told_in_its_own_order(tmp_path: Path) -> None:
    """It knows no pending trials. The first treatment of an ask ends last."""

    class AllAtOnce(PlainOptimizer):
        def ask(self) -> list[Treatment]:
            return self.treatments

    optimizer = AllAtOnce([0.0, 1.0, 2.0, 3.0], LOSS, "x")
    experiment = experiment_of(mark_and_wait_for, initial_ctx={"folder": str(tmp_path)})

    best = experiment.optimize(optimizer, 4, executor="threads", max_concurrency=4)

    assert best.params == {"x": 0.0}
    assert [told["loss"] for told in optimizer.told] == [0.0, 1.0, 2.0, 3.0]


def test_a_plain_optimizer_is_asked_again_when_it_has_been_told() -> None:
    optimizer = PlainOptimizer([2.0, 0.0, 1.0])

    best = toy_experiment().optimize(optimizer, 3, executor="threads", max_concurrency=3)

    assert best.params == {"delta": 0.0}
    assert [told["sum"] for told in optimizer.told] == [12.0, 6.0, 9.0]


class Pruning(GridOptimizer):
    """Ends every trial whose first replicate has a loss above 0."""

    def report(self, treatment: Treatment, replicate: int, metrics: Any) -> bool:
        return bool(metrics["loss"] > 0.0)


@pytest.mark.parametrize("executor", ["threads", "processes"], indirect=True)
def test_trials_are_pruned_between_replicates(executor: Any) -> None:
    def record(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x}

    optimizer = Pruning({"x": [1.0, 0.0, 2.0]}, LOSS)
    experiment_of(record).optimize(optimizer, 3, 3, executor=executor, max_concurrency=2)

    assert statuses(optimizer) == {0.0: Status.COMPLETED, 1.0: Status.PRUNED, 2.0: Status.PRUNED}
    assert {len(o.replicates) for o in optimizer.observations if o["loss"]} == {1}


@pytest.mark.parametrize("executor", ["threads", "processes"], indirect=True)
def test_asynchronous_steps_run_on_executors(executor: Any) -> None:
    async def record(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x}

    optimizer = grid([1.0, 0.0])
    best = experiment_of(record).optimize(optimizer, 2, executor=executor, max_concurrency=2)

    assert best.params == {"x": 0.0}


@pytest.mark.parametrize("executor", ["threads", "processes"], indirect=True)
def test_the_callers_generators_stay_as_they_were(executor: Any) -> None:
    def draw(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x + random.random() + np.random.rand()}

    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()

    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS)
    experiment_of(draw).optimize(optimizer, 8, 2, executor=executor, max_concurrency=3)

    after = random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()
    assert after == before


def test_setup_and_teardown_surround_each_trial_in_its_process(tmp_path: Path) -> None:
    from crystallize_opt import Pipeline
    from tests.toy import numbers
    from tests.trials import Recording

    step = Recording(str(tmp_path / "calls"))
    experiment = Experiment(numbers(), Pipeline([step]))
    experiment.optimize(grid([1.0, 2.0]), 2, 2, executor="processes")

    lines = (tmp_path / "calls").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["setup", "call", "call", "teardown"] * 2
    assert str(os.getpid()) not in {line.split()[1] for line in lines}


def test_a_trial_may_start_processes_of_its_own() -> None:
    optimizer = grid([1.0])
    experiment_of(start_a_process).optimize(optimizer, 1, executor="processes")

    assert optimizer.observations[0]["loss"] == 7.0


# What a dying trial costs ---------------------------------------------------------------------

# How a trial dies -> its status, and what its error says.
CAUSES: dict[str, tuple[Status, str]] = {
    "exception": (Status.FAILED, "ValueError: boom"),
    "unpicklable exception": (Status.FAILED, "CannotUnpickleError: cannot be unpickled"),
    "exit": (Status.FAILED, "SystemExit: 3"),
    "nan": (Status.INVALID, "is nan"),
    "inf": (Status.INVALID, "is inf"),
    "none": (Status.INVALID, "was not recorded as a number"),
    "missing": (Status.INVALID, "was not recorded as a number"),
    "wrong type": (Status.INVALID, "was not recorded as a number"),
    "unpicklable result": (Status.INVALID, "was not recorded as a number"),
    "memory error": (Status.OUT_OF_MEMORY, "MemoryError: too much"),
    "killed": (Status.WORKER_DIED, "died|SIGKILL"),
    "hang": (Status.TIMED_OUT, "its limit of 1 seconds"),
    "memory": (Status.OUT_OF_MEMORY, "memory limit: .* resident, 400 MB allowed"),
}
LIMITS = {"hang": TrialLimits(seconds=1), "memory": TrialLimits(memory="400MB")}
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "random": lambda: RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=1),
    "optuna": lambda: OptunaOptimizer({"x": (0.0, 1.0)}, LOSS, seed=1),
}


def check_deaths(death: str, optimizer: Any, executor: Any) -> None:
    status, error = CAUSES[death]
    dying(death, below=0.3).optimize(
        optimizer, 8, 2, executor=executor, max_concurrency=2, limits=LIMITS.get(death)
    )

    observations = optimizer.observations
    assert len(observations) == 8
    assert optimizer.pending == []
    dead = [o for o in observations if o.treatment.params["x"] < 0.3]
    assert dead
    assert {o.status for o in dead} == {status}
    for each in dead:
        assert pytest.raises(AssertionError, match=error).matches(AssertionError(each.error))
        if status is Status.FAILED:
            assert "Traceback" in str(each.traceback)
    assert {o.status for o in observations if o not in dead} == {Status.COMPLETED}
    if isinstance(optimizer, OptunaOptimizer):
        assert not [t for t in optimizer.study.trials if not t.state.is_finished()]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("death", CAUSES)
def test_a_dying_trial_costs_one_trial(death: str, optimizer: str) -> None:
    check_deaths(death, OPTIMIZERS[optimizer](), "processes")


@pytest.mark.parametrize("death", [d for d in CAUSES if d not in ("killed", "hang", "memory")])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_dying_trial_costs_one_trial_in_threads(death: str, optimizer: str) -> None:
    check_deaths(death, OPTIMIZERS[optimizer](), "threads")


@pytest.mark.parametrize(
    "death", ["unpicklable exception", "exit", "unpicklable result", "killed", "hang", "memory"]
)
@pytest.mark.parametrize("executor", ["spawn", "loky", "dask"], indirect=True)
def test_a_dying_trial_costs_one_trial_on_other_executors(death: str, executor: Any) -> None:
    """A broken pool is rebuilt, and the trials that were in flight with the dead one run again."""
    check_deaths(death, OPTIMIZERS["random"](), executor)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_after_many_deaths_it_still_suggests(optimizer: str) -> None:
    search = OPTIMIZERS[optimizer]()
    with pytest.raises(TrialsFailedError, match="Every one of the first 10 trials"):
        dying("killed", below=2.0).optimize(search, 30, executor="processes", max_concurrency=2)

    assert {o.status for o in search.observations} <= {Status.WORKER_DIED, Status.ABANDONED}
    assert search.pending == []
    assert len(search.ask(3)) == 3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_region_that_always_fails_is_no_trap(optimizer: str) -> None:
    """The best value would be at the far end of the half that fails."""
    search = OPTIMIZERS[optimizer]()
    dying("exception", below=0.5).optimize(search, 60, executor="threads", max_concurrency=2)

    last = [o.treatment.params["x"] for o in search.observations[-30:]]
    assert sum(x >= 0.5 for x in last) >= (15 if optimizer == "optuna" else 8)


@pytest.mark.parametrize("make", [spawn_pool, loky_pool])
def test_an_executor_given_as_an_object_ends_the_search_when_it_breaks(
    make: Callable[[], Executor],
) -> None:
    optimizer = grid([3.0, 2.0, 0.0, 1.0])
    with make() as executor, pytest.raises(ExecutorBrokenError, match="executor=lambda: ") as error:
        dying("killed").optimize(optimizer, 4, executor=executor)

    assert statuses(optimizer) == {
        3.0: Status.COMPLETED, 2.0: Status.COMPLETED, 0.0: Status.WORKER_DIED,
    }  # fmt: skip
    assert optimizer.pending == []
    assert error.value.best is optimizer.get_best_treatment()


def test_an_executor_given_as_an_object_is_not_shut_down() -> None:
    with ThreadPoolExecutor(1) as executor:
        toy_experiment().optimize(PlainOptimizer([1.0]), 1, executor=executor)
        assert executor.submit(int, "7").result() == 7


def test_an_executor_made_for_the_search_is_shut_down() -> None:
    made: list[ThreadPoolExecutor] = []

    def make() -> Executor:
        made.append(ThreadPoolExecutor(1))
        return made[-1]

    toy_experiment().optimize(PlainOptimizer([1.0]), 1, executor=make)

    with pytest.raises(RuntimeError, match="after shutdown"):
        made[0].submit(int)


class Duck:
    """An executor by its methods only, as those of mpi4py and ipyparallel are."""

    def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future


def test_an_executor_is_known_by_its_submit() -> None:
    optimizer = grid([1.0, 0.0])
    check: Any = Duck()

    assert dying("exception").optimize(optimizer, 2, executor=check).params == {"x": 1.0}
    assert statuses(optimizer) == {1.0: Status.COMPLETED, 0.0: Status.FAILED}


# Limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [None, "threads", lambda: ThreadPoolExecutor(1)])
@pytest.mark.parametrize("limits", [TrialLimits(seconds=1), TrialLimits(memory="1GB")], ids=repr)
def test_limits_that_cannot_be_enforced_are_refused(executor: Any, limits: TrialLimits) -> None:
    optimizer = grid([1.0])
    with pytest.raises(UsageError, match=r'cannot be enforced.*executor="processes"'):
        dying("nan").optimize(optimizer, 1, executor=executor, limits=limits)

    assert optimizer.observations == []


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_a_failed_trial_is_retried(executor: Any, tmp_path: Path) -> None:
    marks = str(tmp_path)

    def fail_twice(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        tries = len(list(Path(marks).iterdir()))
        Path(marks, str(tries)).touch()
        if tries < 2:
            raise ValueError("boom")
        return data, {"loss": x}

    optimizer = grid([1.0])
    limits = TrialLimits(retries=2)
    experiment_of(fail_twice).optimize(optimizer, 1, executor=executor, limits=limits)

    assert statuses(optimizer) == {1.0: Status.COMPLETED}
    assert len(optimizer.observations[0].replicates) == 1


@pytest.mark.parametrize(
    ("memory", "size"),
    [("2GB", 2 * 10**9), ("2 GiB", 2**31), ("0.5kb", 500), ("100", 100), (4096, 4096)],
)
def test_memory_is_a_number_of_bytes_or_a_text(memory: Any, size: int) -> None:
    assert TrialLimits(memory=memory).memory_bytes == size


@pytest.mark.parametrize(
    "arguments",
    [
        {"seconds": 0}, {"seconds": "1"}, {"seconds": float("nan")}, {"seconds": True},
        {"memory": "2 cats"}, {"memory": 0}, {"memory": "GB"}, {"memory": True},
        {"retries": -1}, {"retries": 1.5}, {"retries": True},
    ],
)  # fmt: skip
def test_limits_that_make_no_sense_are_refused(arguments: Any) -> None:
    (name,) = arguments
    with pytest.raises(UsageError, match=f"TrialLimits: {name} is"):
        TrialLimits(**arguments)


# What is refused, or reported early -----------------------------------------------------------


@pytest.mark.parametrize("executor", ["cluster", 3, b"threads"])
def test_what_is_no_executor_is_refused(executor: Any) -> None:
    with pytest.raises(UsageError, match="executor= takes 'threads', 'processes'"):
        toy_experiment().optimize(PlainOptimizer([1.0]), 1, executor=executor)


def test_what_a_function_makes_must_be_an_executor() -> None:
    def seven() -> Any:
        return 7

    with pytest.raises(UsageError, match="made 7, which is no Executor"):
        toy_experiment().optimize(PlainOptimizer([1.0]), 1, executor=seven)


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
        experiment_of(locked(threading.Lock())).optimize(optimizer, 1, executor=executor)

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
        experiment().optimize(grid(values), 1, executor="processes")


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
print(experiment.optimize(optimizer, 3, executor="processes", max_concurrency=2).params["x"])
print([o.status.value for o in optimizer.observations])
"""


@pytest.mark.parametrize("how", ["file", "stdin"])
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


# Ctrl-C and SIGTERM ---------------------------------------------------------------------------


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal, with the handlers of a fresh interpreter, which are there again afterwards."""
    fresh: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    before = {each: signal.signal(each, handler) for each, handler in fresh.items()}
    yield request.param
    assert {each: signal.getsignal(each) for each in fresh} == fresh
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_a_signal_ends_the_search_in_good_order(executor: Any, number: signal.Signals) -> None:
    driver = os.getpid()

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x == 2.0:
            os.kill(driver, number)
        return data, {"loss": x}

    experiment, optimizer = experiment_of(step), grid([1.0, 2.0, 0.0, 3.0, 4.0, 5.0])
    best = experiment.optimize(optimizer, 6, executor=executor, max_concurrency=1)

    assert best.params == {"x": 1.0}
    second = Status.COMPLETED if executor else Status.ABANDONED
    assert statuses(optimizer) == {1.0: Status.COMPLETED, 2.0: second}
    assert optimizer.pending == []
    assert experiment.stop_reason == f"interrupted by {number.name}"


def test_a_second_signal_does_not_wait(number: signal.Signals, tmp_path: Path) -> None:
    driver = os.getpid()

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x == 2.0:
            for _ in range(2):
                os.kill(driver, number)
                time.sleep(0.3)  # so that they are two, whichever way the system delivers them
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(60)
        return data, {"loss": x}

    experiment, optimizer = experiment_of(step), grid([1.0, 2.0, 0.0])
    best = experiment.optimize(optimizer, 3, executor="processes")

    assert best.params == {"x": 1.0}
    assert statuses(optimizer) == {1.0: Status.COMPLETED, 2.0: Status.ABANDONED}
    assert optimizer.pending == []


def test_observations_are_told_in_the_thread_of_the_search() -> None:
    threads: set[int] = set()

    class Watching(GridOptimizer):
        def ask(self, n: int = 1) -> list[Treatment]:
            threads.add(threading.get_ident())
            return super().ask(n)

        def tell(self, objective_values: Any) -> None:
            threads.add(threading.get_ident())
            assert isinstance(objective_values, Observation)
            super().tell(objective_values)

    optimizer = Watching({"delta": [1.0, 2.0, 3.0]}, Objective("sum", "minimize"))
    toy_experiment().optimize(optimizer, 3, executor="threads", max_concurrency=2)

    assert threads == {threading.get_ident()}
