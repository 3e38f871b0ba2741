"""The differences between Optuna's samplers: how each learns, its capabilities and libraries."""

from __future__ import annotations

import importlib
import warnings
import weakref
from dataclasses import dataclass
from typing import Any

from optuna.pruners import BasePruner, NopPruner, WilcoxonPruner
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

from crystallize_opt.errors import ObjectiveError, UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.runtime.extras import is_installed, missing


@dataclass(frozen=True)
class Learning:
    """The state that teaches a sampler a failure, and what it models.

    Attributes:
        failure: The state that teaches it a failure.
        constraints: Whether it learns from outcome constraints.
        pending: Whether it takes pending trials into account.
        attached: Whether it learns from trials that it did not suggest.
        conditions: Whether it draws parameters with conditions as it does the others.
    """

    failure: TrialState
    constraints: bool = False
    pending: bool = False
    attached: bool = False
    conditions: bool = True


# Measured for each sampler, see docs/optuna.md. The first class that matches is used.
_LEARNING: tuple[tuple[type | tuple[type, ...], Learning], ...] = (
    (TPESampler, Learning(TrialState.PRUNED, constraints=True, pending=True, attached=True)),
    (
        GPSampler,
        Learning(
            TrialState.COMPLETE, constraints=True, pending=True, attached=True, conditions=False
        ),
    ),
    (
        (NSGAIISampler, NSGAIIISampler),
        Learning(TrialState.COMPLETE, constraints=True, conditions=False),
    ),
    (CmaEsSampler, Learning(TrialState.COMPLETE, attached=True, conditions=False)),
    (BruteForceSampler, Learning(TrialState.FAIL, pending=True)),
    (QMCSampler, Learning(TrialState.FAIL, conditions=False)),
    ((RandomSampler, GridSampler), Learning(TrialState.FAIL)),
    (object, Learning(TrialState.COMPLETE)),
)

# Optuna notices that these are missing only in the middle of a study, and leaves a trial running.
_NEEDED_LIBRARIES: tuple[tuple[type, tuple[str, ...]], ...] = (
    (GPSampler, ("scipy.optimize", "scipy.stats", "torch")),
    (CmaEsSampler, ("cmaes",)),
    (QMCSampler, ("scipy.stats",)),
    (WilcoxonPruner, ("scipy.stats",)),
)

# The distributions that decide a suggestion, besides Optuna and numpy. Their versions are recorded.
_DECIDING: tuple[tuple[type, tuple[str, ...]], ...] = (
    (GPSampler, ("scipy", "torch", "greenlet")),
    (CmaEsSampler, ("cmaes", "scipy")),
    (QMCSampler, ("scipy",)),
    (WilcoxonPruner, ("scipy",)),
)

# A sampler that is used by two studies silently loses its joint search space.
_samplers_in_use: weakref.WeakSet[BaseSampler] = weakref.WeakSet()


# Those of Optuna that model trials jointly, and can also draw each parameter alone.
_MODELS = (TPESampler, GPSampler, CmaEsSampler, NSGAIISampler, NSGAIIISampler, QMCSampler)

