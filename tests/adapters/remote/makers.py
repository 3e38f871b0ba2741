"""Functions that build optimizers in the other process, some of which go wrong."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crystallize_opt import Capabilities, Observation, SpaceOptimizer
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.adapters.environments import InOwnEnvironment
from crystallize_opt.pipeline.context import logger


def make_tpe(*args: Any, seed: int, **options: Any) -> SpaceOptimizer[Any]:
    from optuna.samplers import TPESampler  # The others need not wait for this import.

    from crystallize_opt.adapters import OptunaOptimizer

    sampler = TPESampler(seed=seed, n_startup_trials=4)
    return OptunaOptimizer(*args, seed=seed, sampler=sampler, **options)


class Pruning(RandomOptimizer):
    """Ends a trial where its value is above the mean of all values that it has heard."""

    capabilities = Capabilities(unique_points=True, pruning=True)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._heard: list[float] = []

    def _report(self, handle: None, step: int, value: float) -> bool:
        self._heard.append(value)
        return value > sum(self._heard) / len(self._heard)


class Fickle(RandomOptimizer):
    """Suggests something else in each process."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._rng.seed(os.getpid())


def make_other_seed(*args: Any, seed: int, **options: Any) -> SpaceOptimizer[Any]:
    return RandomOptimizer(*args, seed=seed + 1, **options)


class Elsewhere(InOwnEnvironment[None], RandomOptimizer):
    """An optimizer whose library may be in another environment."""


class LibraryError(Exception):
    """An error of a class that only the other process knows."""


class Wayward(RandomOptimizer):
    """Does, at its n-th suggestion, what libraries do: `at` maps n to a deed.

    With `once`, a file, the deed is done once only, whatever process is asked.
    """

    def __init__(
        self, *args: Any, at: Mapping[str, str], once: str | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._at, self._once, self._asks = at, once, 0

    def _suggest(self) -> tuple[None, dict[str, Any]]:
        deed = self._at.get(str(self._asks))
        self._asks += 1
        if deed is not None and (self._once is None or not Path(self._once).exists()):
            if self._once is not None:
                Path(self._once).touch()
            self._do(deed)
        return super()._suggest()

    def _do(self, deed: str) -> None:
        if deed == "print":
            print('{"asked": "me"}\n["drop"]')
            os.write(1, b"from C\n")
            os.system("echo from a child; cat")  # noqa: S605, S607
        elif deed == "input":
            assert sys.stdin.read() == ""
        elif deed == "log":
            logger.warning("this is %s", "logged")
            warnings.warn("warned", stacklevel=1)
        elif deed == "exit":
            os.write(2, b"the library gives up\n")
            os._exit(7)
        elif deed == "hang":
            time.sleep(600)
        elif deed == "library error":
            raise LibraryError("no model")
        elif deed == "key error":
            raise KeyError("there")

    def _learn(self, handle: None, observation: Observation) -> None:
        if observation.status.has_failed:
            raise ZeroDivisionError("cannot learn this")
