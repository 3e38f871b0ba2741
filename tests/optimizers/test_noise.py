"""Whether a standard error is a trial's own noise, which an optimizer may learn."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from crystallize_opt import (
    Experiment,
    FrozenContext,
    Objective,
    Observation,
    Pipeline,
    SeedPlugin,
    SpaceOptimizer,
    Treatment,
    data_source,
    pipeline_step,
)
from crystallize_opt.trials.observation import Replicate

LOSS = Objective("loss", "minimize")
SPACE = {"x": (0.0, 1.0)}


class Hears(SpaceOptimizer[None]):
    """Suggests random points, and notes which standard errors it learns."""

    def __init__(self) -> None:
        super().__init__(SPACE, LOSS, seed=0)
        self.sems: list[Any] = []

    def _suggest(self) -> tuple[None, dict[str, Any]]:
        return None, self.space.sample(self._rng)

    def _insert(self, params: Mapping[str, Any]) -> None: ...

    def _learn(self, handle: None, observation: Observation) -> None:
        self.sems.append(observation.sem.get("loss"))


class OwnSeeds(SeedPlugin):
    """No two replicates of a search have the same seed."""

    def __init__(self) -> None:
        super().__init__(0)
        self._count = itertools.count()

    def before_replicate(self, experiment: Any, ctx: FrozenContext) -> None:
        if "seed_used" not in ctx:
            ctx.add("seed_used", next(self._count))


@data_source
def nothing(ctx: FrozenContext) -> int:
    return 0


@pipeline_step()
def noisy(data: int, ctx: FrozenContext, *, x: float) -> int:
    ctx.metrics.add("loss", x + ctx["seed_used"] % 7)
    return data


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
def test_a_search_tells_standard_errors_only_of_own_seeds(own: bool) -> None:
    plugin = OwnSeeds() if own else SeedPlugin(3)
    experiment = Experiment(nothing(), Pipeline([noisy()]), plugins=[plugin])
    optimizer = Hears()
    experiment.optimize(optimizer, 5, 3)

    assert [sem is not None for sem in optimizer.sems] == [True] + [own] * 4
    # What was measured stays in the record.
    assert all(o.sem["loss"] is not None for o in optimizer.observations)


def trial(name: str, seeds: Sequence[int | None]) -> Observation:
    replicates = [Replicate(i, seed, {"loss": float(i)}) for i, seed in enumerate(seeds)]
    return Observation.of_replicates(Treatment(name, {"x": 0.5}), replicates)


@pytest.mark.parametrize(
    ("seeds", "told"),
    [
        ([(1, 2), (3, 4), (5, 6)], [True, True, True]),
        ([(1, 2), (1, 2), (1, 2)], [True, False, False]),
        ([(1, 2), (2, 3), (4, 5)], [True, False, True]),
        ([(None, None), (None, None)], [True, True]),
        ([(1, 1), (2, 2)], [False, False]),
        ([(1,), (2, 3)], [False, True]),
    ],
)
def test_shared_seeds_are_found_among_attached_trials(
    seeds: list[tuple[int | None, ...]], told: list[bool]
) -> None:
    optimizer = Hears()
    for number, each in enumerate(seeds):
        optimizer.attach(trial(f"t{number}", each))
    assert [sem is not None for sem in optimizer.sems] == told


def test_a_standard_error_given_by_hand_is_told() -> None:
    optimizer = Hears()
    for treatment in optimizer.ask(2):
        optimizer.tell(Observation(treatment, {"loss": 1.0}, sem={"loss": 0.25}))
    assert optimizer.sems == [0.25, 0.25]
