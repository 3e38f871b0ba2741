"""The process of an optimizer: its end, its silence, what its library prints, who ends it."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from crystallize_opt import Objective, Observation, SpaceOptimizer, Status, Treatment
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer, RemoteOptimizer
from crystallize_opt.adapters.remote.process import interpreter
from crystallize_opt.errors import RemoteError, ReplayDiverged
from tests.adapters.remote import makers

LOSS = Objective("loss", "minimize")
SPACE = {"x": (0.0, 1.0), "k": ["a", "b"]}


def wayward(**options: Any) -> RemoteOptimizer:
    return RemoteOptimizer(makers.Wayward, SPACE, LOSS, seed=0, **options)


def expected(trials: int) -> list[dict[str, Any]]:
    optimizer = RandomOptimizer(SPACE, LOSS, seed=0)
    return [dict(each.params) for each in optimizer.ask(trials)]


def points(optimizer: SpaceOptimizer[Any], trials: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(trials):
        (treatment,) = optimizer.ask()
        found.append(dict(treatment.params))
        optimizer.tell({"loss": treatment.params["x"]})
    return found


# It dies, or does not answer ------------------------------------------------------------------


def talk(optimizer: SpaceOptimizer[Any], kill: bool) -> list[Any]:
    """Use every call; with `kill`, the process is killed before every fourth."""
    found: list[Any] = []
    calls = itertools.count()

    def strike() -> None:
        if kill and next(calls) % 4 == 0:
            assert isinstance(optimizer, RemoteOptimizer)
            os.kill(optimizer.pid, signal.SIGKILL)

    for number in range(8):
        strike()
        asked = optimizer.ask(1 + number % 2)
        found += [dict(each.params) for each in asked]
        strike()
        if number == 2:
            optimizer.enqueue({"k": "b"})
        if number == 3:
            attached = Treatment("attached", {"x": 0.5, "k": "a"})
            optimizer.attach(Observation(attached, {"loss": 0.5}))
        if number == 4:
            optimizer.abandon(asked[0])
            strike()
            optimizer.tell(Observation(asked[0], {"loss": 3.0}))
        for treatment in optimizer.pending[:-1]:
            strike()
            found.append(optimizer.report(treatment, 0, {"accuracy": 9.0, "loss": 2.0}))
            strike()
            found.append(optimizer.report(treatment, 1, treatment.params["x"]))
            strike()
            optimizer.tell(Observation(treatment, {"loss": treatment.params["x"]}))
    return found


def test_a_killed_process_is_started_again_and_the_search_goes_on() -> None:
    there = RemoteOptimizer(makers.Pruning, SPACE, LOSS, seed=0)

    assert talk(there, kill=True) == talk(makers.Pruning(SPACE, LOSS, seed=0), kill=False)


def test_a_saved_state_shortens_the_way_back() -> None:
    here = OptunaOptimizer(SPACE, LOSS, seed=0)
    there = RemoteOptimizer(OptunaOptimizer, SPACE, LOSS, seed=0)
    assert points(here, 15) == points(there, 15)
    assert there.saved_state() == here.saved_state()
    assert points(here, 3) == points(there, 3)

    os.kill(there.pid, signal.SIGKILL)

    assert points(here, 5) == points(there, 5)


def test_points_that_are_enqueued_while_the_process_dies_come_once() -> None:
    optimizer = RemoteOptimizer(RandomOptimizer, SPACE, LOSS, seed=0)
    points(optimizer, 1)
    os.kill(optimizer.pid, signal.SIGKILL)

    optimizer.enqueue({"x": 0.25, "k": "a"}, {"x": 0.75, "k": "b"})

    found = [point["x"] for point in points(optimizer, 4)]
    assert found[:2] == [0.25, 0.75]
    assert not {0.25, 0.75} & {*found[2:]}


def test_a_process_that_suggests_something_else_is_never_used() -> None:
    optimizer = RemoteOptimizer(makers.Fickle, SPACE, LOSS, seed=0)
    points(optimizer, 2)
    os.kill(optimizer.pid, signal.SIGKILL)

    for _ in range(2):
        with pytest.raises(ReplayDiverged, match="trial_0"):
            optimizer.ask()


def test_a_process_that_exits_in_a_call_is_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    optimizer = wayward(at={"3": "exit"}, once=str(tmp_path / "once"))

    assert points(optimizer, 6) == expected(6)
    assert "exit code 7" in caplog.text
    assert "the library gives up" in caplog.text


def test_a_process_that_does_not_answer_is_killed_and_started_again(tmp_path: Path) -> None:
    optimizer = wayward(at={"2": "hang"}, once=str(tmp_path / "once"), timeout=3.0)

    assert points(optimizer, 4) == expected(4)


def test_a_process_that_dies_twice_in_a_call_is_an_error_that_shows_its_last_words() -> None:
    optimizer = wayward(at={"2": "exit"})
    assert points(optimizer, 2) == expected(2)

    with pytest.raises(RemoteError, match="exit code 7") as error:
        optimizer.ask()

    assert "the library gives up" in str(error.value)
    assert len(optimizer.observations) == 2


# Errors and output of libraries ---------------------------------------------------------------


def test_an_error_has_its_type_and_text() -> None:
    optimizer = wayward(at={"0": "library error", "1": "key error"})

    with pytest.raises(RemoteError, match="LibraryError: no model"):
        optimizer.ask()
    with pytest.raises(KeyError, match="there"):
        optimizer.ask()
    (treatment,) = optimizer.ask()
    with pytest.raises(ZeroDivisionError, match="cannot learn this"):
        optimizer.tell(Observation(treatment, status=Status.FAILED))
    assert optimizer.pending == [treatment]
    optimizer.tell({"loss": 1.0})


def test_a_batch_that_an_error_ends_is_recorded_so_far() -> None:
    optimizer = wayward(at={"2": "key error"})

    with pytest.raises(KeyError):
        optimizer.ask(4)

    assert [dict(each.params) for each in optimizer.pending] == expected(2)


def test_what_a_library_prints_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    optimizer = wayward(at={"0": "print", "1": "input"})

    assert points(optimizer, 3) == expected(3)
    assert capfd.readouterr() == ("", "")


def test_what_is_logged_there_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    optimizer = wayward(at={"1": "log"})

    points(optimizer, 2)

    (record,) = caplog.records
    expected_record = ("crystallize_opt", logging.WARNING, "this is logged")
    assert (record.name, record.levelno, record.getMessage()) == expected_record


# Who uses, and who ends a process -------------------------------------------------------------


def test_the_next_optimizer_uses_the_process_of_one_that_is_gone() -> None:
    first = RemoteOptimizer(RandomOptimizer, SPACE, LOSS, seed=0)
    pid = first.pid
    second = RemoteOptimizer(RandomOptimizer, SPACE, LOSS, seed=0)
    assert second.pid != pid
    del first
    gc.collect()

    third = RemoteOptimizer(RandomOptimizer, SPACE, LOSS, seed=0)

    assert third.pid == pid
    assert points(third, 3) == points(second, 3) == expected(3)


def test_the_process_of_a_users_module_is_not_used_again() -> None:
    optimizer = wayward(at={})
    process = psutil.Process(optimizer.pid)
    del optimizer
    gc.collect()

    assert not process.is_running()


PARENT = """
import os, sys, time
from crystallize_opt import Objective
from crystallize_opt.adapters import RemoteOptimizer
from tests.adapters.remote import makers

