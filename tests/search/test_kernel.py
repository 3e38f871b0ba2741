"""Searches in a real Jupyter kernel, and its interrupt button."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

# Jupyter's client warns of its event loop policy, and leaves sockets and loops to the collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

DEFINITIONS = """
import asyncio, threading
from pathlib import Path
from crystallize_opt import *
from crystallize_opt.adapters import GridOptimizer

FACTOR = 2.0

@data_source
def numbers(ctx):
    return [1.0]

@pipeline_step()
def fit(data, ctx, *, x):
    return data, {"loss": FACTOR * x}

@pipeline_step()
def hang(data, ctx, *, x):
    if x == 2.0:
        print("ready", flush=True)
        threading.Event().wait()
    return data, {"loss": x}

@pipeline_step()
async def hang_asynchronously(data, ctx, *, x):
    if x == 2.0:
        print("ready", flush=True)
        await asyncio.Event().wait()
    return data, {"loss": x}

@pipeline_step()
def wait_for_pipe(data, ctx, *, x, here, there):
    if x == 2.0:
        Path(here).write_text("here")
        Path(there).read_text()
    return data, {"loss": x}

def search(step, initial_ctx=None, **options):
    experiment = Experiment(numbers(), Pipeline([step]), initial_ctx=initial_ctx)
    optimizer = GridOptimizer({"x": [3.0, 1.0, 2.0, 0.0]}, Objective("loss", "minimize"))
    search = Search(experiment, optimizer, 4, progress=False, **options)
    best = search.run()
    statuses = [o.status.value for o in optimizer.observations]
    print(best.params["x"], statuses, len(optimizer.pending))
    print(search.stop_reason)
"""

Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def kernel() -> Iterator[tuple[Any, Any]]:
    manager, client = start_new_kernel()
    try:
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        del manager, client
        gc.collect()  # here, and not in a later test


@pytest.fixture
def run(kernel: tuple[Any, Any]) -> Run:
    """Run a cell and return the lines it prints; call a function when it prints "ready"."""
    _, client = kernel

    def execute(code: str, when_ready: Callable[[], None] | None = None) -> list[str]:
        request, text = client.execute(code), ""
        while True:
            message = client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            if message["msg_type"] == "error":
                raise AssertionError("\n".join(content["traceback"]))
            if message["msg_type"] == "stream":
                if content["name"] == "stderr":
                    assert content["text"].startswith("Stopping: "), content["text"]
                text += content["text"]
                if when_ready is not None and "ready" in text:
                    when_ready()
                    when_ready = None
            if content.get("execution_state") == "idle":
                return [line for line in text.splitlines() if line != "ready"]

    execute(DEFINITIONS)
    return execute


def test_what_a_notebook_defines_runs_in_processes(run: Run) -> None:
    assert run("search(fit(), workers=2)") == [
        "0.0 ['completed', 'completed', 'completed', 'completed'] 0",
        "4 trials have been run",
    ]


@pytest.mark.parametrize(
    "call", ["search(hang())", "search(hang_asynchronously())"], ids=["synchronous", "asynchronous"]
)
def test_the_interrupt_button_ends_a_trial(run: Run, kernel: tuple[Any, Any], call: str) -> None:
    assert run(call, kernel[0].interrupt_kernel) == [
        "1.0 ['completed', 'completed', 'abandoned'] 0",
        "interrupted by SIGINT",
    ]


def test_the_interrupt_button_waits_for_processes(
    run: Run, kernel: tuple[Any, Any], tmp_path: Path
) -> None:
    """The button reaches every process of the kernel's group; the trial runs to its end."""
    here, there = tmp_path / "here", tmp_path / "there"
    os.mkfifo(here)
    os.mkfifo(there)

    def interrupt() -> None:
        assert here.read_text() == "here"
        kernel[0].interrupt_kernel()
        there.write_text("go on")

    thread = threading.Thread(target=interrupt)
    thread.start()
    context = {"here": str(here), "there": str(there)}
    lines = run(f"search(wait_for_pipe(), {context}, workers=1)")
    thread.join()

    # No line says that the search waits if the trial ends before the search sees the signal.
    assert [line for line in lines if not line.startswith("Stopping: the search waits for 1 ")] == [
        "1.0 ['completed', 'completed', 'completed'] 0",
        "interrupted by SIGINT",
    ]
