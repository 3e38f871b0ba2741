"""Runs trials in processes: those of an executor, or those that this package starts."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.pipeline.session import Session
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.lease import Lease
from crystallize_opt.trials.curves import Listener
from crystallize_opt.trials.status import Status
from crystallize_opt.workers import logs, worker
from crystallize_opt.workers.executors import OnExecutor, shut_down
from crystallize_opt.workers.family import end_family
from crystallize_opt.workers.limits import TrialLimits
from crystallize_opt.workers.sending import picklable_experiment, pickled
from crystallize_opt.workers.trial import Done, Trial, ended
from crystallize_opt.workers.worker_process import WorkerProcess, run_limited


class OnProcesses(OnExecutor):
    """Runs trials on an executor whose workers are processes, here or on other machines.

    Args:
        session: The run in progress.
        executor: Where the trials run.
        make: Makes a new executor after one broke, or None: see `OnExecutor`.
        interruption: Wakes `wait`.
        limits: How much one trial may take.
        space: The search space, or None; only to name a choice that cannot be sent.
        lease: The lease of the stored run; None without storage.

    Raises:
        UsageError: A part of the experiment cannot be sent to another process.
        MissingExtraError: A library is not installed.
    """

    is_heard = False  # An executor has no way back from a running trial.

    def __init__(
        self,
        session: Session,
        executor: Any,
        make: Callable[[], Any] | None,
        interruption: Interruption,
        limits: TrialLimits,
        space: SearchSpace | None,
        lease: Lease | None,
    ) -> None:
        self._lease = lease
        self._blob = picklable_experiment(session.experiment, space)
        self._key = hashlib.sha256(self._blob).hexdigest()
        self._limits = limits
        self._folder: str | None = None
        self._file: str | None = None
        self._lacking: set[Trial] = set()
        super().__init__(session, executor, make, interruption)

    def close(self, *, now: bool) -> None:
        if now or self._abandoned:
            if self._make is not None:
                _kill_workers(self._executor)
            now = True
        super().close(now=now)
        if self._folder is not None:
            from loky.backend import resource_tracker

            shutil.rmtree(self._folder, ignore_errors=True)
            resource_tracker.unregister(self._folder, "folder")
            self._folder = self._file = None

    def _submit(self, trial: Trial) -> Future[Any]:
        arguments = (
            self._key,
            self._source(trial),
            pickled(trial.placed, f"The treatment {trial.treatment.name!r}"),
            len(trial.done),
            trial.last,
            self._lease,
        )
        future: Future[Any]
        if self._limits.need_processes:
            future = self._executor.submit(
                run_limited, *arguments, self._seconds(trial), self._limits.memory_bytes
            )
        else:
            future = self._executor.submit(worker.run_trial, *arguments)
        return future

    def _source(self, trial: Trial) -> worker.Source:
        """Return the path of the experiment's file, or the experiment if a worker lacks the file.

        An executor offers no way to send something once to each of its workers. Those of this
        machine read the file; those of others answer that they lack the experiment.
        """
        if trial in self._lacking:
            self._lacking.discard(trial)
            return self._blob
        if self._file is None:
            try:
                self._file = self._written()
            except OSError:  # There is no place for files: send the experiment with every trial.
                return self._blob
        return self._file

    def _written(self) -> str:
        from loky.backend import resource_tracker

        if self._folder is None:
            # loky's tracker, a process of its own, removes the folder if this process is killed.
            self._folder = tempfile.mkdtemp(prefix="crystallize_opt_")
            resource_tracker.register(self._folder, "folder")
        path = Path(self._folder, "experiment")
        path.write_bytes(self._blob)
        return str(path)

    def _runs_again(self, trial: Trial, result: Any) -> bool:
        answer: worker.Answer = result
        for record in answer.records:
            logs.handle(record)
        if answer.lacks_experiment:
            self._lacking.add(trial)
            self._send(trial)
        return answer.lacks_experiment

    def _seconds(self, trial: Trial) -> float | None:
        seconds = self._limits.seconds
        return None if seconds is None else max(0.001, seconds - trial.seconds)

    def _done(self, trial: Trial, result: Any) -> Done:
        answer: worker.Answer = result
        if answer.refusal is not None:
            self.failure = UsageError(answer.refusal)
            return [ended(len(trial.done), Status.ABANDONED, answer.refusal)]
        for error in answer.teardown:
            self._session.teardown_failed(worker.worker_error(*error))
        return worker.from_rows(answer.rows)

    def _threads_run(self) -> bool:
        return False


class OnOwnProcesses(OnProcesses):
    """Runs trials in processes that this package starts and can kill: `Workers("processes")`.

    Args:
        session: The run in progress.
        count: How many processes.
        interruption: Wakes `wait`.
        limits: How much one trial may take.
        space: The search space, or None; only to name a choice that cannot be sent.
        lease: The lease of the stored run; None without storage.

    Raises:
        UsageError: A part of the experiment cannot be sent to another process.
        MissingExtraError: A library is not installed.
    """

    is_heard = True

    def __init__(
        self,
        session: Session,
        count: int,
        interruption: Interruption,
        limits: TrialLimits,
        space: SearchSpace | None,
        lease: Lease | None,
    ) -> None:
        self._of_thread = threading.local()
        self._processes: list[WorkerProcess] = []
        super().__init__(session, None, None, interruption, limits, space, lease)
        # Each thread of this executor waits for one worker process.
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="crystallize_opt")

    def _submit(self, trial: Trial) -> Future[Any]:
        treatment = pickled(trial.placed, f"The treatment {trial.treatment.name!r}")
        future: Future[Any] = self._executor.submit(
            self._run, treatment, len(trial.done), trial.last, self._seconds(trial), trial.listener
        )
        return future

    def _run(
        self,
        treatment: bytes,
        first: int,
        last: int,
        seconds: float | None,
        listener: Listener | None,
    ) -> Any:
        """Have this thread's worker process run a trial, and wait for it."""
        if not hasattr(self._of_thread, "process"):
            self._of_thread.process = WorkerProcess(self._lease)
            self._processes.append(self._of_thread.process)
        if self._abandoned:
            self._of_thread.process.give_up()
        process: WorkerProcess = self._of_thread.process
        memory = self._limits.memory_bytes
        return process.run(self._key, self._blob, treatment, first, last, seconds, memory, listener)

    def _end_running(self) -> None:
        for process in list(self._processes):
            process.give_up()

    def close(self, *, now: bool) -> None:
        if now:
            self._abandoned = True
            self._end_running()
        shut_down(self._executor, wait=True)  # The threads no longer wait for a trial.
        for process in self._processes:
            process.hang_up()
        for process in self._processes:
            process.close()


def _kill_workers(executor: Any) -> None:
    """Kill an executor's processes and all they have started, if the processes are known."""
    processes = getattr(executor, "_processes", None)
    if isinstance(processes, dict):
        for process in list(processes.values()):
            with suppress(Exception):
                end_family(process.pid)
