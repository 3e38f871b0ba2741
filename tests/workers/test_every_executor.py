"""What a step does means the same on every executor: names, numbers, data, logs, tear-down."""

from __future__ import annotations

import enum
import logging
import multiprocessing
import os
import pickle
import tempfile
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pytest

from crystallize_opt import (
    Experiment,
    FrozenContext,
    Observation,
    Pipeline,
    PipelineStep,
    Status,
    TrialLimits,
    data_source,
)
from crystallize_opt.errors import TeardownError, UsageError
from crystallize_opt.storage.lease import Lease
from crystallize_opt.workers.workers import Workers
from tests.toy import experiment_of
from tests.workers.pools import grid, loky_pool

HOMES = [
    "in process",
    "asynchronous",
    "threads",
    "processes",
    "spawn",
    "dask",
    pytest.param("loky", marks=pytest.mark.slow),
]


class Names(enum.StrEnum):
    LOSS = "loss"


class Config(dict[str, Any]):
    """Has every attribute, as the configurations of many libraries do."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)


class Awaitable:
    """Its objects are awaitable; the class itself is data."""

    def __await__(self) -> Any:
        raise AssertionError


@data_source
def configuration(ctx: FrozenContext) -> Any:
    return Config(rate=0.5)


class Travels:
    """Notes in which process it is pickled, and in which it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getstate__(self) -> Path:
        self._note("pickled")
        return self.path

    def __setstate__(self, path: Path) -> None:
        self.path = path
        self._note("unpickled")

    def _note(self, what: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{what} {os.getpid()}\n")


class Case(PipelineStep):
    """Does what its parameter says. Its `teardown` always fails."""

    def __init__(self, travels: Travels) -> None:
        self.travels = travels
        self.data = os.urandom(2**20)

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        assert isinstance(data, Config)
        return CASES[ctx["x"]](ctx)

    def teardown(self, ctx: FrozenContext) -> None:
        raise OSError("the folder is gone already")


class AsynchronousCase(Case):
    async def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        return super().__call__(data, ctx)


class Pass(PipelineStep):
    """Gets the data of the step before."""

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        return data


def log(ctx: FrozenContext) -> Any:
    ctx.logger.info("from %s", "the step")
    quiet, loud = logging.getLogger("tests.quiet"), logging.getLogger("tests.loud")
    quiet.info("too quiet")
    quiet.error("an error")
    loud.debug("a detail", extra={"lock": threading.Lock(), "rate": 0.5})
    try:
        raise ValueError("boom")
    except ValueError:
        loud.exception("failed")
    thread = threading.Thread(target=loud.warning, args=("from a thread",))
    thread.start()
    thread.join()
    return None, {"loss": 1.0}


CASES: dict[str, Callable[[FrozenContext], Any]] = {
    "a class as data": lambda _: (Awaitable, {"loss": 1.0}),
    "a subclass of str": lambda ctx: ctx.metrics.add(Names.LOSS, 1.0),
    "a subclass of str, returned": lambda _: (Config(), {Names.LOSS: 1.0}),
    "a tuple": lambda ctx: ctx.metrics.add(("train", "loss"), 1.0),  # type: ignore[arg-type]
    "an integer, returned": lambda _: (Config(), {0: 1.0}),
    "an array": lambda ctx: ctx.metrics.add("loss", np.array([0.5])),
    "a masked number": lambda ctx: ctx.metrics.add("loss", np.ma.array([1.0], mask=True).mean()),
    "a number, returned": lambda _: 0.25,
    "data and a number, returned": lambda ctx: (ctx, 0.25),
    "a mapping, returned": lambda _: {"loss": 0.25},
    "logs": log,
}

RIGHT = {
    "a class as data": (Status.COMPLETED, ""),
    "a subclass of str": (Status.COMPLETED, ""),
    "a subclass of str, returned": (Status.COMPLETED, ""),
    "a tuple": (Status.FAILED, "UsageError: The name of a metric is a text, not ('train', 'loss')"),
    "an integer, returned": (Status.FAILED, "The name of a metric is a text, not 0 (int)"),
    "an array": (Status.INVALID, "Recorded as 'loss': array([0.5]) (numpy.ndarray)"),
    "a masked number": (Status.INVALID, "Recorded as 'loss': masked (numpy.ma"),
    "a number, returned": (
        Status.INVALID,
        "The last step returned 0.25 (float): record it with ctx.metrics.add('loss', value)",
    ),
    "data and a number, returned": (Status.INVALID, "The last step returned 0.25 (float)"),
    "a mapping, returned": (
        Status.INVALID,
        "The last step returned {'loss': 0.25} (dict): record it with ctx.metrics.add('loss'",
    ),
    "logs": (Status.COMPLETED, ""),
}


class Weighing(ProcessPoolExecutor):
    """Weighs what it is given to send."""

    def __init__(self) -> None:
        super().__init__(2, mp_context=multiprocessing.get_context("spawn"))
        self.weights: list[int] = []

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.weights.append(len(pickle.dumps((function, args, kwargs))))
        return super().submit(function, *args, **kwargs)


class Outcome(NamedTuple):
    observations: list[Observation]
    error: BaseException
    records: list[logging.LogRecord]
    travels: list[str]
    in_processes: bool
    weights: list[int]


class Kept(logging.Handler):
    """Keeps the records that reach the root logger; as a context, with these tests' levels."""

    LEVELS: ClassVar[dict[str, int]] = {
        "crystallize_opt": logging.INFO,
        "tests.quiet": logging.ERROR,
        "tests.loud": logging.DEBUG,
    }

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        for name, level in self.LEVELS.items():
            logging.getLogger(name).setLevel(level)
        return self

    def __exit__(self, *exception: object) -> None:
        logging.getLogger().removeHandler(self)
        for name in self.LEVELS:
            logging.getLogger(name).setLevel(logging.NOTSET)


def _is_of_a_step(record: logging.LogRecord) -> bool:
    """Whether the step `log` made a record; the search logs its failures and its end itself."""
    return record.name.startswith("tests.") or record.pathname == __file__


@pytest.fixture(scope="module", params=HOMES)
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    home = request.param
    weighing = Weighing()
    kinds: dict[str, Any] = {"in process": None, "spawn": lambda: weighing, "loky": loky_pool}
    kind = kinds.get(home, home)
    if home == "asynchronous":
        kind = None
    elif home == "dask":
        kind = request.getfixturevalue("dask_pool")
    workers = Workers(kind, 1 if home == "in process" else 2)
    travels = Travels(tmp_path_factory.mktemp("travels") / "notes")
    travels.path.touch()
    step = (AsynchronousCase if home == "asynchronous" else Case)(travels)
    optimizer = grid(list(CASES))
    experiment = Experiment(configuration(), Pipeline([step, Pass()]), seed=0)
    with Kept() as kept, pytest.raises(Exception, match="the folder is gone already") as caught:
        experiment.optimize(optimizer, len(CASES), workers=workers)
    return Outcome(
        optimizer.observations,
        caught.value,
        [record for record in kept.records if _is_of_a_step(record)],
        travels.path.read_text().splitlines(),
        not workers.in_this_process,
        weighing.weights,
    )


@pytest.mark.parametrize("case", CASES)
def test_a_step_means_the_same(outcome: Outcome, case: str) -> None:
    (observation,) = [o for o in outcome.observations if o.treatment.params["x"] == case]
    status, error = RIGHT[case]

    assert observation.status is status
    assert error in str(observation.error)
    if status is Status.COMPLETED:
        assert dict(observation) == {"loss": 1.0}
        assert {type(name) for name in observation} == {str}


def test_the_error_of_a_teardown_is_raised_once(outcome: Outcome) -> None:
    """It is raised when every trial has been reported, and has the best of them."""
    assert len(outcome.observations) == len(CASES)
    assert isinstance(outcome.error, TeardownError)
    (error,) = outcome.error.errors
    assert "the folder is gone already" in str(error)
    assert "In the teardown of step" in str(outcome.error)
    best = outcome.error.result
    assert best in [each.treatment for each in outcome.observations if each.get("loss") == 1.0]


def test_log_records_reach_the_loggers_of_the_search(outcome: Outcome) -> None:
    shown = [(r.name, r.levelname, r.getMessage()) for r in outcome.records]

    assert shown == [
        ("crystallize_opt", "INFO", "from the step"),
        ("tests.quiet", "ERROR", "an error"),
        ("tests.loud", "DEBUG", "a detail"),
        ("tests.loud", "ERROR", "failed"),
        ("tests.loud", "WARNING", "from a thread"),
    ]
    assert {record.process != os.getpid() for record in outcome.records} == {outcome.in_processes}
    assert vars(outcome.records[2])["rate"] == 0.5
    assert 'raise ValueError("boom")' in logging.Formatter().format(outcome.records[3])


def log_a_notice_and_warn(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    logging.getLogger("tests.loud").log(27, "about %s", x)
    warnings.warn("look out", stacklevel=1)
    return data, {"loss": x}


@pytest.mark.parametrize("captured", [True, False])
def test_names_of_levels_and_captured_warnings_are_those_of_the_search(
    captured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(logging._levelToName, 27, "NOTICE")
    logging.captureWarnings(captured)
    try:
        with Kept() as kept:
            experiment_of(log_a_notice_and_warn).optimize(grid([1.0]), 1, workers=1)
    finally:
        logging.captureWarnings(False)

    shown = [(r.name, r.levelname) for r in kept.records if r.process != os.getpid()]
    assert shown == [("tests.loud", "NOTICE"), ("py.warnings", "WARNING")][: 1 + captured]


def test_the_experiment_is_sent_once_to_each_worker(outcome: Outcome) -> None:
    pickled = [line for line in outcome.travels if line.startswith("pickled")]
    unpickled = [line for line in outcome.travels if line.startswith("unpickled")]

    assert pickled == [f"pickled {os.getpid()}"] * outcome.in_processes
    assert len(unpickled) == len(set(unpickled)) <= 2
    assert bool(unpickled) == outcome.in_processes
    assert all(weight < 2**12 for weight in outcome.weights)


# What is sent with a trial --------------------------------------------------------------------


class Heavy(PipelineStep):
    """Has a megabyte of data."""

    def __init__(self) -> None:
        self.data = os.urandom(2**20)

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        return data, {"loss": ctx["x"] + len(self.data)}


class Elsewhere(Executor):
    """Workers on another machine, which has not the files of this one."""

    def __init__(self) -> None:
        self.weights: list[int] = []

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        for each in args:
            if isinstance(each, (str, Lease)):
                Path(each[0] if isinstance(each, Lease) else each).unlink(missing_ok=True)
        self.weights.append(len(pickle.dumps((function, args, kwargs))))
        future: Future[Any] = Future()
        future.set_result(pickle.loads(pickle.dumps(function(*args, **kwargs))))  # noqa: S301
        return future


def test_a_worker_without_the_file_gets_the_experiment(tmp_path: Path) -> None:
    optimizer = grid([0.0, 1.0, 2.0, 3.0])
    with Elsewhere() as executor:
        Experiment(configuration(), Pipeline([Heavy()])).optimize(
            optimizer, 4, workers=Workers(executor, 1), storage=tmp_path / "r.db"
        )

    assert {o.status for o in optimizer.observations} == {Status.COMPLETED}
    assert sum(weight > 2**20 for weight in executor.weights) == 1
    assert sum(weight < 2**12 for weight in executor.weights) == 4


def test_nothing_is_left_of_what_was_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Elsewhere() as executor:
        Experiment(configuration(), Pipeline([Heavy()])).optimize(
            grid([0.0, 1.0]), 2, workers=Workers(executor, 1)
        )

    assert list(tmp_path.iterdir()) == []


# A daemonic parent ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["processes", "pool", "function"])
def test_a_daemonic_parent_is_refused_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    monkeypatch.setitem(config, "daemon", True)
    kinds: dict[str, Any] = {"pool": Weighing(), "function": Weighing}
    optimizer = grid([0.0, 1.0])
    with pytest.raises(UsageError, match=r"This process is daemonic.*workers='threads'"):
        Experiment(configuration(), Pipeline([Heavy()])).optimize(
            optimizer, 2, workers=Workers(kinds.get(kind, kind), 2)
        )

    assert optimizer.events == []


def test_daemonic_workers_cannot_hold_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = grid([0.0, 1.0])
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    monkeypatch.setitem(config, "daemon", True)
    with Elsewhere() as executor, pytest.raises(UsageError, match=r"\.daemon\": False"):
        Experiment(configuration(), Pipeline([Heavy()])).optimize(
            optimizer, 2, workers=Workers(executor, 1, limits=TrialLimits(seconds=60))
        )

    assert {o.status for o in optimizer.observations} == {Status.ABANDONED}
    assert len(optimizer.observations) == 1
