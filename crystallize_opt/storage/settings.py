"""Where a search is stored, and how a stored one is continued."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, Self

from crystallize_opt.errors import StorageError, UsageError


@dataclass(frozen=True, slots=True)
class Storage:
    """Where a search is stored, and how a stored one is continued.

    Args:
        path: A file, made where there is none, in which every event is stored at once. It may hold
            several runs.
        run: The run's name in that file; None for the experiment's name, or "run".
        resume: What to do where the run exists. `"exact"`: replay it, so that the search continues
            as if it had never ended, or refuse. `"attach"`: give all of its trials to the optimizer
            and continue from there, also where space, objective, optimizer or pipeline have
            changed.

    Raises:
        UsageError: An argument has another type or value.
        StorageError: The folder does not exist.

    Example:
        >>> Storage("runs.db", run="night").resume
        'exact'
    """

    path: str | os.PathLike[str]
    run: str | None = None
    resume: Literal["exact", "attach"] = "exact"

    def __post_init__(self) -> None:
        if not isinstance(self.path, (str, os.PathLike)):
            raise UsageError(f"storage= takes the path of a file, not {self.path!r}.")
        if os.fspath(self.path) in ("", ":memory:"):
            raise UsageError(
                f"storage={self.path!r} keeps nothing. Give the path of a file, or leave it out."
            )
        if self.run is not None and not (isinstance(self.run, str) and self.run):
            raise UsageError(f"Storage: run= is the name of a run, not {self.run!r}.")
        if self.resume not in ("exact", "attach"):
            raise UsageError(f"Storage: resume= is 'exact' or 'attach', not {self.resume!r}.")
        folder = os.path.dirname(os.path.abspath(self.path))  # noqa: PTH100, PTH120  (pathlib: 5 ms)
        if not os.path.isdir(folder):  # noqa: PTH112
            raise StorageError(
                f"storage={self.path!r}: there is no folder {folder!r}. Make it first."
            )

    @classmethod
    def of(cls, short: Any) -> Self:
        """Return the storage that a path stands for, or the one given.

        Raises:
            UsageError: It is neither.
            StorageError: The folder does not exist.
        """
        return short if isinstance(short, cls) else cls(short)
