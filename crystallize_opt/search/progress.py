"""The progress bar."""

from __future__ import annotations

import sys
from typing import Any

from crystallize_opt.search.callbacks import (
    Event,
    RunStarted,
    RunStopped,
    TrialAsked,
    TrialTold,
)
from crystallize_opt.trials.observation import Observation, Status


def wants_progress(progress: bool | None) -> bool:
    """Whether to show a bar. None: where stderr is a terminal, or in a notebook."""
    if progress is not None:
        return bool(progress)
    return sys.stderr is not None and (sys.stderr.isatty() or _in_notebook())


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code. That its package is loaded says nothing: Ax does."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")


class ProgressBar:
    """A callback that shows a tqdm bar: the best value, failures, and running trials."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._metric: str | None = None
        self._sign = 1.0
        self._best: float | None = None
        self._failed = 0
        self._running = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            from tqdm.auto import tqdm

            if len(event.objectives) == 1:  # several objectives have no best value
                self._metric, self._sign = event.objectives[0].metric, event.objectives[0].sign
            self._bar = tqdm(
                total=event.num_trials,
                initial=len(event.resumed),
                desc=event.optimizer,
                unit="trial",
            )
            for observation in event.resumed:
                self._note(observation)
        elif self._bar is None:
            return
        elif isinstance(event, TrialAsked):
            self._running += 1
        elif isinstance(event, TrialTold):
            self._add(event.observation)
        elif isinstance(event, RunStopped):
            self._bar.close()
            self._bar = None

    def _note(self, observation: Observation) -> None:
        if observation.status is Status.COMPLETED and self._metric is not None:
            value = observation[self._metric]
            if self._best is None or self._sign * value < self._sign * self._best:
                self._best = value
        elif observation.status not in (Status.COMPLETED, Status.PRUNED):
            self._failed += 1

    def _add(self, observation: Observation) -> None:
        self._running -= 1
        self._note(observation)
        shown: dict[str, object] = {}
        if self._best is not None:
            shown[f"best {self._metric}"] = self._best
        shown["failed"] = self._failed
        if self._running:
            shown["running"] = self._running
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()
