"""Where a search is stored, and how a stored run is continued."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, Self

from crystallize_opt.errors import UsageError
from crystallize_opt.storage.files import checked_path


@dataclass(frozen=True, slots=True)
class Storage:
    """Where a search is stored, and how a stored run is continued.

    Args:
        path: A SQLite file, created if it does not exist. Every event is written at once. The file
            may hold several runs.
        run: The run's name in that file; None for the experiment's name, or "run".
        resume: What to do if the run exists. `"exact"`: replay the run, so that the search
            continues as if it had never ended, or raise an error. `"attach"`: give the trials of
            the run to the optimizer and continue from there, even if space, objective, optimizer
            or pipeline have changed. Trials that do not fit today's space and objectives are left
            out, and counted in a warning and in `history.left_out`.

    Raises:
        UsageError: An argument has the wrong type or value.
        StorageError: The path names a folder, a dangling or hard link or a device; or there is no
            folder to create the file in.

    Example:
        >>> Storage("runs.db", run="night").resume
        'exact'
    """

    path: str | os.PathLike[str]
    run: str | None = None
    resume: Literal["exact", "attach"] = "exact"

    def __post_init__(self) -> None:
        checked_path(self.path, to_write=True)
        if self.run is not None and not (isinstance(self.run, str) and self.run):
            raise UsageError(f"Storage: run= is the name of a run, not {self.run!r}.")
        if self.resume not in ("exact", "attach"):
            raise UsageError(f"Storage: resume= is 'exact' or 'attach', not {self.resume!r}.")

    @classmethod
    def of(cls, short: Any) -> Self:
        """Return the `Storage` for a path; a `Storage` itself.

        Raises:
            UsageError: `short` is neither a path nor a `Storage`.
            StorageError: The folder does not exist.
        """
        return short if isinstance(short, cls) else cls(short)
