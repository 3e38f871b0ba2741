"""An optimizer in a process that is started again if it dies, and brought to the same state."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import RLock
from typing import Any

from crystallize_opt.adapters.remote.process import Process, ProcessEnded, idle_or_new
from crystallize_opt.adapters.remote.wire import read_error
from crystallize_opt.errors import RemoteError
from crystallize_opt.pipeline.context import logger

_START_SECONDS = 600.0
"""How long the start of a process may take at least."""

Answer = Mapping[str, Any]
Repeated = Iterable[tuple[Sequence[Any], Callable[[Answer], None] | None]]
"""The messages that bring a new process to the state of a record, each with a check of its answer.
"""


class Running:
    """An optimizer in a process.

    Each call gets a function that returns the messages of the record so far: a new process, after
    the end of the one before or in a fork of this process, begins with them.

    Args:
        python: The interpreter.
        given: What builds the optimizer: see `Server._build` in the module `child`.
        timeout: How many seconds a call may take; None: any time.

    Attributes:
        who: The optimizer, for messages of errors.
    """

    def __init__(self, python: str, given: dict[str, Any], timeout: float | None) -> None:
        self.who = f"{given['make'].rpartition(':')[2]} in {python}"
        self._python = python
        self._given = given
        self.timeout = timeout
        self._lock = RLock()  # The threads of trials report.
        # In a list, so that the end of this object need not keep it alive.
        self._process: list[Process] = []
        weakref.finalize(self, _release, self._process)

    def start(self) -> dict[str, Any]:
        """Build the optimizer in a process, and return what the process says of the optimizer.

        Raises:
            RemoteError: The process has ended.
        """
        # A process has the user's modules as they were when it imported them, so only a process
        # with the optimizers of this package serves a second one.
        is_ours = self._given["root"] is None
        process = idle_or_new(self._python, fresh=not is_ours)
        process.is_reusable = is_ours
        try:
            # A process has to import the library first, however short its later answers are.
            limit = None if self.timeout is None else max(self.timeout, _START_SECONDS)
            here = {"environment": dict(os.environ)}
            answer = process.call(["build", self._given | here], limit)
        except ProcessEnded as end:
            raise RemoteError(f"{self.who} could not be built: the process {end}") from None
        if "error" in answer:
            process.release()
            raise self.error(answer)
        self._process[:] = [process]
        return answer

    def adopt_seed(self, seed: int) -> None:
        """Build the optimizer with another seed, should the process be started again."""
        self._given["seed"] = seed

    def pid(self, record: Callable[[], Repeated]) -> int:
        """Return the number of the process."""
        with self._lock:
            try:
                self._ensure_process(record)
            except ProcessEnded as end:
                raise RemoteError(f"The process of {self.who} {end}") from None
            return self._process[0].pid

    def call(
        self, message: Sequence[Any], record: Callable[[], Repeated], *, is_recorded: bool = False
    ) -> dict[str, Any]:
        """Send a message to the process, if need be to a new one, and return the answer.

        Args:
            message: The message.
            record: Returns the messages that bring a new process to the state of the record.
            is_recorded: Whether the message is one of them, so that a new process has it already;
                the answer is then empty.

        Raises:
            RemoteError: The process ended twice.
        """
        with self._lock:
            try:
                is_new = self._ensure_process(record)
                return {} if is_new and is_recorded else self._now(message)
            except ProcessEnded as end:
                logger.warning(
                    "The process of %s %s\nIt is started again, and brought to the same state.",
                    self.who,
                    end,
                )
            try:
                self._start_again(record())
                return {} if is_recorded else self._now(message)
            except ProcessEnded as end:
                self._process.clear()
                raise RemoteError(
                    f"The process of {self.who} ended twice in one call. It {end}"
                ) from None

    def error(self, answer: Answer) -> Exception:
        """Return the error that an answer holds."""
        return read_error(answer["error"], self.who)

    def _ensure_process(self, record: Callable[[], Repeated]) -> bool:
        """Start a process unless there is one, and return whether it did.

        A fork of this process needs its own.
        """
        if self._process and self._process[0].owner.is_here:
            return False
        self._start_again(record())
        return True

    def _start_again(self, record: Repeated) -> None:
        while self._process:
            self._process.pop().end()
        self.start()
        try:
            for message, check in record:
                answer = self._now(message)
                if check is not None:
                    check(answer)
        except BaseException:
            self._process.pop().end()  # It has a part of the record only.
            raise

    def _now(self, message: Sequence[Any]) -> dict[str, Any]:
        """Send a message, and return the answer, which is no error unless suggestions are in it.

        Raises:
            ProcessEnded: The process has ended.
        """
        answer = self._process[0].call(message, self.timeout)
        if "error" in answer and message[0] != "ask":
            raise self.error(answer)
        return answer


def _release(processes: list[Process]) -> None:
    for process in processes:
        process.release()
