"""A process and all processes it has started: their end, and their memory. Needs psutil."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import Any

_LOOK_SECONDS = 1.0
"""How often to look for new processes, because that scans every process of the system."""
_SHARE_OF_TIME = 0.1
"""The largest part of the time that measuring the memory may take."""


def adopt_orphans() -> None:
    """Become the parent of what descendants of this process leave behind (on Linux)."""
    _prctl(36)  # PR_SET_CHILD_SUBREAPER


def end_with_parent() -> None:
    """Let the system kill this process when its parent ends (on Linux)."""
    import signal

    _prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG


def _prctl(option: int, argument: int = 1) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)


def reap_orphans(but: int | None) -> None:
    """Let the system forget the orphans that have ended, but not the process `but`."""
    if sys.platform == "linux":
        with suppress(ChildProcessError):
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            while (ended := os.waitid(os.P_ALL, 0, options)) and ended.si_pid != but:
                os.waitpid(ended.si_pid, 0)


def end_family(pid: int) -> None:
    """Kill a process, and all that it has started."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        _do(root, "suspend")
        _end(root)
        _do(root, "kill")


def end_descendants() -> None:
    """Kill all that this process has started."""
    import psutil

    _end(psutil.Process())


def end_session(leader: int) -> None:
    """Kill the processes of a session whose leader has ended."""
    import psutil

    for each in psutil.process_iter():
        if _session_of(each.pid) == leader:
            _do(each, "kill")


def _end(root: Any) -> None:
    # A stopped process starts no other, and remains the parent of those it has started. So stop
    # all, until there are no new ones. A process that is killed at once would leave orphans.
    stopped: set[Any] = set()
    while new := _family(root) - stopped:
        for each in new:
            _do(each, "suspend")
        stopped |= new
    for each in stopped:
        _do(each, "kill")


def _family(root: Any) -> set[Any]:
    """Return the descendants of a process; if it leads a session, all processes of the session."""
    import psutil

    found: set[Any] = set()
    with suppress(psutil.NoSuchProcess):
        found.update(root.children(recursive=True))
    # A background job of a shell that has ended is no descendant any more, but for Linux; see
    # `adopt_orphans`.
    if _session_of(root.pid) == root.pid:
        found.update(each for each in psutil.process_iter() if _session_of(each.pid) == root.pid)
    found.discard(root)
    return found


def _session_of(pid: int) -> int | None:
    if os.name != "posix":
        return None
    try:
        return os.getsid(pid)
    except OSError:  # The process has just ended.
        return None


def _do(process: Any, what: str) -> None:
    with suppress(Exception):  # The process has just ended, or belongs to another user.
        getattr(process, what)()


class Memory:
    """The memory of all processes that this process has started. Shared pages count once.

    On Linux it is the sum of the proportional set sizes (PSS): each page that several processes
    share is divided among them. Elsewhere it is the sum of the unique set sizes (USS), without
    shared pages.
    """

    def __init__(self) -> None:
        self._family: list[Any] = []
        self._looked_at = self._measured_at = -_LOOK_SECONDS
        self._took = 0.0

    def exceeds(self, limit: int) -> int | None:
        """Return how much is used, if that is more than `limit` bytes; otherwise None."""
        import psutil

        now = time.monotonic()
        if now >= self._looked_at + _LOOK_SECONDS:
            self._family = psutil.Process().children(recursive=True)
            self._looked_at = now
        # Resident sizes count shared pages several times, but are read hundreds of times faster.
        if sum(_resident(each) for each in self._family) <= limit:
            return None
        if now < self._measured_at + self._took / _SHARE_OF_TIME:
            return None
        size = sum(_unshared(each) for each in self._family)
        self._measured_at = time.monotonic()
        self._took = self._measured_at - now
        return size if size > limit else None


def _resident(process: Any) -> int:
    try:
        info = process.memory_info()
        # Windows takes pages away from a process that rests; `private` counts them, too.
        return max(int(info.rss), int(getattr(info, "private", 0)))
    except Exception:  # noqa: BLE001  (the process has just ended)
        return 0


def _unshared(process: Any) -> int:
    try:
        full = process.memory_full_info()
    except Exception:  # noqa: BLE001  (it has just ended, or the system does not tell)
        return _resident(process)
    return max(int(getattr(full, "pss", full.uss)), int(getattr(full, "private", 0)))
