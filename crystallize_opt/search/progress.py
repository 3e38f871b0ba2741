"""The progress bar."""

from __future__ import annotations

import sys
from typing import Any

from crystallize_opt.errors import printable
from crystallize_opt.search.callbacks import (
    Event,
    RunStarted,
    RunStopped,
    TrialAsked,
    TrialTold,
)
from crystallize_opt.trials.best import BestSoFar
from crystallize_opt.trials.observation import Observation


def wants_progress(progress: bool | None) -> bool:
    """Whether to show a bar. None: if stderr is a terminal, or in a notebook."""
    if progress is not None:
        return bool(progress)
    return sys.stderr is not None and (sys.stderr.isatty() or _in_notebook())


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code. Ax alone already loads the kernel's package."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")


class ProgressBar:
    """A callback that shows a tqdm bar: the best value, failures, and running trials."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._metric = ""
        self._best: BestSoFar | None = None  # None with several objectives: no single best value.
        self._failed = 0
        self._running = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._begin(event)
        elif self._bar is None:
            return
        elif isinstance(event, TrialAsked):
            self._running += 1
        elif isinstance(event, TrialTold):
            self._add(event.observation)
        elif isinstance(event, RunStopped):
            self._bar.close()
            self._bar = None

    def _begin(self, event: RunStarted) -> None:
        from tqdm.auto import tqdm

        if len(event.objectives) == 1:
            self._metric = event.objectives[0].metric
            self._best = BestSoFar(event.criterion)
        self._bar = tqdm(
            total=event.num_trials,
            initial=len(event.resumed),
            desc=printable(event.optimizer),
            unit="trial",
        )
        for observation in event.resumed:
            self._note(observation)

    def _note(self, observation: Observation) -> None:
        if self._best is not None:
            self._best.add(observation)
        self._failed += observation.status.has_failed

    def _add(self, observation: Observation) -> None:
        self._running -= 1
        self._note(observation)
        shown: dict[str, object] = {}
        if self._best is not None and self._best.best is not None:
            shown[f"best {printable(self._metric)}"] = self._best.best[self._metric]
        shown["failed"] = self._failed
        if self._running:
            shown["running"] = self._running
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()
