"""Whether a standard error is a trial's own noise, which an optimizer may learn."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from crystallize_opt import (
    Experiment,
    FrozenContext,
    History,
    Objective,
    Observation,
    Pipeline,
    SearchSpace,
    SeedPlugin,
    SpaceOptimizer,
    Status,
    Treatment,
    data_source,
    pipeline_step,
)
from crystallize_opt.errors import UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.trials.replicate import Replicate

LOSS = Objective("loss", "minimize")
SPACE = {"x": (0.0, 1.0)}


class Hears(SpaceOptimizer[None]):
    """Suggests random points, and notes which standard errors it learns."""

    def __init__(self) -> None:
        super().__init__(SPACE, LOSS, seed=0, capabilities=Capabilities(standard_errors=True))
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


def measured(name: str, seeds: Sequence[int | None], x: float) -> Observation:
    replicates = [Replicate(i, seed, {"loss": x + i}) for i, seed in enumerate(seeds)]
    return Observation.of_replicates(Treatment(name, {"x": x}), replicates)


@pytest.mark.parametrize("form", ["frame", "csv", "pandas' csv"])
@pytest.mark.parametrize(
    ("seeds", "told"),
    [
        ([(1, 2), (3, 4), (5, 6)], [True, True, True]),
        ([(1, 2), (1, 2), (5, 6)], [False, False, True]),
        ([(None, None), (1, 1), (3,)], [True, False, False]),
    ],
)
def test_a_table_says_which_standard_errors_are_a_trials_own(
    seeds: list[tuple[int | None, ...]], told: list[bool], form: str, tmp_path: Path
) -> None:
    trials = [measured(f"t{i}", each, i / 10) for i, each in enumerate(seeds)]
    history = History(trials, [LOSS], space=SearchSpace(SPACE))
    table: Any = tmp_path / "trials.csv"
    if form == "frame":
        table = history.to_frame()
    elif form == "csv":
        history.to_csv(table)
    else:
        history.to_frame().to_csv(table, index=False)

    optimizer = Hears()
    optimizer.attach(table)
    assert [sem is not None for sem in optimizer.sems] == told
    # All are kept, and the next table says the same.
    assert [o.sem.get("loss") for o in optimizer.observations] == [o.sem["loss"] for o in trials]
    again = Hears()
    again.attach(optimizer.history.to_frame())
    assert again.sems == optimizer.sems
    # So does the record.
    replayed = Hears()
    replayed.replay(optimizer.events)
    assert replayed.sems == optimizer.sems


def test_standard_errors_of_a_table_that_does_not_say_whose_they_are_are_not_told() -> None:
    table = pd.DataFrame({"x": [0.1, 0.2], "loss": [1.0, 2.0], "sem.loss": [0.5, 0.25]})
    optimizer = Hears()
    with pytest.warns(UserWarning, match="shared_noise"):
        optimizer.attach(table)
    assert optimizer.sems == [None, None]
    assert [o.sem["loss"] for o in optimizer.observations] == [0.5, 0.25]

    own = Hears()
    own.attach(table.assign(shared_noise=False))
    assert own.sems == [0.5, 0.25]
    with pytest.raises(UsageError, match="True and False, not 'perhaps'"):
        own.attach(table.assign(shared_noise="perhaps"))


def test_a_stored_run_keeps_that_noise_is_shared(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [0.1], "loss": [1.0], "sem.loss": [0.5], "shared_noise": [True]})
    path, experiment = tmp_path / "runs.db", Experiment(nothing(), Pipeline([noisy()]), seed=0)
    first = Hears()
    first.attach(table)
    experiment.optimize(first, 2, storage=path)
    resumed = Hears()
    resumed.attach(table)
    experiment.optimize(resumed, 3, storage=path)

    assert resumed.sems == [None] * 4
    stored = History.load(path)
    assert [(o.sem.get("loss"), o.shared_noise) for o in stored if o.shared_noise] == [(0.5, True)]


# Means over different seeds ----------------------------------------------------------------------


def with_seeds(name: str, values: Mapping[int, float]) -> Observation:
    replicates = [Replicate(i, seed, {"loss": v}) for i, (seed, v) in enumerate(values.items())]
    return Observation.of_replicates(Treatment(name, {"x": 0.5}), replicates)


class HearsMeans(Hears):
    """Notes which means it learns."""

    def _learn(self, handle: None, observation: Observation) -> None:
        self.sems.append(observation["loss"])


@pytest.mark.parametrize("status", [Status.PRUNED, Status.FAILED])
def test_a_trial_that_ended_early_is_told_as_it_is(status: Status) -> None:
    """Its mean is over fewer seeds, too, but it is no completed trial."""
    optimizer = HearsMeans()
    optimizer.attach(with_seeds("a", {0: 1.0, 1: 11.0, 2: -9.0}))
    optimizer.attach(dataclasses.replace(with_seeds("b", {0: 2.0, 1: 12.0}), status=status))

    assert optimizer.sems == [1.0, 7.0]


def test_a_mean_over_few_seeds_is_told_as_if_it_were_over_all() -> None:
    """Seed 1 moves all trials by 10, seed 2 by -10; a trial with seed 0 and 1 has 5 too much."""
    optimizer = HearsMeans()
    optimizer.attach(with_seeds("a", {0: 1.0, 1: 11.0, 2: -9.0}))
    optimizer.attach(with_seeds("b", {0: 2.0, 1: 12.0, 2: -8.0}))
    optimizer.attach(with_seeds("c", {0: 3.0, 1: 13.0}))
    optimizer.attach(with_seeds("own", {7: 3.0, 8: 13.0}))

    assert optimizer.sems == pytest.approx([1.0, 2.0, 3.0, 8.0])
    assert [each["loss"] for each in optimizer.observations] == pytest.approx([1.0, 2.0, 8.0, 8.0])