# What such a sampler raises where a search space or its arithmetic surprises it.
_ERRORS_OF_MODELS = (
    ArithmeticError,
    AssertionError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def chain_of(sampler: BaseSampler) -> list[BaseSampler]:
    """Return a sampler, the sampler that it wraps, the one that this one wraps, and so on.

    `PartialFixedSampler` and samplers of other packages that wrap another one keep it under the
    name `_base_sampler`, and pass trials on to it.
    """
    chain: list[BaseSampler] = []
    each: Any = sampler
    while isinstance(each, BaseSampler) and each not in chain:
        chain.append(each)
        each = getattr(each, "_base_sampler", None)
    return chain


def base_of(sampler: BaseSampler) -> BaseSampler:
    """Return the innermost sampler that another one wraps, or the sampler itself."""
    return chain_of(sampler)[-1]


def learning_of(sampler: BaseSampler) -> Learning:
    """Return how a sampler, or the sampler that it wraps, learns."""
    base = base_of(sampler)
    return next(how for kind, how in _LEARNING if isinstance(base, kind))


def errors_of_model(sampler: BaseSampler) -> tuple[type[Exception], ...]:
    """Return the errors after which every parameter is drawn alone; none for samplers of others.

    CmaEsSampler mixes trials of different dimensions where parameters have conditions, and its
    learning rate can become nan; it then raises at every further ask. An error of a sampler that is
    not Optuna's own is its author's to see.
    """
    base = base_of(sampler)
    ours = type(base).__module__.startswith("optuna.")
    return _ERRORS_OF_MODELS if ours and isinstance(base, _MODELS) else ()


def has_users_values(sampler: BaseSampler) -> bool:
    """Whether suggested values may come from a user: 0 for 0.0, or 0.3 on a grid of 0.1."""
    return any(
        isinstance(each, GridSampler | PartialFixedSampler)
        or not type(each).__module__.startswith("optuna.")
        for each in chain_of(sampler)
    )


def libraries_of(sampler: BaseSampler, pruner: BasePruner | None) -> tuple[str, ...]:
    """Return the distributions that decide the suggestions of a sampler and a pruner."""
    found = ["optuna", "numpy"]
    for user in (base_of(sampler), pruner):
        for kind, names in _DECIDING:
            found += names if isinstance(user, kind) else ()
    return tuple(dict.fromkeys(found))


def takes_positions(sampler: BaseSampler) -> bool:
    """Whether a sampler can search positions from 0 to 1 instead of the parameters themselves.

    Those that carry values of parameters, or list all values, cannot.
    """
    listing = (BruteForceSampler, GridSampler, PartialFixedSampler)
    return not any(isinstance(each, listing) for each in chain_of(sampler))


def capabilities_of(
    sampler: BaseSampler, pruner: BasePruner | None, *, fill_inactive: bool
) -> Capabilities:
    """Return what an optimizer with this sampler and pruner can do."""
    learning = learning_of(sampler)
    return Capabilities(
        conditions=True if learning.conditions or fill_inactive else "independent",
        several_objectives=not isinstance(base_of(sampler), CmaEsSampler),
        outcome_constraints=learning.constraints,
        pruning=pruner is not None and not isinstance(pruner, NopPruner),
        fidelity=ends_by_curves(pruner),
        pending=learning.pending,
        attached=learning.attached,
    )


def ends_by_curves(pruner: BasePruner | None) -> bool:
    """Whether a pruner compares trials at the steps of their learning curves."""
    return pruner is not None and not isinstance(pruner, (NopPruner, WilcoxonPruner))


def check_sampler(sampler: Any, *, several: bool) -> None:
    """Refuse a sampler that cannot be used; `use` marks it as used.

    Raises:
        UsageError: The object is not a sampler, or another optimizer uses it.
        MissingExtraError: The sampler needs a library that is not installed.
        ObjectiveError: The sampler takes one objective, and there are several.
    """
    if not isinstance(sampler, BaseSampler):
        raise UsageError(f"sampler= takes an Optuna sampler, not {sampler!r}.{_hint(sampler)}")
    for each in chain_of(sampler):
        if each in _samplers_in_use:
            raise UsageError(
                f"{each!r} already belongs to another optimizer. Build a fresh sampler for each."
            )
        _check_libraries(each)
    if several and isinstance(base_of(sampler), CmaEsSampler):
        raise ObjectiveError(
            "CmaEsSampler takes one objective. For several use TPESampler, GPSampler, "
            "NSGAIISampler or NSGAIIISampler."
        )


def use(sampler: BaseSampler) -> None:
    """Mark a sampler, and those that it wraps, as used; turn off what they write to stderr."""
    for each in chain_of(sampler):
        _samplers_in_use.add(each)
        # A line for each parameter that is drawn alone: the capabilities and the docs say it once.
        if hasattr(each, "_warn_independent_sampling"):
            each._warn_independent_sampling = False  # noqa: SLF001


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
