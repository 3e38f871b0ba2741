"""Runs trials without an executor: one at a time, or asynchronous trials side by side."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from crystallize_opt.pipeline.session import Session
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.runtime.sync import need_event_loop
from crystallize_opt.trials.status import Status
from crystallize_opt.workers.trial import Done, Trial, ended, run_replicates

_INTERRUPTED = "The search was interrupted."


class InProcess:
    """Runs one trial at a time in the search's thread; `wait` runs the trial."""

    is_heard = True
    failure: Exception | None = None

    def __init__(self, session: Session, interruption: Interruption) -> None:
        self._session = session
        self._interruption = interruption
        self._trial: Trial | None = None

    def start(self, trial: Trial) -> None:
        self._trial = trial

    async def wait(self) -> list[tuple[Trial, Done]]:
        trial, interruption = self._trial, self._interruption
        if trial is None:
            return []
        first = len(trial.done)
        interruption.in_trial = True
        try:
            done = await run_replicates(
                self._session, trial.placed, first, trial.last, trial.listener
            )
        except BaseException as error:
            if not interruption.takes(error):
                raise
            done = [ended(first, Status.ABANDONED, _INTERRUPTED)]
        finally:
            interruption.in_trial = False
        return [(trial, done)]

    def has_finished(self) -> bool:
        return False

    def cancel_queued(self, trials: Collection[Trial] | None = None) -> None:
        """Do nothing: no trial is queued."""

    async def abandon(self) -> list[tuple[Trial, Done]]:
        self._trial = None
        return []

    def close(self, *, now: bool) -> None:
        """There is nothing to free."""


class Concurrent:
    """Runs asynchronous trials side by side in the search's own event loop."""

    is_heard = True
    failure: Exception | None = None

    def __init__(self, session: Session, interruption: Interruption) -> None:
        self._session = session
        self._interruption = interruption
        self._new: list[Trial] = []
        self._tasks: dict[Any, Trial] = {}

    def start(self, trial: Trial) -> None:
        self._new.append(trial)

    async def wait(self) -> list[tuple[Trial, Done]]:
        await need_event_loop()
        import asyncio

        for trial in self._new:
            self._tasks[asyncio.ensure_future(self._run(trial))] = trial
        self._new.clear()
        self._interruption.in_trial = True
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as error:
            if not self._interruption.takes(error):
                raise
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        finally:
            self._interruption.in_trial = False
        return [(self._tasks.pop(task), task.result()) for task in list(self._tasks) if task.done()]

    async def _run(self, trial: Trial) -> Done:
        import asyncio

        first = len(trial.done)
        try:
            return await run_replicates(
                self._session, trial.placed, first, trial.last, trial.listener
            )
        except (asyncio.CancelledError, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt):  # The event loop would end at once.
                self._interruption.takes(error)
            return [ended(first, Status.ABANDONED, _INTERRUPTED)]

    def has_finished(self) -> bool:
        return any(task.done() for task in self._tasks)

    def cancel_queued(self, trials: Collection[Trial] | None = None) -> None:
        """Do nothing: every trial is already running."""

    async def abandon(self) -> list[tuple[Trial, Done]]:
        import asyncio

        self._new.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        finished = [
            (trial, task.result()) for task, trial in self._tasks.items() if not task.cancelled()
        ]
        self._tasks.clear()
        return finished

    def close(self, *, now: bool) -> None:
        """There is nothing to free."""
