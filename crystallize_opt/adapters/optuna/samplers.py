"""The differences between Optuna's samplers: how each learns, its capabilities and libraries."""

from __future__ import annotations

import importlib
import math
import warnings
import weakref
from dataclasses import dataclass
from typing import Any

from optuna.pruners import BasePruner, WilcoxonPruner
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIIISampler,
    NSGAIISampler,
    PartialFixedSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState

from crystallize_opt.errors import ObjectiveError, UnsupportedSpaceError, UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.runtime.extras import is_installed, missing
from crystallize_opt.space.space import SearchSpace


@dataclass(frozen=True)
class Learning:
    """The state that teaches a sampler a failure, and whether it knows constraints and pending."""

    failure: TrialState
    constraints: bool = False
    pending: bool = False


# Measured for each sampler, see docs/optuna.md. The first class that matches is used.
_LEARNING: tuple[tuple[type, Learning], ...] = (
    (TPESampler, Learning(TrialState.PRUNED, constraints=True, pending=True)),
    (GPSampler, Learning(TrialState.COMPLETE, constraints=True, pending=True)),
    (NSGAIISampler, Learning(TrialState.COMPLETE, constraints=True)),
    (NSGAIIISampler, Learning(TrialState.COMPLETE, constraints=True)),
    (BruteForceSampler, Learning(TrialState.FAIL, pending=True)),
    ((RandomSampler, QMCSampler, GridSampler), Learning(TrialState.FAIL)),  # type: ignore[assignment]
    (object, Learning(TrialState.COMPLETE)),
)

# Optuna notices that these are missing only in the middle of a study, and leaves a trial running.
_NEEDED_LIBRARIES: tuple[tuple[type, tuple[str, ...]], ...] = (
    (GPSampler, ("scipy.optimize", "scipy.stats", "torch")),
    (CmaEsSampler, ("cmaes",)),
    (QMCSampler, ("scipy.stats",)),
    (WilcoxonPruner, ("scipy.stats",)),
)

# A sampler that is used by two studies silently loses its joint search space.
_samplers_in_use: weakref.WeakSet[BaseSampler] = weakref.WeakSet()


def learning_of(sampler: BaseSampler) -> Learning:
    """Return how a sampler, or the sampler that it wraps, learns."""
    sampler = _base_of(sampler)
    return next(how for kind, how in _LEARNING if isinstance(sampler, kind))


def capabilities_of(sampler: BaseSampler, pruner: BasePruner | None) -> Capabilities:
    """Return what an optimizer with this sampler and pruner can do."""
    learning = learning_of(sampler)
    return Capabilities(
        several_objectives=not isinstance(_base_of(sampler), CmaEsSampler),
        outcome_constraints=learning.constraints,
        pruning=pruner is not None,
        pending=learning.pending,
    )


def check_sampler(sampler: Any, space: SearchSpace, *, several: bool) -> None:
    """Refuse a sampler that cannot be used, and mark it as used.

    Raises:
        UsageError: The object is not a sampler, or another optimizer uses it.
        MissingExtraError: The sampler needs a library that is not installed.
        ObjectiveError: The sampler takes one objective, and there are several.
        UnsupportedSpaceError: The sampler cannot take a parameter of the space.
    """
    if not isinstance(sampler, BaseSampler):
        raise UsageError(f"sampler= takes an Optuna sampler, not {sampler!r}.{_hint(sampler)}")
    if sampler in _samplers_in_use:
        raise UsageError(
            f"{sampler!r} serves another optimizer already. Build a fresh sampler for each."
        )
    base = _base_of(sampler)
    _check_libraries(base)
    if several and isinstance(base, CmaEsSampler):
        raise ObjectiveError(
            "CmaEsSampler takes one objective. For several use TPESampler, GPSampler, "
            "NSGAIISampler or NSGAIIISampler."
        )
    if isinstance(base, BruteForceSampler):
        for name, parameter in space.items():
            if parameter.size == math.inf:
                raise UnsupportedSpaceError(
                    f"BruteForceSampler cannot take {name!r}, {parameter!r}: it has no finite set "
                    "of values. Give it a step, or use another sampler."
                )
    _samplers_in_use.add(sampler)


def check_pruner(pruner: Any, *, several: bool) -> None:
    """Refuse a pruner that cannot be used.

    Raises:
        UsageError: The object is not a pruner.
        ObjectiveError: There are several objectives.
        MissingExtraError: The pruner needs a library that is not installed.
    """
    if not isinstance(pruner, BasePruner):
        raise UsageError(f"pruner= takes an Optuna pruner, not {pruner!r}.{_hint(pruner)}")
    if several:
        raise ObjectiveError("Optuna prunes with one objective only. Leave out pruner=.")
    _check_libraries(pruner)


def _base_of(sampler: BaseSampler) -> BaseSampler:
    """Return the sampler that another one wraps, or the sampler itself."""
    while isinstance(sampler, PartialFixedSampler):
        sampler = sampler._base_sampler  # noqa: SLF001  (there is no other way to it)
    return sampler


def _hint(given: Any) -> str:
    return f" Did you mean {given.__name__}()?" if isinstance(given, type) else ""


def _check_libraries(user: object) -> None:
    for kind, modules in _NEEDED_LIBRARIES:
        for module in modules if isinstance(user, kind) else ():
            library = module.partition(".")[0]
            if not is_installed(library):
                raise missing(f"{type(user).__name__} needs", library)
            # Optuna imports the module at the first ask, where the warnings filters that it adds
            # would stay.
            with warnings.catch_warnings():
                importlib.import_module(module)
