"""A recorded optimizer that is driven from synchronous code, without a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna

from crystallize_opt import Objective, Observation, Storage, Treatment
from crystallize_opt.adapters import OptunaOptimizer
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.recording.resumed import Resumed
from crystallize_opt.runtime.sync import run_sync

LOSS = Objective("loss", "minimize")
SPACE = {"x": (0.0, 1.0), "kind": [None, True, (1, 2)]}


def tpe(seed: int = 1, **options: Any) -> OptunaOptimizer:
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=2)
    return OptunaOptimizer(SPACE, LOSS, seed=seed, sampler=sampler, **options)


class Driver:
    """Calls a recorded optimizer from synchronous code."""

    def __init__(self, optimizer: Any, path: Path | None = None, **storage: Any) -> None:
        self.recorded = RecordedOptimizer(optimizer, Storage(path, **storage) if path else None)
        try:
            self.resumed: Resumed = run_sync(self.recorded.resume())
        except BaseException:
            self.recorded.close()
            raise

    def ask(self, n: int = 1) -> list[Treatment]:
        return run_sync(self.recorded.ask(n))

    def tell(self, treatment: Treatment, **options: Any) -> list[Observation]:
        metrics = {"loss": treatment.params["x"]}
        return run_sync(self.recorded.tell(Observation(treatment, metrics, **options)))

    def close(self) -> None:
        self.recorded.close()
