"""What a person sees while a search runs: a progress bar, or a line every minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from crystallize_opt.errors import UsageError, printable
from crystallize_opt.pipeline.context import logger
from crystallize_opt.runtime.shown import duration, number
from crystallize_opt.search.callbacks import (
    Event,
    RunStarted,
    RunStopped,
    TrialAsked,
    TrialRepeated,
    TrialStarted,
    TrialTold,
)
from crystallize_opt.trials.best_so_far import BestSoFar
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.raced import suggestions_of

if TYPE_CHECKING:
    from crystallize_opt.history.history import History

_SECONDS = 60.0  # between two lines


def progress_shown(progress: bool | Literal["log"] | None) -> ProgressBar | ProgressLines | None:
    """Return what shows the progress of a search; None for nothing.

    Args:
        progress: See `SearchSettings`.

    Raises:
        UsageError: The argument is none of the allowed ones.
    """
    if progress not in (True, False, None, "log"):
        raise UsageError(f"progress= is True, False, None or 'log', not {progress!r}.")
    if progress == "log":
        return ProgressLines(logger.info, _SECONDS)
    if progress is False or sys.stderr is None:
        return None
    if progress or sys.stderr.isatty() or _in_notebook():
        return ProgressBar()
    return ProgressLines(_to_stderr, _SECONDS)


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def waits_for(running: int) -> None:
    """Tell a person who has interrupted a search why it does not end at once."""
    trials = f"{running} running trial{'s' * (running > 1)}"
    text = f"Stopping: the search waits for {trials}. Interrupt again to abandon them."
    logger.info(text)
    if sys.stderr is not None:
        _to_stderr(text)


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code. Ax alone already loads the kernel's package."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")


class ProgressLines:
    """Writes how far a search is, at most once in a given time, when a trial has finished.

    Args:
        write: Called with each line.
        every: The seconds between two lines.
    """

    def __init__(self, write: Callable[[str], object], every: float) -> None:
        self._write = write
        self._every = every

    def begin(self, title: str, num_trials: int, resumed: int) -> None:
        """Start the clock."""
        self._title, self._num_trials, self._finished = title, num_trials, resumed
        self._began = time.monotonic()
        self._due = self._began + self._every

    def add(self, history: Callable[[], History]) -> None:
        """Count one more finished trial, and write a line if it is time.

        Args:
            history: Returns the observations so far; called only if a line is written.
        """
        self._finished += 1
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self._every
        so_far = history()
        parts = [f"{self._title}: {self._finished} of {self._num_trials} trials"]
        if failed := sum(each.status.has_failed for each in so_far):
            parts.append(f"{failed} failed")
        if (best := so_far.best) is not None:
            values = [f"{each.metric}={number(best[each.metric])}" for each in so_far.objectives]
            parts.append(f"best {', '.join(values)}")
        parts.append(duration(now - self._began))
        self._write(printable(", ".join(parts)))


class ProgressBar:
    """A callback that shows a tqdm bar: the best value, failures, and running trials."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._metric = ""
        self._best: BestSoFar | None = None  # None with several objectives: no single best value.
        self._failed = 0
        self._repeats = 0
        self._running: set[str] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._begin(event)
        elif self._bar is None:
            return
        elif isinstance(event, (TrialAsked, TrialStarted)):
            self._running.add(event.treatment.name)  # A resumed trial is started, but not asked.
        elif isinstance(event, TrialTold):
            self._add(event.observation)
        elif isinstance(event, TrialRepeated):
            self._repeats += 1
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
            initial=sum(map(suggestions_of, event.resumed)),
            desc=printable(event.title),
            unit="trial",
            dynamic_ncols=True,  # In a notebook: the full width, so that the text is in one line.
        )
        for observation in event.resumed:
            self._note(observation)
        if event.resumed:
            self._show()
            self._bar.refresh()

    def _note(self, observation: Observation) -> None:
        if self._best is not None:
            self._best.add(observation)
        self._failed += observation.status.has_failed

    def _add(self, observation: Observation) -> None:
        self._running.discard(observation.treatment.name)
        self._note(observation)
        self._show()
        self._bar.update()

    def _show(self) -> None:
        shown: dict[str, object] = {}
        if self._best is not None and self._best.best is not None:
            shown[f"best {printable(self._metric)}"] = self._best.best[self._metric]
        shown["failed"] = self._failed
        if self._repeats:
            shown["repeats"] = self._repeats
        if self._running:
            shown["running"] = len(self._running)
        self._bar.set_postfix(shown, refresh=False)
