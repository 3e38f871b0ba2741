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
    """Whether a library can be found. It may still be broken: only its import shows that."""
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):  # ValueError: it was put into sys.modules by hand
        return False


@contextmanager
def needs(who: str, *libraries: str, extra: str | None = None) -> Iterator[None]:
    """Around the import of optional libraries: say who needs which, and how to install it.

    Args:
        who: The subject of the message, in the plural or with its verb: "OptunaOptimizer needs".
        libraries: The top-level modules whose absence is explained. That of any other module is a
            broken installation, which shows its own cause.
        extra: The extra that brings them in; None where `pip install <library>` does.

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
    # Imported when needed: it takes longer than all of this package.
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in (PACKAGE, *libraries):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # It runs from its source, say.
            versions[name] = "unknown"
    return versions
