"""What a killed process has left of BoTorch's build does not stop later searches."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from botorch.acquisition.multi_objective import logei
from torch.utils.cpp_extension import _get_build_directory

from crystallize_opt import Objective
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.adapters.ax import kernel


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the guard of a build in a folder of the test's own; nothing is loaded yet."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(logei, "_load_attempted", False)
    path = Path(_get_build_directory("logei_fused_ext", verbose=False)) / "lock"
    path.touch()
    return path


@pytest.mark.parametrize("several", [False, True])
def test_the_guard_of_a_dead_build_is_removed_where_the_kernel_is_needed(
    guard: Path, several: bool
) -> None:
    long_ago = time.time() - 3600
    os.utime(guard, (long_ago, long_ago))
    names = ["loss", "time"] if several else ["loss"]
    optimizer = AxOptimizer({"x": (0.0, 1.0)}, [Objective(n, "minimize") for n in names], seed=0)

    optimizer.ask()
    assert guard.exists() is not several


def test_a_build_that_goes_on_is_waited_for(guard: Path) -> None:
    waiter = threading.Thread(target=kernel.wait_for_build, daemon=True)
    waiter.start()
    waiter.join(0.1)
    assert waiter.is_alive()
    assert guard.exists()

    guard.unlink()  # The other process is done.
    waiter.join(60)
    assert not waiter.is_alive()


def test_no_build_is_waited_for_once_the_kernel_is_loaded(
    guard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logei, "_load_attempted", True)
    kernel.wait_for_build(longest=0.0)
    assert guard.exists()
