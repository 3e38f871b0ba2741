"""Describes, as plain data, everything that decides the suggestions and results of a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crystallize_opt.optimizers.plain import Driven, kind_of
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.seeding import SeedPlugin
from crystallize_opt.plain_data import describe, described, source_digest
from crystallize_opt.storage.description import describe_goals

Description = dict[str, Any]


def describe_optimizer(optimizer: Driven) -> Description:
    """Describe an optimizer: its space, objectives, constraints, class, seed and settings."""
    return {
        **describe_goals(optimizer.space, optimizer.criterion),
        "optimizer": {
            "class": described(kind_of(optimizer)),
            "seed": optimizer.seed,
            "settings": optimizer.settings,
        },
    }


def describe_recipe(recipe: Recipe, replicates: int) -> Description:
    """Describe the experiment that a trial runs, and its number of replicates."""
    return {
        "replicates_per_trial": replicates,
        "experiment": {
            "seed": recipe.seed_plugin.seed,
            "datasource": _describe_step(recipe.datasource),
            "pipeline": [_describe_step(step) for step in recipe.pipeline.steps],
            "plugins": [described(type(plugin)) for plugin in recipe.plugins],
            "initial_ctx": {
                key: describe(recipe.initial_context[key]) for key in recipe.initial_context
            },
        },
    }


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


def _describe_step(step: Any) -> dict[str, Any]:
    parameters = getattr(step, "_parameters", None)  # of a decorated function
    code = type(step) if parameters is None else parameters.function
    given = step.params if hasattr(step, "params") else getattr(step, "_given", {})
    return {
        "name": described(code),
        "params": {name: describe(value) for name, value in given.items()},
        "source": source_digest(code),
    }
