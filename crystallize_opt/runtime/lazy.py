"""Import the modules of a package when their public names are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from crystallize_opt.runtime.extras import needs


def lazy_names(
    package: str,
    modules: Mapping[str, str],
    *,
    extra: str | None = None,
    libraries: Sequence[str] = (),
) -> Callable[[str], Any]:
    """Return a `__getattr__` for a package's `__init__.py`.

    Args:
        package: The name of the package.
        modules: Public name to the module that defines the name.
        extra: The extra that installs the libraries.
        libraries: The libraries that the modules need.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with needs(f"{name} needs", *libraries, extra=extra):
            return getattr(import_module(modules[name]), name)

    return get
