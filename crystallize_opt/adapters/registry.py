"""Lists the optimizers of this package, and those that other packages register.

Another package registers its optimizer by an entry point in the group `crystallize_opt.optimizers`,
which gives the name of the class and its location. In its `pyproject.toml`:

    [project.entry-points."crystallize_opt.optimizers"]
    MyOptimizer = "my_package.my_module:MyOptimizer"
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import MissingExtraError
from crystallize_opt.optimizers.base import BaseOptimizer
from crystallize_opt.runtime import extras
from crystallize_opt.runtime.extras import PACKAGE, is_installed

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "crystallize_opt.optimizers"
"""The entry point group in which other packages register their optimizers."""

# Name of the class -> its module or package, also the name of its extra, and the libraries needed.
OPTIMIZERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "AxOptimizer": ("ax", ("ax",)),
    "BayBEOptimizer": ("baybe", ("baybe",)),
    "GridOptimizer": ("grid", ()),
    "HEBOOptimizer": ("hebo", ("hebo",)),
    "NePSOptimizer": ("neps", ("neps",)),
    "NevergradOptimizer": ("nevergrad", ("nevergrad",)),
    "OptunaOptimizer": ("optuna", ("optuna",)),
    "RandomOptimizer": ("random", ()),
    "SMACOptimizer": ("smac", ("smac", "ConfigSpace")),
}

OWN_ENVIRONMENT = ("hebo", "neps")
"""The extras whose libraries clash with others: see `adapters/environments.py`. Their optimizers
can be imported without them, because `python=` runs them elsewhere."""


@dataclass(frozen=True, kw_only=True)
class AvailableOptimizer:
    """An optimizer that has not been imported yet.

    Attributes:
        name: The name of the class; for a plug-in, the name of its entry point.
        origin: The distribution that provides the optimizer, such as `crystallize-opt`.
        target: The location of the class: `"module:Class"`.
        installed: Whether all libraries that the optimizer is known to need can be found. A library
            that is found may still be broken: only `load()` shows that.
        reason: What is missing, or None.
        install: The command that installs what is missing, or None if there is none.
    """

    name: str
    origin: str
    target: str
    installed: bool
    reason: str | None = None
    install: str | None = None

    def load(self) -> type[BaseOptimizer]:
        """Import and return the class.

        Raises:
            MissingExtraError: A library is not installed; the message says which one.
            ImportError: A library is installed but broken; this is its own error.
            AttributeError: The module has no such class.
            TypeError: The object is not a class with `ask`, `tell` and `get_best_treatment`.
        """
        if self.origin == PACKAGE:
            return load_ours(self.name)
        if not self.installed:
            raise MissingExtraError(
                f"{self.name}, registered by {self.origin}, cannot be loaded: {self.reason}"
            )
        module, _, path = self.target.partition(":")
        found: Any = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
        needed = ("ask", "tell", "get_best_treatment")
        if not isinstance(found, type) or not all(hasattr(found, name) for name in needed):
            raise TypeError(
                f"{self.target}, registered by {self.origin}, is {found!r}. An optimizer is a class"
                f" with {', '.join(needed)}."
            )
        return found


def load_ours(name: str) -> type[BaseOptimizer]:
    """Import and return an optimizer of this package.

    Raises:
        MissingExtraError: The library is not installed; the message has the command that installs
            it.
    """
    module, _ = OPTIMIZERS[name]
    found: type[BaseOptimizer] = getattr(
        importlib.import_module(f"crystallize_opt.adapters.{module}"), name
    )
    return found


def available_optimizers() -> dict[str, AvailableOptimizer]:
    """Return every optimizer by name, with what is missing if it is not installed.

    The function imports neither libraries nor plug-ins.

    Returns:
        This package's optimizers, then those that other packages register. A plug-in whose name is
        already taken is listed as `"Name (its distribution)"`.

    Example:
        >>> random = available_optimizers()["RandomOptimizer"]
        >>> random.installed, random.origin, random.load().__name__
        (True, 'crystallize-opt', 'RandomOptimizer')
    """
    found = {name: _ours(name) for name in OPTIMIZERS}
    for plugin in _plugins():
        taken = plugin.name in found
        found[f"{plugin.name} ({plugin.origin})" if taken else plugin.name] = plugin
    return found


def _ours(name: str) -> AvailableOptimizer:
    module, libraries = OPTIMIZERS[name]
    missing = [library for library in libraries if not is_installed(library)]
    return AvailableOptimizer(
        name=name,
        origin=PACKAGE,
        target=f"crystallize_opt.adapters.{module}:{name}",
        installed=not missing,
        reason=f"{name} needs {missing[0]}, which is not installed." if missing else None,
        install=install_command(module) if missing else None,
    )


def install_command(extra: str) -> str:
    """Return the command that installs what an optimizer of this package needs."""
    if extra not in OWN_ENVIRONMENT:
        return extras.install_command(extra)
    return f"python -m crystallize_opt.adapters install {extra} --into {extra}-env"


def _plugins() -> Iterator[AvailableOptimizer]:
    from importlib.metadata import entry_points  # Not at the top: slow to import, seldom needed.

    try:
        points = entry_points(group=GROUP)
    except Exception as error:  # noqa: BLE001  (the metadata of any installed distribution)
        yield AvailableOptimizer(
            name="plug-ins",
            origin="",
            target="",
            installed=False,
            reason=f"The entry points of an installed distribution cannot be read: {error!r}.",
        )
        return
    for point in points:
        origin = point.dist.name if point.dist else ""
        reason = _why_not(point, origin)
        yield AvailableOptimizer(
            name=point.name,
            origin=origin,
            target=point.value.partition("[")[0].strip(),
            installed=reason is None,
            reason=reason,
        )


def _why_not(point: EntryPoint, origin: str) -> str | None:
    """Return why a plug-in cannot be loaded, if that is known without importing it."""
    module, _, attribute = point.value.partition("[")[0].partition(":")
    names = [*module.split("."), *attribute.split(".")]
    if not all(name.strip().isidentifier() for name in names):
        return f"{origin} registers {point.value!r}, which is not of the form 'module:Class'."
    top = names[0].strip()
    if not is_installed(top):
        return f"{origin} registers {point.value!r}, but there is no module {top!r}."
    return None
