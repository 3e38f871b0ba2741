"""Optional libraries: which are installed, who needs them, and which command installs them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from crystallize_opt.errors import MissingExtraError

PACKAGE = "crystallize-opt"


def install_command(extra: str) -> str:
    """Return the command that installs an extra of this package."""
    return f'pip install "{PACKAGE}[{extra}]"'


def is_installed(library: str) -> bool:
    """Whether a library is installed; only importing it shows whether it works."""
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):  # ValueError: a module without a spec in sys.modules
        return False


@contextmanager
def needs(who: str, *libraries: str, extra: str | None = None) -> Iterator[None]:
    """Wrap the import of optional libraries: an error says who needs which, and how to install it.

    Args:
        who: The subject of the message, in the plural or with its verb: "OptunaOptimizer needs".
        libraries: The top-level modules whose absence is explained. If another module is missing,
            an installation is broken, and its error is raised unchanged.
        extra: The extra that installs the libraries; None for `pip install <library>`.

    Raises:
        MissingExtraError: One of the libraries is not installed.

    Example:
        >>> with needs("Tables need", "no_such_library", extra="analysis"):
        ...     import no_such_library
        Traceback (most recent call last):
        ...
        crystallize_opt.errors.MissingExtraError: Tables need no_such_library, which is not ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in libraries:
            raise
        raise missing(who, error.name, extra) from error


def missing(who: str, library: str, extra: str | None = None) -> MissingExtraError:
    """Return the error that says who needs a library, and how to install it."""
    command = f"pip install {library}" if extra is None else install_command(extra)
    return MissingExtraError(
        f"{who} {library}, which is not installed. Run: {command}", name=library
    )


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, of this package and of some distributions."""
    # Imported when needed, because this import takes longer than importing this package.
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in (PACKAGE, *libraries):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # It runs from source without being installed, say.
            versions[name] = "unknown"
    return versions
