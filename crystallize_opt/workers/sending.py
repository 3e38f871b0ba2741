"""Pickles an experiment for other processes. Errors name the part that cannot be pickled."""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from crystallize_opt.errors import UsageError
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.runtime.extras import needs
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.workers.logs import Levels

_RANDOM = os.urandom(8).hex()


class Package(NamedTuple):
    """What a worker gets once, before its first trial.

    Attributes:
        recipe: The experiment.
        home: The process that started the search, from `home()`.
        levels: The levels of its loggers.
    """

    recipe: Recipe
    home: str
    levels: Levels


def home() -> str:
    """Return a text that identifies this process among those of all machines."""
    return f"{_RANDOM}-{os.getpid()}"


def need_libraries() -> None:
    """Check that the libraries for worker processes are installed.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    with needs("Trials in processes need", "cloudpickle", "loky", "psutil", extra="processes"):
        import cloudpickle  # noqa: F401
        import loky  # noqa: F401
        import psutil  # noqa: F401


def picklable_experiment(recipe: Recipe, space: SearchSpace | None = None) -> bytes:
    """Pickle an experiment for other processes: a `Package`.

    Args:
        recipe: The experiment.
        space: The search space, whose choices are sent with each treatment. None for an
            optimizer without a space.

    Raises:
        UsageError: A part cannot be pickled; the message names the part.
        MissingExtraError: A library is not installed.
    """
    need_libraries()
    for key in space or ():
        if space is not None:
            pickled(space[key], f"The parameter {key!r} of the search space")
    try:
        return pickled(Package(recipe, home(), Levels.here()), "The experiment")
    except UsageError:
        for what, part in _parts(recipe):  # Find the part that cannot be pickled.
            pickled(part, what)
        raise


def _parts(recipe: Recipe) -> Iterable[tuple[str, Any]]:
    for step in recipe.pipeline.parts:
        yield f"Step {step.name!r}", step
    source = recipe.datasource
    name = getattr(getattr(source, "_factory", None), "__name__", type(source).__name__)
    yield f"The data source {name!r}", source
    for key in recipe.initial_context:
        yield f"initial_ctx[{key!r}]", recipe.initial_context[key]
    for plugin in recipe.plugins:
        yield f"The plugin {type(plugin).__name__}", plugin


def pickled(part: Any, what: str) -> bytes:
    """Pickle a part of an experiment, with the classes and functions of the main script it uses.

    Args:
        part: Any object.
        what: What the message calls the part.

    Raises:
        UsageError: The part cannot be pickled.
    """
    file = io.BytesIO()
    pickler = _pickler()(file)
    try:
        pickler.dump(part)
        # The second object of the same pickle refers to classes and functions of the first.
        pickler.dump((home(), pickler.of_main))
    except Exception as error:
        raise UsageError(
            f"{what} cannot be sent to another process: {type(error).__name__}: {error}. Create "
            "the object in the step's setup() or where the step uses it, or run the trials in "
            'threads: workers="threads".'
        ) from error
    return file.getvalue()


@cache
def _pickler() -> Any:
    import cloudpickle

    base: Any = cloudpickle.Pickler  # It has no types.

    class Pickler(base):  # type: ignore[misc]
        """Notes the classes and functions of the main script, which are pickled by value."""

        def __init__(self, file: io.BytesIO) -> None:
            super().__init__(file)
            self.of_main: dict[str, Any] = {}

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, (type, types.FunctionType)) and obj.__module__ == "__main__":
                name = obj.__qualname__
                if getattr(sys.modules.get("__main__"), name, None) is obj:
                    self.of_main[name] = obj
            return super().reducer_override(obj)

    return Pickler


def unpickled(data: bytes) -> Any:
    """Return what `pickled` was given.

    In another process, the classes and functions of the search's main script become attributes of
    `__main__` there: pickle looks them up by name when a step pickles an object.
    """
    unpickler = pickle.Unpickler(io.BytesIO(data))  # noqa: S301  (our own bytes)
    part = unpickler.load()
    sender, of_main = unpickler.load()
    if sender != home():
        main = sys.modules["__main__"]
        for name, value in of_main.items():
            setattr(main, name, value)
    return part
