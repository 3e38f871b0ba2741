"""Optional libraries: which are installed, and which command installs them."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, of this package and of some distributions."""
    # Imported when needed: it takes longer than all of this package.
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in ("crystallize-opt", *libraries):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # It runs from its source, say.
            versions[name] = "unknown"
    return versions
