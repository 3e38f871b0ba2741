"""Describes, as plain data, everything that decides the suggestions and results of a search."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.identity import describe, without_identity
from crystallize_opt.optimizers.plain import Driven, PlainDriver
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.pipeline.pipeline import Choice
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.seeding import BasePlugin, SeedPlugin
from crystallize_opt.pipeline.steps import FunctionStep
from crystallize_opt.plain_data import described, encode
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.description import describe_goals

Description = dict[str, Any]


def describe_optimizer(optimizer: Driven) -> Description:
    """Describe an optimizer: its space, objectives, constraints, class, seed and settings."""
    description = {
        **describe_goals(optimizer.space, optimizer.criterion),
        "optimizer": {
            "class": described(optimizer.stands_for),
            "seed": optimizer.seed,
            "settings": optimizer.settings,
        },
    }
    if isinstance(optimizer, PlainDriver):
        description["optimizer"] |= _describe_plain(optimizer.optimizer)
    if optimizer.space is not None and (objects := _describe_objects(optimizer.space)):
        description["choices"] = objects
    return description


def _describe_plain(optimizer: Any) -> dict[str, Any]:
    """Describe the attributes of a plain optimizer, or its version, which stands for them.

    An attribute without an identity is left out, and so is the content of the objects of libraries,
    in which there may be a time or a random name: a resume compares the suggestions, too.
    """
    if (version := getattr(optimizer, "version", None)) is not None:
        return {"version": str(version)}
    found: dict[str, Any] = {}
    for name, value in getattr(optimizer, "__dict__", {}).items():
        if name == "objective":  # It is among the goals.
            continue
        try:
            described_value = describe(value, {id(optimizer): "optimizer"})
        except UsageError:  # It contains itself.
            continue
        if not any(without_identity(described_value)):
            found[name] = _without_content_of_libraries(described_value)
    return {"attributes": found}


def _without_content_of_libraries(description: Any) -> Any:
    if isinstance(description, list):
        return list(map(_without_content_of_libraries, description))
    if not isinstance(description, dict):
        return description
    kind = description.get("(class)")
    if isinstance(kind, dict) and [*kind] == ["(code)"]:  # A user's class has more.
        library = kind["(code)"].partition(".")[0]
        if library not in sys.stdlib_module_names and library not in _DESCRIBED:
            return {"(class)": kind}
    return {key: _without_content_of_libraries(item) for key, item in description.items()}


_DESCRIBED = ("crystallize_opt", "numpy")
"""Libraries whose objects are values, such as treatments and random generators."""


def _describe_objects(space: SearchSpace) -> dict[str, Any]:
    """Describe the choices and constants that the space's own description only names."""
    found: dict[str, Any] = {}
    for name, parameter in space.items():
        values: Any = ()
        if isinstance(parameter, (Categorical, Ordinal)):
            values = parameter.choices
        elif isinstance(parameter, Constant):
            values = (parameter.value,)
        described_only: list[Any] = []
        for value in values:
            encode(value, other=described_only.append)
        if described_only:
            found[name] = [describe(value) for value in described_only]
    return found


def describe_recipe(recipe: Recipe, replicates: Any) -> Description:
    """Describe the experiment that a trial runs, and its number of replicates, plain data."""
    known = {id(recipe): "experiment"}  # A plugin may keep it.
    return {
        "replicates_per_trial": replicates,
        "experiment": {
            "seed": recipe.seed_plugin.seed,
            "datasource": _describe_part(recipe.datasource, known),
            "pipeline": [_describe_part(step, known) for step in recipe.pipeline.steps],
            "plugins": [_describe_plugin(plugin, known) for plugin in recipe.plugins],
            "initial_ctx": {
                key: describe(recipe.initial_context[key], known) for key in recipe.initial_context
            },
        },
    }


def refuse_without_identity(description: Mapping[str, Any]) -> None:
    """Refuse an experiment or choices with values that a resumed run could not compare.

    The optimizer's settings need no identity: a resume compares each of its suggestions.

    Raises:
        UsageError: A value has no identity; the message names all such values.
    """
    parts = {key: description[key] for key in ("experiment", "choices") if key in description}
    if found := list(without_identity(parts)):
        raise UsageError(
            "This run cannot be stored, because nobody could tell on a resume whether these values "
            "are still the same:\n"
            + "\n".join(f"  {path}: {why}" for path, why in found)
            + "\nEither give the step, data source or plugin that has them a version (a text: "
            "@pipeline_step(version='1'), @data_source(version='1'), or the attribute `version` of "
            "a class), which then stands for its code and for all that the code uses. Or build "
            "the value inside the step, or in its setup(). Or give its class a __reduce__ method, "
            "as pickle uses it."
        )


def adopt_optimizers_seed(optimizer: Driven, description: Mapping[str, Any]) -> None:
    """Give a fresh optimizer whose seed was drawn at random the seed of a stored run."""
    seed = description.get("optimizer", {}).get("seed")
    if not isinstance(optimizer, SpaceOptimizer) or seed in (None, optimizer.seed):
        return
    if optimizer.is_seed_drawn and not optimizer.calls:
        optimizer.adopt_seed(seed)


def adopt_seed(recipe: Recipe, description: Mapping[str, Any]) -> None:
    """Give a recipe whose seed was drawn at random the seed of a stored run.

    Args:
        recipe: The experiment's recipe; a seed that the user chose is kept.
        description: The description of the stored run; empty if the run is new.
    """
    if "experiment" in description:
        for plugin in recipe.plugins:
            if isinstance(plugin, SeedPlugin) and plugin.is_drawn:
                plugin.seed = description["experiment"]["seed"]


def _describe_part(part: Any, known: Mapping[int, str]) -> dict[str, Any]:
    """Describe a step or a data source: its parameters, and its version, or else its code."""
    if isinstance(part, Choice):
        alternatives = {
            name: [_describe_part(step, known) for step in steps]
            for name, steps in part.alternatives.items()
        }
        return {"choice": part.name, "alternatives": alternatives}
    parameters = getattr(part, "_parameters", None)  # of a decorated function
    code = type(part) if parameters is None else parameters.function
    given = part.params if hasattr(part, "params") else getattr(part, "_given", {})
    found: dict[str, Any] = {
        "name": described(code),
        "params": {name: describe(value, known) for name, value in given.items()},
    }
    if isinstance(part, FunctionStep) and part.prefix:
        found["prefix"] = part.prefix
    if part.version is not None:
        for name, value in given.items():
            if any(without_identity(found["params"][name])):
                found["params"][name] = described(type(value))
        return found | {"version": str(part.version)}
    return found | {"code": describe(part if parameters is None else code, known)}


def _describe_plugin(plugin: BasePlugin, known: Mapping[int, str]) -> dict[str, Any]:
    if plugin.version is not None:
        return {"name": described(type(plugin)), "version": str(plugin.version)}
    found = {"name": described(type(plugin)), "code": describe(plugin, known)}
    if isinstance(plugin, SeedPlugin):  # Its seed is that of the experiment, drawn or not.
        for name in ("seed", "is_drawn"):
            found["code"].pop(name, None)
    return found
