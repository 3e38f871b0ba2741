"""Hooks into a run, and the plugin that seeds replicates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import UsageError
from crystallize_opt.pipeline.context import FrozenContext
from crystallize_opt.runtime.checks import SEED_LIMIT, checked_seed, drawn_seed
from crystallize_opt.runtime.random_state import seed_global_random_state

if TYPE_CHECKING:
    from crystallize_opt.pipeline.result import Result
    from crystallize_opt.pipeline.steps import PipelineStep

SEED_KEY = "seed_used"
# Neighbouring replicates get distant seeds, the same as in crystallize 0.27.
_SEED_STRIDE = 31337
CONFIRMATION_FIRST = 0xB529_7A4D
"""The number of the first replicate whose seed is one of confirmations, not of searches.

The stride is odd, so the 2**32 replicates of a seed have 2**32 different seeds: replicates with
different numbers never share one. Searches begin at 0 and would take three billion replicates to
reach this number. Its low bits are far from 0, too, so that the seeds of the first 30,000
replicates of both stay distinct where a step keeps only the lower 16 bits of a seed or more.
"""
_MOST_CONFIRMATIONS = 1_000_000_000


class BasePlugin:
    """The base of plugins, which observe or change a run. Override the hooks you need.

    The order is: `init_hook` when the experiment is built; `before_run` when a `run`, `apply` or
    `optimize` begins; for each replicate of each treatment `before_replicate` and, around each
    step, `before_step` and `after_step`; `after_run` at the end. One `optimize` is one run.

    Every hook gets the `Experiment`. The argument is annotated as `Any` here, so that your hook may
    annotate it as `Experiment`.

    Attributes:
        version: None, or a text that stands for this plugin when a stored run is resumed. Without
            it, the code, the attributes and all values that the code uses are compared.
    """

    version: str | None = None

    def init_hook(self, experiment: Any) -> None:
        """Called once, at the end of the experiment's construction."""

    def before_run(self, experiment: Any) -> None:
        """Called before the steps are set up."""

    def before_replicate(self, experiment: Any, ctx: FrozenContext) -> None:
        """Called before the data are fetched, with the treatment already in `ctx`."""

    def before_step(self, experiment: Any, step: PipelineStep) -> None:
        """Called before each step."""

    def after_step(
        self, experiment: Any, step: PipelineStep, data: Any, ctx: FrozenContext
    ) -> None:
        """Called after each step that returned, with the data it returned."""

    def after_run(self, experiment: Any, result: Result) -> None:
        """Called after the steps are torn down, with all metrics and errors.

        Called even if the run ends in an error; an exception of this hook is then only logged.
        """


class SeedPlugin(BasePlugin):
    """Seeds every replicate; replicate r gets the same seed under every treatment.

    The seed is in the context as `seed_used`. For each replicate, it seeds `random` and numpy's
    global generator, also where a step is the first to import numpy; both are restored afterwards.
    Seed everything else (torch, a `numpy.random.default_rng`) from `ctx["seed_used"]`, or in
    `seed_fn`. The set-up of the steps uses `seed` itself. Whatever draws in a replicate before
    the hook of this plugin, such as the function of a treatment, draws after the same seed.

    Args:
        seed: The seed of all other seeds, in [0, 2**32). None: a random seed, which is in `.seed`.
        auto_seed: True: replicate r gets `(seed + 31337 * r) % 2**32`. False: every replicate gets
            `seed` itself.
        seed_fn: Called with the replicate's seed instead of seeding `random` and numpy.

    Attributes:
        is_drawn: Whether the seed was drawn; a resumed run then uses its stored seed instead.

    Example:
        >>> SeedPlugin(seed=1).seed_of(2)
        62675
    """

    def __init__(
        self,
        seed: int | None = None,
        auto_seed: bool = True,
        seed_fn: Callable[[int], None] | None = None,
    ) -> None:
        self.is_drawn = seed is None
        self.seed = drawn_seed() if seed is None else checked_seed(seed)
        self.auto_seed = auto_seed
        self.seed_fn = seed_fn

    def seed_of(self, replicate: int) -> int:
        """Return the seed of a replicate."""
        return (self.seed + _SEED_STRIDE * replicate) % SEED_LIMIT if self.auto_seed else self.seed

    def confirmation_seed_of(self, replicate: int) -> int:
        """Return the seed of a replicate in a confirmation: never one of a search's replicates.

        Raises:
            UsageError: The number is not in [0, 10**9).

        Example:
            >>> seeds = SeedPlugin(seed=1)
            >>> seeds.confirmation_seed_of(0) in {seeds.seed_of(r) for r in range(10_000)}
            False
        """
        if not 0 <= replicate < _MOST_CONFIRMATIONS:
            raise UsageError(f"A confirmation has at most {_MOST_CONFIRMATIONS} replicates.")
        return self.seed_of(CONFIRMATION_FIRST + replicate)

    def before_run(self, experiment: Any) -> None:
        # Seed the steps' `setup`, too.
        if self.seed_fn is None:
            seed_global_random_state(self.seed)

    def before_replicate(self, experiment: Any, ctx: FrozenContext) -> None:
        if SEED_KEY in ctx:  # `apply(seed=...)` has set it.
            seed = ctx[SEED_KEY]
        else:
            seed = self.seed_of(ctx.get("replicate", 0))
            ctx.add(SEED_KEY, seed)
        self.seed_generators(seed)

    def seed_generators(self, seed: int) -> None:
        """Seed `random` and numpy's global generator, or call `seed_fn`.

        Called by `before_replicate`; and before it, if the function of a treatment or the hook of
        another plugin runs first and may draw random numbers.
        """
        (self.seed_fn or seed_global_random_state)(seed)
