"""Files that the processes of a search keep open, so that a lock lasts until the last has ended.

A killed search leaves processes behind, for a moment: the guards of its workers, which end the
workers and all that these have started. A lock that belongs to an open file, and not to a process,
is free only when nobody has the file open any more.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

_descriptors: set[int] = set()


def keep_open(descriptor: int) -> None:
    """Let every guard that is started from now on have the descriptor open, too."""
    _descriptors.add(descriptor)


def close(descriptor: int) -> None:
    """Close a descriptor of `keep_open`."""
    _descriptors.discard(descriptor)
    os.close(descriptor)


class KeptOpen:
    """Takes the descriptors of `keep_open` along into a process that is being started.

    Pickle it only to start a process. Both processes call `close`, this one as soon as the other
    has started.
    """

    def __init__(self, descriptors: Sequence[int] | None = None) -> None:
        if descriptors is None:
            descriptors = [os.dup(each) for each in list(_descriptors)]
        self._descriptors = list(descriptors)

    def __reduce__(self) -> Any:
        from multiprocessing import reduction

        return _taken_along, ([reduction.DupFd(each) for each in self._descriptors],)

    def close(self) -> None:
        """Close the copies."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def _taken_along(duplicates: list[Any]) -> KeptOpen:
    descriptors = [each.detach() for each in duplicates]
    for each in descriptors:
        os.set_inheritable(each, False)  # Programs that a trial starts do not get it.
    return KeptOpen(descriptors)


def _close_in_fork() -> None:
    while _descriptors:
        os.close(_descriptors.pop())


if hasattr(os, "register_at_fork"):  # Not on Windows, where no process can be forked.
    os.register_at_fork(after_in_child=_close_in_fork)
