"""The same call resumes a stored run: exactly, or from its data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from crystallize_opt import (
    Constraint,
    Failures,
    FrozenContext,
    History,
    Objective,
    Observation,
    Status,
    Treatment,
    Workers,
)
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import ReplayDiverged, RunChanged, UsageError
from crystallize_opt.pipeline.seeding import SeedPlugin
from tests.recording.killed_runs import LOSS, SPACE, exactly
from tests.recording.resuming import (
    FLOAT,
    Optimizer,
    another,
    interrupted_after,
    loss,
    named,
    one,
    piped,
    rand,
    search,
    told,
    tpe,
)
from tests.toy import experiment_of

# Exactly ----------------------------------------------------------------------------------------


def test_num_trials_is_the_total_of_the_run(tmp_path: Path) -> None:
    whole = told(search(tmp_path / "whole.db", trials=15))
    for trials in (1, 6, 6, 3, 15):
        parts = told(search(tmp_path / "parts.db", trials=trials))

    assert parts == whole
    assert [exactly(o) for o in History.load(tmp_path / "parts.db")] == whole


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomOptimizer(SPACE, LOSS, seed=0),
        lambda: RandomOptimizer({"x": [1, 2], "rate": [1, 2]}, LOSS, seed=0),
        lambda: GridOptimizer({"x": (0.0, 1.0), "rate": [1, 2]}, LOSS, levels=4),
        lambda: OptunaOptimizer(SPACE, LOSS, seed=0),
        lambda: OptunaOptimizer({"x": (1, 3), "rate": [1, 2]}, LOSS, seed=0),
        lambda: OptunaOptimizer(SPACE, LOSS, sampler=optuna.samplers.NSGAIISampler(seed=1)),
        lambda: OptunaOptimizer(SPACE, [LOSS, Objective("drawn", "maximize")], seed=0),
        lambda: OptunaOptimizer(SPACE, LOSS, seed=0, constraints=[Constraint("drawn", "<=", 0.5)]),
        lambda: tpe(pruner=optuna.pruners.HyperbandPruner()),
    ],
)
def test_every_optimizer_goes_on(make: Callable[[], Optimizer], tmp_path: Path) -> None:
    whole = told(search(tmp_path / "whole.db", make(), 24, replicates_per_trial=2))

    search(tmp_path / "parts.db", make(), 9, replicates_per_trial=2)
    parts = told(search(tmp_path / "parts.db", make(), 24, replicates_per_trial=2))

    assert parts == whole
    assert len(whole) == 24 or ("finite" and len(whole) < 24)


def test_the_generators_of_tpe_are_put_back_instead_of_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = told(search(tmp_path / "whole.db", trials=20))
    search(tmp_path / "parts.db", trials=12)
    asked = 0
    sample = optuna.samplers.TPESampler.sample_relative

    def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return sample(*arguments)

    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_relative", counted)
    parts = told(search(tmp_path / "parts.db", trials=20))

    assert asked == 4 + 8  # the last four, to compare, and the new ones
    assert parts == whole


def test_with_other_versions_every_suggestion_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path / "runs.db", trials=12)
    ask, asked = optuna.samplers.TPESampler.sample_relative, 0

    def another(self: Any, *arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return {k: v * 0.99 for k, v in ask(self, *arguments).items() if k == "x"}

    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_relative", another)
    for module in ("recording.resume", "optimizers.results"):
        monkeypatch.setattr(f"crystallize_opt.{module}.versions_of", lambda _: {"optuna": "9.9"})
    # The first suggestion of the model; with the stored state, trial_8 would be the first compared.
    with pytest.raises(ReplayDiverged, match=r"'trial_4'.*5\.\d\.\d.*9\.9") as caught:
        search(tmp_path / "runs.db", trials=20)

    assert asked == 5
    assert "resume='attach'" in caught.value.__notes__[0]
    assert len(History.load(tmp_path / "runs.db")) == 12


def test_a_running_trial_is_run_again_with_its_parameters_and_seeds(tmp_path: Path) -> None:
    whole = told(search(tmp_path / "whole.db"))
    path = tmp_path / "parts.db"
    first = search(path, experiment=experiment_of(named(interrupted_after(3)), seed=3))
    assert [o.status for o in first.observations][3:] == [Status.ABANDONED]
    assert [t.name for t in History.load(path).pending] == ["trial_3"]

    assert told(search(path, experiment=experiment_of(named(loss), seed=3))) == whole


def test_a_retried_trial_goes_on_with_the_replicates_of_its_last_attempt(tmp_path: Path) -> None:
    ran: list[int] = []

    def step(data: Any, ctx: FrozenContext, *, x: float, rate: float) -> Any:
        ran.append(ctx["replicate"])
        if len(ran) == 3:  # in the third replicate of the first attempt
            raise ValueError("once")
        if len(ran) == 6:  # in the third of the second one
            raise KeyboardInterrupt
        return data, {"loss": float(len(ran))}

    def run() -> Any:
        return search(
            tmp_path / "runs.db",
            tpe(pruner=optuna.pruners.ThresholdPruner(upper=1e9)),
            1,
            experiment_of(step, seed=3),
            replicates_per_trial=3,
            failures=Failures(retries=1, unread="ignore"),
        )

    with pytest.raises(KeyboardInterrupt):
        run()
    optimizer = run()

    assert ran == [0, 1, 2, 0, 1, 2, 2]
    assert [r["loss"] for r in optimizer.observations[0].replicates] == [4.0, 5.0, 7.0]


def test_the_same_optimizer_goes_on_where_it_is(tmp_path: Path) -> None:
    whole = told(search(tmp_path / "whole.db", trials=12))
    optimizer = tpe()
    for trials in (5, 5, 12):
        search(tmp_path / "parts.db", optimizer, trials)

    assert told(optimizer) == whole
    assert told(search(tmp_path / "parts.db", trials=12)) == whole


def test_the_same_optimizer_goes_on_after_an_interruption(tmp_path: Path) -> None:
    path, optimizer = tmp_path / "runs.db", tpe()
    search(path, optimizer, experiment=experiment_of(named(interrupted_after(3)), seed=3))
    search(path, optimizer, 6, experiment=experiment_of(named(loss), seed=3))

    assert [o.status.value for o in optimizer.observations] == [
        *["completed"] * 3,
        "abandoned",
        *["completed"] * 2,
    ]
    fresh = search(path, trials=6, experiment=experiment_of(named(loss), seed=3))
    assert told(fresh) == told(optimizer)


def test_an_optimizer_used_for_something_else_is_refused(tmp_path: Path) -> None:
    search(tmp_path / "runs.db")
    other = tpe(2)
    other.ask()

    with pytest.raises(RunChanged):
        search(tmp_path / "runs.db", other)
    other = tpe()
    other.attach(Observation(Treatment("own", SPACE.sample(1)), {"loss": 1.0}))
    with pytest.raises(UsageError, match=r"Build a fresh one"):
        search(tmp_path / "runs.db", other)


def test_what_an_optimizer_knew_before_is_part_of_the_run(tmp_path: Path) -> None:
    def warm(scale: float = 0.5) -> OptunaOptimizer:
        optimizer = tpe()
        for number in range(5):
            point, loss = SPACE.sample(number), number * scale
            optimizer.attach(Observation(Treatment(f"own {number}", point), {"loss": loss}))
        optimizer.ask()
        optimizer.tell({"loss": 1.0})
        optimizer.ask()  # Whoever asked for it may tell it later.
        return optimizer

    whole = search(tmp_path / "whole.db", warm(), 9)
    search(tmp_path / "parts.db", warm(), 4)
    parts = search(tmp_path / "parts.db", warm(), 9)
    fresh = search(tmp_path / "parts.db", tpe(), 9)

    assert told(parts) == told(whole) == told(fresh)
    assert len(whole.observations) == 5 + 1 + 9
    assert [t.name for t in fresh.pending] == ["trial_6"]
    with pytest.raises(UsageError, match=r"not in the run.*own 1"):
        search(tmp_path / "parts.db", warm(0.25), 12)


def test_an_experiment_without_a_seed_keeps_the_one_it_drew(tmp_path: Path) -> None:
    seeds = []
    for trials in (3, 6):
        experiment = experiment_of(loss)
        optimizer = search(tmp_path / "runs.db", trials=trials, experiment=experiment)
        seeds.append(next(p.seed for p in experiment.plugins if isinstance(p, SeedPlugin)))

    assert seeds[0] == seeds[1]
    assert {r.seed for o in optimizer.observations for r in o.replicates} == {seeds[0]}


def test_a_parallel_run_goes_on_in_its_recorded_order(tmp_path: Path) -> None:
    options = {"workers": Workers("threads", 3)}
    first = search(tmp_path / "runs.db", trials=10, **options)
    second = search(tmp_path / "runs.db", trials=20, **options)
    third = search(tmp_path / "runs.db", trials=20)

    assert told(second)[:10] == told(first)
    assert told(third) == told(second)
    assert len(told(second)) == 20


def test_batches_go_on(tmp_path: Path) -> None:
    options = {"workers": Workers("threads", 3, batch=True)}
    search(tmp_path / "runs.db", trials=6, **options)
    optimizer = search(tmp_path / "runs.db", trials=12, **options)

    assert [len(e.treatments) for e in optimizer.events if hasattr(e, "treatments")] == [3] * 4
    assert told(search(tmp_path / "runs.db", trials=12)) == told(optimizer)


def test_aoptimize_stores_too(tmp_path: Path) -> None:
    async def run(trials: int) -> OptunaOptimizer:
        optimizer = tpe()
        await experiment_of(loss, seed=3).aoptimize(optimizer, trials, storage=tmp_path / "a.db")
        return optimizer

    asyncio.run(run(4))
    assert told(asyncio.run(run(8))) == told(search(tmp_path / "b.db"))


def test_a_search_is_stored_within_a_running_event_loop(tmp_path: Path) -> None:
    async def run(trials: int) -> Any:
        return search(tmp_path / "runs.db", trials=trials)

    asyncio.run(run(4))
    assert told(asyncio.run(run(8))) == told(search(tmp_path / "other.db"))


# From the data ----------------------------------------------------------------------------------


def test_attach_goes_on_from_the_data_with_other_settings(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    first = search(path, rand(), 5, piped(one()))
    second = search(
        path, rand({**FLOAT, "x": (0.0, 2.0)}, seed=5), 9, piped(another()), resume="attach"
    )

    assert told(second)[:5] == told(first)
    assert [o.treatment.name for o in second.observations] == [f"trial_{i}" for i in range(9)]
    history = History.load(path)
    assert [exactly(o) for o in history] == told(second)
    assert history.space == second.space

    # From there it goes on exactly again.
    same = rand({**FLOAT, "x": (0.0, 2.0)}, seed=5)
    assert told(search(path, same, 9, piped(another()))) == told(second)


def test_attach_gives_up_what_the_other_optimizer_had_running(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(path, experiment=experiment_of(named(interrupted_after(3)), seed=3))
    found = search(path, rand(SPACE), 8, resume="attach")

    assert [o.status for o in found.observations][3] is Status.ABANDONED
    assert len(found.observations) == 8
    assert History.load(path).pending == []


def test_attach_refuses_an_optimizer_that_has_been_used(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(path, rand(), 5, piped(one()))
    before = path.read_bytes()
    used = rand()
    used.ask()
    with pytest.raises(UsageError, match="has been used"):
        search(path, used, 9, piped(one()), resume="attach")

    assert path.read_bytes() == before


def test_attach_begins_a_run_that_is_not_there(tmp_path: Path) -> None:
    assert len(search(tmp_path / "runs.db", trials=3, resume="attach").observations) == 3
