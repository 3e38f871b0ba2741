"""What Ax does to a process, and what an upgrade of it may break."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch
from ax.utils.common.logger import ROOT_STREAM_HANDLER

from crystallize_opt import Status
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.adapters.ax import client as ax_client
from crystallize_opt.testing._world import changed, world
from tests.adapters.ax.native import LOSS, SQUARE, generators_of, quick_strategy, tell


@pytest.mark.parametrize("name", ax_client.UNGUARANTEED)
def test_what_ax_does_not_guarantee_is_still_there(name: str) -> None:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in path.split("."):
        found = getattr(found, attribute)


# Nothing else happens -----------------------------------------------------------------------------


def test_the_model_leaves_the_process_as_it_was() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        before = world()
        optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
        assert changed(before, world()) == []
        for number in range(5):
            (treatment,) = optimizer.ask()
            assert changed(before, world()) == []
            tell(optimizer, treatment, Status.FAILED if number == 1 else Status.COMPLETED, loss=1.0)
            assert changed(before, world()) == []
        assert "BoTorch" in generators_of(optimizer)
    finally:
        torch.set_num_threads(threads)


IMPORTS = """
import logging, sys
from crystallize_opt import Objective
from crystallize_opt.adapters import AxOptimizer

print({"ax", "botorch", "pandas", "torch"} & set(sys.modules))
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
for _ in range(2):
    AxOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"))
"""


@pytest.mark.slow
def test_ax_is_imported_when_it_is_needed_and_once_announced() -> None:
    ran = subprocess.run(  # noqa: S603  (our own script)
        [sys.executable, "-W", "error", "-c", IMPORTS],
        capture_output=True,
        text=True,
        check=True,
    )

    needed, *said = ran.stdout.splitlines()
    assert needed == "set()"
    assert [line for line in said if "import" in line.lower()] == said[:1]
    assert "Ax" in said[0]
    assert "seconds" in said[0]
    assert ran.stderr == ""


def test_messages_of_ax_in_other_threads_are_not_dropped() -> None:
    handler = ROOT_STREAM_HANDLER
    record = logging.makeLogRecord({"msg": "hello", "levelno": logging.INFO})
    with ax_client._no_trace():
        assert not handler.filter(record)
        other = threading.Thread(target=lambda: seen.append(logging.makeLogRecord({"msg": "hi"})))
        seen: list[logging.LogRecord] = []
        other.start()
        other.join()
        assert handler.filter(seen[0])
    assert handler.filter(record)
