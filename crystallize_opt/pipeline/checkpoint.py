"""The folder of a replicate, in which steps keep what a trial of a higher fidelity continues from.

A trial never changes the folder of another trial, nor the one that an earlier attempt has left: its
own folder begins as a copy. So a trial that fails, or whose process is killed, leaves nothing to
the trials after it, and a resumed search repeats it from the same files.
"""

from __future__ import annotations

import logging
import platform
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

from crystallize_opt.errors import CheckpointError
from crystallize_opt.trials.placed import TrialFolders

_logger = logging.getLogger("crystallize_opt")


class Checkpoint:
    """The folder of one replicate. It is made when a step asks for it.

    Args:
        folders: Where the checkpoints of the trial are; None for a temporary folder.
        replicate: The number of the replicate.
    """

    def __init__(self, folders: TrialFolders | None = None, replicate: int = 0) -> None:
        self._folders = folders
        self._replicate = str(replicate)
        self._path: Path | None = None
        self._lock = threading.Lock()  # Threads of a step may ask at the same time.

    def path(self) -> Path:
        """Return the folder. The first call makes it.

        Raises:
            CheckpointError: The trial runs on a machine that does not have the folder.
        """
        with self._lock:
            if self._path is None:
                self._path = (
                    Path(tempfile.mkdtemp(prefix="crystallize_opt_"))
                    if self._folders is None
                    else _made(self._folders, self._replicate)
                )
            return self._path

    def close(self) -> None:
        """Remove the folder if it is a temporary one."""
        if self._folders is None and self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy has the same folder, and must not make it again.
        return _copied, (self.path(),)


class _Copy(Checkpoint):
    """The folder of the replicate whose context was copied."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        """Leave the folder to the original."""


def _copied(path: Path) -> Checkpoint:
    return _Copy(path)


def _made(folders: TrialFolders, replicate: str) -> Path:
    run = Path(folders.run)
    _check_machine(run, folders.machine)
    path = run / folders.trial / replicate
    if path.exists():  # It is of an attempt that failed, or was killed.
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if folders.source is not None:
        source = run / folders.source / replicate
        if source.is_dir():
            return Path(shutil.copytree(source, path, symlinks=True))
        _logger.warning(
            "There is no folder %r, whose checkpoint %r should continue: the trial begins anew.",
            str(source),
            folders.trial,
        )
    path.mkdir()
    return path


def _check_machine(run: Path, machine: str | None) -> None:
    here, beside = platform.node(), run.parent.parent
    if machine not in (None, here):
        raise CheckpointError(
            f"The checkpoints of this search are on the machine {machine!r}, but the trial runs on "
            f"{here!r}. Give storage= on a file system that both share; they are kept beside it."
        )
    if not beside.is_dir():
        raise CheckpointError(
            f"The checkpoints of this search are in the folder {str(beside)!r}, which does not "
            f"exist on {here!r}, where the trial runs. Give storage= on a file system that all "
            "workers share; the checkpoints are kept beside it."
        )
