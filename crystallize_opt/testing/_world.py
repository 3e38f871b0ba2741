"""The global state of a process, which an optimizer must not change."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def world() -> dict[str, Any]:
    """Return the global state, including that of numpy and torch if they are loaded."""
    root = logging.getLogger()
    state: dict[str, Any] = {
        "the state of random": random.getstate(),
        "warnings.filters": list(warnings.filters),
        "warnings.showwarning": warnings.showwarning,
        "the root logger's level": (root.level, root.disabled, root.manager.disable),
        "the root logger's handlers": list(root.handlers),
        "the root logger's filters": list(root.filters),
        "the class of loggers": logging.getLoggerClass(),
        "os.environ": dict(os.environ),
        "the working directory": str(Path.cwd()),
        "sys.path": list(sys.path),
        "sys.excepthook": sys.excepthook,
        "the handler of SIGINT": signal.getsignal(signal.SIGINT),
    }
    return state | _world_of_numpy() | _world_of_torch()


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of the states that are in both mappings and differ."""
    return [name for name in before if name in after and before[name] != after[name]]


def disturb_random_state(seed: int) -> None:
    """Change the state of all loaded global random generators."""
    random.seed(seed)
    if (numpy := _loaded("numpy")) is not None:
        numpy.random.seed(seed)
    if (torch := _loaded("torch")) is not None:
        torch.manual_seed(seed)


class RandomStateKept:
    """Restores the global random generators at the end of a `with` block."""

    def __enter__(self) -> None:
        self._random = random.getstate()
        self._numpy, self._torch = _loaded("numpy"), _loaded("torch")
        if self._numpy is not None:
            self._numpy_state = self._numpy.random.get_state()
        if self._torch is not None:
            self._torch_state = self._torch.get_rng_state()

    def __exit__(self, *exception: object) -> None:
        random.setstate(self._random)
        if self._numpy is not None:
            self._numpy.random.set_state(self._numpy_state)
        if self._torch is not None:
            self._torch.set_rng_state(self._torch_state)


def _world_of_numpy() -> dict[str, Any]:
    numpy = _loaded("numpy")
    if numpy is None:
        return {}
    return {
        "the state of numpy.random": _plain(numpy.random.get_state(legacy=False)),
        "numpy.geterr()": numpy.geterr(),
    }


def _plain(state: Any) -> Any:
    """Return the state of a bit generator with arrays as bytes, so that `==` compares it."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tobytes() if hasattr(state, "tobytes") else state


def _world_of_torch() -> dict[str, Any]:
    torch = _loaded("torch")
    if torch is None:
        return {}
    return {
        "the state of torch's generator": torch.get_rng_state().tolist(),
        "torch's default type": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "whether torch is deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _loaded(module: str) -> Any:
    """Return a module, or None if it has not been imported completely."""
    loaded = sys.modules.get(module)
    spec = getattr(loaded, "__spec__", None)
    return None if getattr(spec, "_initializing", False) else loaded
