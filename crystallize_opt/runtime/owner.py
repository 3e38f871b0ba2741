"""Keeps a search in the process that began it, although a fork copies all of it into a child.

A step, a callback or a data loader may fork. The child belongs to the code that forked it. Where
that code would return to the search, the child ends instead, as a child of `multiprocessing` does.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Self

_forks = 0
"""How many forks lie between the first Python process and this one; cheaper than `os.getpid`."""

_children = 0
"""How many children this process, and those it is a fork of, have forked."""


class Owner:
    """The process that made this object; also a context manager around foreign code.

    If the foreign code forks, the child that leaves the `with` block ends there: with the code of
    its `SystemExit`, with a traceback and 1 after another exception, otherwise with 0. Neither the
    rest of the search nor an `atexit` function of the parent runs in the child.

    Example:
        >>> with Owner() as owner:
        ...     owner.is_here
        True
    """

    __slots__ = ("_forks",)

    def __init__(self) -> None:
        self._forks = _forks

    @property
    def is_here(self) -> bool:
        """Whether this process made the object, and is not a fork of the process that did."""
        return self._forks == _forks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._forks != _forks:
            end_fork(error)


def end_fork(error: BaseException | None) -> None:
    """End this process, a forked child, as the interpreter would after `error`."""
    code = 0
    try:
        if isinstance(error, SystemExit):
            code = _exit_code(error)
        elif error is not None:
            code = 1
            traceback.print_exception(error)
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201  (as the interpreter does)
    return 1


def children_forked() -> int:
    """Return a number that grows when this process forks; it cannot see what the child then does.

    A program that is started (`subprocess`, the start methods "spawn" and "forkserver") is no fork.
    """
    return _children


def _count_fork() -> None:
    global _forks
    _forks += 1


def _count_child() -> None:
    global _children
    _children += 1


if hasattr(os, "register_at_fork"):  # Not on Windows, where no process can be forked.
    os.register_at_fork(after_in_child=_count_fork, after_in_parent=_count_child)
