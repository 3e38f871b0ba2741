"""Steps for the tests of executors: they run in other processes, so they are importable there."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from crystallize_opt import Experiment, FrozenContext, PipelineStep
from tests.toy import experiment_of


class CannotUnpickleError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("cannot be unpickled")


def hang_ignoring_sigterm() -> Any:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


def eat_memory() -> Any:
    eaten = []
    while True:
        eaten.append(b"x" * 20_000_000)
        time.sleep(0.001)


def raise_error(error: BaseException) -> Any:
    raise error


DEATHS: dict[str, Any] = {
    "exception": lambda: raise_error(ValueError("boom")),
    "unpicklable exception": lambda: raise_error(CannotUnpickleError(1, 2)),
    "nan": lambda: {"loss": float("nan")},
    "inf": lambda: {"loss": float("inf")},
    "none": lambda: {"loss": None},
    "missing": lambda: {"other": 1.0},
    "wrong type": lambda: {"loss": "0.5"},
    "exit": lambda: raise_error(SystemExit(3)),
    "unpicklable result": lambda: {"loss": threading.Lock()},
    "memory error": lambda: raise_error(MemoryError("too much")),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": hang_ignoring_sigterm,
    "memory": eat_memory,
}


def die(data: Any, ctx: FrozenContext, *, x: float, death: str, below: float) -> Any:
    """Die in the given way where `x` is below a value; the loss is `x`."""
    if x < below:
        return data, DEATHS[death]()
    return data, {"loss": x}


def dying(death: str, below: float = 0.5) -> Experiment:
    return experiment_of(die, initial_ctx={"death": death, "below": below}, seed=0)


def wait_until(condition: Any) -> None:
    """Look again and again; a minute is far more than it ever takes."""
    for _ in range(12_000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("waited in vain")


def meet(data: Any, ctx: FrozenContext, *, x: float, folder: str, number: int) -> Any:
    """Wait until `number` trials are here at the same time."""
    Path(folder, ctx["condition"]).touch()
    wait_until(lambda: len(list(Path(folder).iterdir())) >= number)
    return data, {"loss": x, "pid": os.getpid(), "thread": threading.get_ident()}


def die_or_meet(data: Any, ctx: FrozenContext, *, x: float, death: str, folder: str) -> Any:
    """Die in the given way where `x` is not above 0; the other two trials wait for each other."""
    if x <= 0.0:
        return data, DEATHS[death]()
    return meet(data, ctx, x=x, folder=folder, number=2)


def mark_and_wait_for(data: Any, ctx: FrozenContext, *, x: float, folder: str) -> Any:
    """Where `x` is 0, wait until three other trials have run."""
    if x == 0.0:
        wait_until(lambda: len(list(Path(folder).iterdir())) >= 3)
    else:
        Path(folder, ctx["condition"]).touch()
    return data, {"loss": x}


def start_a_process(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=os._exit, args=(7,))
    process.start()
    process.join()
    return data, {"loss": process.exitcode}


class Recording(PipelineStep):
    """Writes down what is called, and in which process."""

    def __init__(self, path: str) -> None:
        self.path = path

    def _write(self, what: str) -> None:
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(f"{what} {os.getpid()}\n")

    def setup(self, ctx: FrozenContext) -> None:
        self._write("setup")

    def teardown(self, ctx: FrozenContext) -> None:
        self._write("teardown")

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        self._write("call")
        return data, {"loss": ctx["x"]}
