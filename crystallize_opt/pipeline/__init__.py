"""Data sources, steps and plugins, and the run of an experiment."""

from crystallize_opt.pipeline.context import FrozenContext
from crystallize_opt.pipeline.hypothesis import Hypothesis
from crystallize_opt.pipeline.pipeline import Choice, Pipeline
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.result import Result
from crystallize_opt.pipeline.seeding import BasePlugin, SeedPlugin
from crystallize_opt.pipeline.steps import (
    DataSource,
    PipelineStep,
    data_source,
    pipeline_step,
)

__all__ = [
    "BasePlugin",
    "Choice",
    "DataSource",
    "FrozenContext",
    "Hypothesis",
    "Pipeline",
    "PipelineStep",
    "Recipe",
    "Result",
    "SeedPlugin",
    "data_source",
    "pipeline_step",
]
