"""What is run: the part of an experiment that everything below `Experiment` knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.pipeline.context import FrozenContext
from crystallize_opt.pipeline.seeding import SEED_KEY, BasePlugin, SeedPlugin
from crystallize_opt.pipeline.steps import DataSource, Pipeline

REPLICATE_KEYS = ("replicate", "condition", SEED_KEY)
"""The context keys every replicate has, so that no treatment can set them."""


class Recipe:
    """A data source, a pipeline, and plugins around them.

    Args:
        datasource: Provides the input of every replicate.
        pipeline: What is run on it.
        plugins: Called around the run. A `SeedPlugin` is added where there is none.
        name: The name people read; also the default name of a stored run.
        initial_ctx: Context keys that every replicate starts with.
        seed: The seed the replicates' seeds come from; short for `plugins=[SeedPlugin(seed)]`.

    Attributes:
        initial_context: The context with the keys of `initial_ctx`.

    Raises:
        TypeError: An argument has another type.
        UsageError: `initial_ctx` sets a key of the replicates, or there are two seeds.
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
        """The plugin that seeds the replicates: of several, the first."""
        return next(plugin for plugin in self.plugins if isinstance(plugin, SeedPlugin))
