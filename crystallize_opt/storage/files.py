"""What a path may name: which paths a run can be stored at, and read from."""

from __future__ import annotations

import os
import re
import stat
from typing import Any

from crystallize_opt.errors import StorageError, UsageError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:")


def refuse_url(path: object, what: str) -> None:
    """Check that a path is not a URL.

    Raises:
        UsageError: The path is a URL; the message begins with `what`.
    """
    if isinstance(path, str) and _URL.match(path):
        raise UsageError(f"{what}{path!r} is a URL. Give the path of a file on this computer.")


def checked_path(path: Any, *, to_write: bool) -> str:
    """Return the real, absolute path of a file of runs, which may not exist yet.

    Args:
        path: The path as the user gave it.
        to_write: Whether a run will be written, or only read.

    Raises:
        UsageError: It is no path of a file, but a URL, for example.
        StorageError: The path names something other than a file with one name.
    """
    what = "storage=" if to_write else "path="
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or "\0" in text:
        raise UsageError(f"{what} takes the path of a file, not {path!r}.")
    if text in ("", ":memory:"):
        raise UsageError(f"{what}{text!r} keeps nothing. Give the path of a file, or leave it out.")
    refuse_url(text, what)
    real = os.path.realpath(text)
    if problem := _problem(text, real, to_write):
        raise StorageError(f"{what}{text!r}: {problem}")
    return real


def checkpoint_folder(real: str, run: str) -> str:
    """Return the path of the folder of a run's checkpoints, beside the file of the runs.

    Example:
        >>> checkpoint_folder("/home/ann/runs.db", "night / 1")
        '/home/ann/runs.db.checkpoints/night%20%2F%201'
    """
    from urllib.parse import quote

    name = quote(run, safe="", errors="surrogatepass")
    if len(name) > _LONGEST or name.startswith("."):  # "." and ".." are no names of folders.
        import hashlib

        name = hashlib.sha256(run.encode("utf-8", "surrogatepass")).hexdigest()
    return os.path.join(f"{real}.checkpoints", name)  # noqa: PTH118  (pathlib takes 5 ms to import)


_LONGEST = 200  # Most file systems take names of 255 bytes.


def sqlite_uri(real: str) -> str:
    r"""Return the URI by which SQLite opens a file.

    SQLite takes no computer in a URI, so `\\server\share\runs.db` becomes a path of four slashes.

    Example:
        >>> sqlite_uri("/home/ann/my runs.db")
        'file:///home/ann/my%20runs.db'
    """
    from urllib.parse import quote

    if os.name == "nt":
        real = real.replace("\\", "/")
        if real[1:2] == ":":
            real = f"/{real}"
    return f"file://{quote(os.fsencode(real), safe='/:')}"


def _problem(text: str, real: str, to_write: bool) -> str | None:
    """Return what is wrong with a path, in words."""
    try:
        found = os.stat(real)  # noqa: PTH116  (pathlib takes 5 ms to import)
    except OSError as error:
        if os.path.islink(text):  # noqa: PTH114
            return (
                f"this is a link to {real!r}, which cannot be opened ({error.strerror}). Restore "
                "that file, or remove the link."
            )
        folder = os.path.dirname(real)  # noqa: PTH120
        if os.path.isdir(folder):  # noqa: PTH112
            return None if isinstance(error, FileNotFoundError) else f"{error.strerror}."
        return f"there is no folder {folder!r}. Make it first."
    if stat.S_ISDIR(found.st_mode):
        return (
            f"this is a folder. Give the path of a file, such as {os.path.join(text, 'runs.db')!r}."  # noqa: PTH118
        )
    if not stat.S_ISREG(found.st_mode):
        return "this is a device, pipe or socket. Give the path of a file."
    if to_write and found.st_nlink > 1:
        return (
            f"this is a file with {found.st_nlink} names (hard links). Its lock and its latest "
            "events are in files beside one name, which a search under another name would miss. "
            "Copy it to a file with one name, or remove the other names; symbolic links are fine."
        )
    if to_write and not os.access(real, os.W_OK):
        # SQLite would open it to read, and make files beside it that its owner cannot write.
        return (
            "you may read this file, but not write to it. Ask its owner, or store the run in "
            "another file."
        )
    return None
