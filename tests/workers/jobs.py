"""Steps for the tests of executors: they run in other processes, so they are importable there."""

import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any, Self

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
    "killed": lambda: os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM)),
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


class Meeting:
    """Lets trials wait for each other, in whichever threads and processes they run.

    Args:
        number: How many trials must have come before those that wait go on.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._listener = Listener()
        self.address: Any = self._listener.address
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with Client(self.address) as end:
            end.send(None)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        names: set[str] = set()
        waiting: list[Any] = []
        while True:
            connection = self._listener.accept()
            came = connection.recv()
            if came is None:
                break
            names.add(came)
            waiting.append(connection)
            if len(names) >= self._number:
                for each in waiting:
                    each.close()
        for each in (*waiting, connection):
            each.close()


def come_to(meeting: Any, name: str, *, wait: bool) -> None:
    """Come to a meeting, by its address, and wait until all are there."""
    with Client(meeting) as connection:
        connection.send(name)
        if wait:
            with suppress(EOFError):
                connection.recv()


def meet(data: Any, ctx: FrozenContext, *, x: float, meeting: Any) -> Any:
    """Wait until as many trials are here at the same time as belong to the meeting."""
    come_to(meeting, ctx["condition"], wait=True)
    return data, {"loss": x, "pid": os.getpid(), "thread": threading.get_ident()}


def die_or_meet(data: Any, ctx: FrozenContext, *, x: float, death: str, meeting: Any) -> Any:
    """Die in the given way where `x` is not above 0; the other trials meet."""
    if x <= 0.0:
        return data, DEATHS[death]()
    return meet(data, ctx, x=x, meeting=meeting)


def come_or_wait(data: Any, ctx: FrozenContext, *, x: float, meeting: Any) -> Any:
    """Come to the meeting; where `x` is 0, wait for all others."""
    come_to(meeting, ctx["condition"], wait=x == 0.0)
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
