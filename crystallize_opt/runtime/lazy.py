"""Names of a package whose modules are imported when a name is first used."""

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
        modules: Each public name and the module that defines it.
        extra: The extra that brings in what the modules need.
        libraries: The libraries that the modules need.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with needs(f"{name} needs", *libraries, extra=extra):
            return getattr(import_module(modules[name]), name)

    return get