optimizer = RemoteOptimizer(
    makers.Wayward, {"x": (0.0, 1.0)}, Objective("m", "minimize"), seed=0, at={"0": "hang"}
)
if "fork" in sys.argv:
    if os.fork() == 0:  # It has the pipes open, too.
        time.sleep(600)
print(optimizer.pid, flush=True)
if "busy" in sys.argv:
    optimizer.ask()
time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL and fork")
@pytest.mark.parametrize("how", ["idle", "busy", "fork"])
def test_the_process_ends_with_a_killed_parent(how: str) -> None:
    if how == "fork" and sys.platform != "linux":
        pytest.skip("the process looks for its parent once a second only")
    parent = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", PARENT, how],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        child.wait(timeout=30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)  # And its fork.
        assert parent.stdout is not None
        parent.stdout.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_of_this_process_gets_its_own() -> None:
    script = textwrap.dedent("""
        import os, sys
        from crystallize_opt import Objective
        from crystallize_opt.adapters import RandomOptimizer, RemoteOptimizer

        loss = Objective("loss", "minimize")
        optimizer = RemoteOptimizer(RandomOptimizer, {"x": (0.0, 1.0)}, loss, seed=0)
        here = RandomOptimizer({"x": (0.0, 1.0)}, loss, seed=0)
        optimizer.ask(), here.ask()
        pid = optimizer.pid
        child = os.fork()
        same = optimizer.ask()[0].params == here.ask()[0].params
        if child == 0:
            assert same and optimizer.pid != pid
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        assert same and optimizer.pid == pid
        assert optimizer.ask()[0].params == here.ask()[0].params
    """)
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_an_interrupt_leaves_an_optimizer_that_goes_on(tmp_path: Path) -> None:
    optimizer = wayward(at={"1": "hang"}, once=str(tmp_path / "once"))
    assert points(optimizer, 1) == expected(1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            optimizer.ask()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert points(optimizer, 3) == expected(4)[1:]


def test_the_interpreter_may_be_the_folder_of_an_environment(tmp_path: Path) -> None:
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    scripts.mkdir(parents=True)
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    python.symlink_to(sys.executable)

    assert interpreter(tmp_path / "env") == interpreter(python) == str(python)
    assert interpreter(None) == sys.executable
    assert interpreter(tmp_path) is None
