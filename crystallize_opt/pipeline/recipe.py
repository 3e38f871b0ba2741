"""The part of an experiment that its runs need: all modules below `Experiment` use a `Recipe`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.pipeline.context import FrozenContext
from crystallize_opt.pipeline.pipeline import Pipeline
from crystallize_opt.pipeline.seeding import SEED_KEY, BasePlugin, SeedPlugin
from crystallize_opt.pipeline.steps import DataSource

REPLICATE_KEYS = ("replicate", "condition", SEED_KEY)
"""The context keys that every replicate has; no treatment can set them."""


class Recipe:
    """A data source, a pipeline, and the plugins of their runs.

    Args:
        datasource: Provides the input of every replicate.
        pipeline: The steps that are run on this input.
        plugins: Hooks around the run. If there is no `SeedPlugin`, one is added.
        name: The experiment's name; also the default name of a stored run.
        initial_ctx: The context keys and values with which every replicate starts.
        seed: The seed of the replicates' seeds; short for `plugins=[SeedPlugin(seed)]`.

    Attributes:
        initial_context: The context with the keys of `initial_ctx`.

    Raises:
        TypeError: An argument has the wrong type.
        UsageError: `initial_ctx` sets a key that every replicate has, or there are two seeds.
    """

    def __init__(
        self,
        datasource: DataSource,
        pipeline: Pipeline,
        plugins: Iterable[BasePlugin] | None = None,
        *,
        name: str | None = None,
        initial_ctx: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        if not isinstance(datasource, DataSource):
            hint = f" Did you mean {datasource.__name__}()?" if callable(datasource) else ""
            raise TypeError(f"datasource= takes a DataSource, not {datasource!r}.{hint}")
        if not isinstance(pipeline, Pipeline):
            raise TypeError(f"pipeline= takes a Pipeline, not {pipeline!r}.")
        self.datasource = datasource
        self.pipeline = pipeline
        self.name = name
        self.initial_context = FrozenContext(initial_ctx)
        if taken := [key for key in REPLICATE_KEYS if key in self.initial_context]:
            raise UsageError(
                f"initial_ctx= cannot set {taken[0]!r}: every replicate gets its own "
                f"{', '.join(map(repr, REPLICATE_KEYS))}."
            )
        self.plugins = list(plugins or ())
        for plugin in self.plugins:
            if not isinstance(plugin, BasePlugin):
                raise TypeError(f"A plugin is a BasePlugin, not {plugin!r}.")
        if not any(isinstance(plugin, SeedPlugin) for plugin in self.plugins):
            self.plugins.append(SeedPlugin(seed))
        elif seed is not None:
            raise UsageError("Give either seed= or a SeedPlugin, not both.")
        for plugin in self.plugins:
            plugin.init_hook(self)

    @property
    def seed_plugin(self) -> SeedPlugin:
        """The first plugin that seeds the replicates."""
        return next(plugin for plugin in self.plugins if isinstance(plugin, SeedPlugin))
