"""An experiment as bytes, for other processes; what cannot be sent is named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.workers.worker_process import need_libraries


def picklable_experiment(experiment: Recipe, optimizer: SpaceOptimizer[Any] | None = None) -> bytes:
    """Return an experiment as bytes, for other processes.

    Raises:
        UsageError: A part of it cannot be pickled; the message names the part.
        MissingExtraError: A library is not installed.
    """
    for what, part in _parts(experiment, optimizer):
        pickled(part, what)
    return pickled(experiment, "The experiment")


def _parts(experiment: Recipe, optimizer: SpaceOptimizer[Any] | None) -> Iterable[tuple[str, Any]]:
    for step in experiment.pipeline.steps:
        yield f"Step {step.name!r}", step
    source = experiment.datasource
    name = getattr(getattr(source, "_factory", None), "__name__", type(source).__name__)
    yield f"The data source {name!r}", source
    for key in experiment.initial_context:
        yield f"initial_ctx[{key!r}]", experiment.initial_context[key]
    for plugin in experiment.plugins:
        yield f"The plugin {type(plugin).__name__}", plugin
    if optimizer is not None:
        for key in optimizer.space:
            yield f"The parameter {key!r} of the search space", optimizer.space[key]


def pickled(part: Any, what: str) -> bytes:
    """Return a part of an experiment as bytes.

    Raises:
        UsageError: It cannot be pickled; the message begins with `what`.
        MissingExtraError: A library is not installed.
    """
    need_libraries()
    import cloudpickle

    try:
        return cloudpickle.dumps(part)  # type: ignore[no-any-return]
    except Exception as error:
        raise UsageError(
            f"{what} cannot be sent to another process: {type(error).__name__}: {error}. Make it "
            'in the step\'s setup(), or where it is used; or use executor="threads".'
        ) from error
