"""Refuses the optimizers of Nevergrad's registry that cannot serve several pending trials."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, TypeAlias

from crystallize_opt.adapters.nevergrad.library import (
    ConfiguredOptimizer,
    Optimizer,
    TellNotAskedNotSupportedError,
    ng,
    np,
)
from crystallize_opt.errors import MissingExtraError, UsageError

Made: TypeAlias = Any  # ConfiguredOptimizer | type[Optimizer]; Nevergrad has no types for mypy.
"""What builds one of Nevergrad's optimizers."""

OTHERS = (
    "Others that work: 'NGOpt', 'CMA', 'DE', 'TwoPointsDE', 'OnePlusOne', 'DiscreteOnePlusOne', "
    "'DiscreteLenglerOnePlusOne', 'PSO', 'TBPSA', 'MetaModel', 'BO', 'NgIohTuned'."
)


def maker_of(optimizer: Any) -> Made:
    """Return what builds an optimizer, given by its name in the registry or as itself.

    Raises:
        UsageError: It is neither, or there is no such name.
    """
    if isinstance(optimizer, str):
        registry = ng.optimizers.registry
        if optimizer in registry:
            found: Made = registry[optimizer]
            return found
        near = difflib.get_close_matches(optimizer, registry, n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UsageError(
            f"Nevergrad's registry has no optimizer {optimizer!r}.{hint} {OTHERS} "
            "sorted(nevergrad.optimizers.registry) lists all names."
        )
    is_class = isinstance(optimizer, type) and issubclass(optimizer, Optimizer)
    if isinstance(optimizer, ConfiguredOptimizer) or is_class:
        return optimizer
    raise UsageError(
        "optimizer= takes a name of Nevergrad's registry, such as 'NGOpt', or a configured "
        "optimizer, such as nevergrad.optimizers.DifferentialEvolution(crossover='twopoints'), "
        f"not {optimizer!r}."
    )


def name_of(maker: Made) -> str:
    """Return the name of an optimizer for messages."""
    return str(maker.name if isinstance(maker, ConfiguredOptimizer) else maker.__name__)


def rehearse(maker: Made, parametrization: ng.p.Parameter, budget: int, num_workers: int) -> bool:
    """Build an optimizer, try it, and return whether it learns from points it has not asked for.

    Some names of the registry need other packages, which they import when they are asked; others
    run a library in a thread that waits for each outcome, so that a second ask waits for ever.

    Args:
        maker: What builds the optimizer.
        parametrization: A fresh parametrization.
        budget: The number of trials.
        num_workers: The number of workers.

    Raises:
        UsageError: The optimizer takes one trial at a time, or runs in a thread.
        MissingExtraError: It needs a package that is not installed.
    """
    name = name_of(maker)
    one_at_a_time = UsageError(
        f"{name} takes one trial at a time, and may wait for ever if it is asked for a second one. "
        f"{OTHERS}"
    )
    if maker.no_parallelization:
        raise one_at_a_time
    parametrization.random_state = np.random.RandomState(0)
    try:
        optimizer = maker(parametrization, budget=budget, num_workers=num_workers)
        if any(each.recast for each in _parts(optimizer, set())):
            raise UsageError(
                f"{name} runs another library in a thread, which takes one trial, or one batch, at "
                f"a time, and no points that it has not asked for. {OTHERS}"
            )
        asked = [optimizer.ask() for _ in range(2)]
        optimizer.tell(asked[1], 1.0)
    except ImportError as error:
        why = f"needs {error.name}, which is not installed" if error.name else f"says: {error}"
        raise MissingExtraError(f"{name} {why}. {OTHERS}", name=error.name) from error
    except ValueError as error:
        if "does not support parallelization" in str(error):  # One of the optimizers within it.
            raise one_at_a_time from error
        raise
    try:
        optimizer.tell(parametrization.spawn_child(), 2.0)
    except TellNotAskedNotSupportedError:
        return False
    return True


def _parts(part: Any, seen: set[int]) -> Iterator[Optimizer]:
    """Yield an optimizer and those that it drives."""
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, Optimizer):
        yield part
        _ = getattr(part, "optim", None)  # Some build the one that they drive when it is asked for.
        for inner in vars(part).values():
            yield from _parts(inner, seen)
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from _parts(inner, seen)
