"""Pickles an experiment for other processes. Errors name the part that cannot be pickled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.runtime.extras import needs
from crystallize_opt.space.space import SearchSpace


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
    """Pickle an experiment for other processes.

    Args:
        recipe: The experiment.
        space: The search space, whose choices are sent with each treatment. None for an
            optimizer without a space.

    Raises:
        UsageError: A part cannot be pickled; the message names the part.
        MissingExtraError: A library is not installed.
    """
    need_libraries()
    for what, part in _parts(recipe, space):
        pickled(part, what)
    return pickled(recipe, "The experiment")


def _parts(recipe: Recipe, space: SearchSpace | None) -> Iterable[tuple[str, Any]]:
    for step in recipe.pipeline.steps:
        yield f"Step {step.name!r}", step
    source = recipe.datasource
    name = getattr(getattr(source, "_factory", None), "__name__", type(source).__name__)
    yield f"The data source {name!r}", source
    for key in recipe.initial_context:
        yield f"initial_ctx[{key!r}]", recipe.initial_context[key]
    for plugin in recipe.plugins:
        yield f"The plugin {type(plugin).__name__}", plugin
    if space is not None:
        for key in space:
            yield f"The parameter {key!r} of the search space", space[key]


def pickled(part: Any, what: str) -> bytes:
    """Pickle a part of an experiment.

    Args:
        part: Any object.
        what: What the message calls the part.

    Raises:
        UsageError: The part cannot be pickled.
    """
    import cloudpickle

    try:
        return cloudpickle.dumps(part)  # type: ignore[no-any-return]
    except Exception as error:
        raise UsageError(
            f"{what} cannot be sent to another process: {type(error).__name__}: {error}. Create "
            "the object in the step's setup() or where the step uses it, or run the trials in "
            'threads: workers="threads".'
        ) from error
