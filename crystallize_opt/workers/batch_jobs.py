"""Jobs of a batch system as futures.

submitit submits jobs to Slurm as an executor does, but its jobs have no callbacks, so a thread
waits for each.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future
from typing import Any

from crystallize_opt.errors import UsageError

_NOT_STARTED = ("PENDING", "QUEUED")  # as Slurm and submitit's DebugExecutor say


def as_future(submitted: Any) -> Any:
    """Return what an executor's `submit` returned as an object with the methods of a `Future`.

    Raises:
        UsageError: It is neither a future nor a job.
    """
    if hasattr(submitted, "add_done_callback"):
        return submitted
    if all(hasattr(submitted, name) for name in ("result", "state", "cancel")):
        return JobFuture(submitted)
    raise UsageError(
        f"The executor's submit() returned {submitted!r}, which is not a future: it has no "
        "add_done_callback(). Give an executor like those of concurrent.futures."
    )


def died(error: BaseException | None) -> bool:
    """Whether a job ended without a result, because its process was killed."""
    utils = sys.modules.get("submitit.core.utils")
    return utils is not None and isinstance(error, utils.UncompletedJobError)


class JobFuture(Future[Any]):
    """The future of a job: a thread waits for the job.

    Args:
        job: Has the methods of `submitit.Job`.
    """

    def __init__(self, job: Any) -> None:
        super().__init__()
        self._job = job
        # Python does not wait for a daemon when it ends; the job may take days.
        threading.Thread(target=self._wait, name="crystallize_opt_job", daemon=True).start()

    def cancel(self) -> bool:
        """Take the job out of the queue, if it has not started."""
        if self._job.state not in _NOT_STARTED or not super().cancel():
            return False
        self._job.cancel(check=False)
        return True

    def _wait(self) -> None:
        result, error = None, None
        try:
            result = self._job.result()
        except BaseException as caught:  # noqa: BLE001  (the search decides what it means)
            error = caught
        if self.set_running_or_notify_cancel():
            self.set_result(result) if error is None else self.set_exception(error)
