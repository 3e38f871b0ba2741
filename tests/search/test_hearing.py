"""A trial's learning curve reaches the optimizer, wherever the trial runs."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from crystallize_opt import (
    Capabilities,
    Categorical,
    FrozenContext,
    History,
    Objective,
    Pruned,
    Status,
    TrialLimits,
    Workers,
)
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer
from crystallize_opt.search.callbacks import TrialStored, TrialTold
from tests.toy import experiment_of

LOSS = Objective("loss", "minimize")


class Impatient(GridOptimizer):
    """Ends trials at the first value above 10, and keeps what it has heard."""

    capabilities = Capabilities(pruning=True, unique_points=True)

    def __init__(self, values: list[float]) -> None:
        super().__init__({"x": Categorical(values)}, LOSS)
        self.heard: dict[float, list[tuple[int, float]]] = {}

    def _suggest(self) -> Any:
        _, params = super()._suggest()
        return params["x"], params

    def _report(self, handle: Any, step: int, value: float) -> bool:
        self.heard.setdefault(handle, []).append((step, value))
        return value > 10


def rises(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    for epoch in range(5):
        if ctx.report("loss", x * epoch, step=epoch):
            raise Pruned
    return data, {"loss": x}


async def rises_asynchronously(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    for epoch in range(5):
        await asyncio.sleep(0)
        if ctx.report("loss", x * epoch, step=epoch):
            raise Pruned
    return data, {"loss": x}


async def rises_in_a_thread(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    for epoch in range(5):
        if await asyncio.to_thread(ctx.report, "loss", x * epoch, epoch):
            raise Pruned
    return data, {"loss": x}


WAYS: dict[str, tuple[Callable[..., Any], Any]] = {
    "one after the other": (rises, None),
    "asynchronous steps": (rises_asynchronously, None),
    "asynchronous trials": (rises_asynchronously, Workers(None, 3)),
    "threads of an asynchronous trial": (rises_in_a_thread, Workers(None, 3)),
    "threads": (rises, Workers("threads", 3)),
    "processes": (rises, Workers("processes", 2)),
    "limits": (rises, Workers("processes", 1, limits=TrialLimits(seconds=60))),
}
VALUES = [1.0, 4.0, 2.0, 6.0]
CURVES = {
    x: tuple((epoch, x * epoch) for epoch in range(5) if x * (epoch - 1) <= 10) for x in VALUES
}


def statuses(optimizer: Any) -> dict[float, Status]:
    return {each.params["x"]: each.status for each in optimizer.observations}


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[pytest.mark.slow] * (way == "limits")) for way in WAYS]
)
def test_trials_end_where_the_optimizer_says_so(way: str) -> None:
    step, workers = WAYS[way]
    optimizer = Impatient(VALUES)
    best = experiment_of(step, seed=0).optimize(optimizer, 4, workers=workers)

    assert best.params == {"x": 1.0}
    assert statuses(optimizer) == {
        1.0: Status.COMPLETED,
        4.0: Status.PRUNED,
        2.0: Status.COMPLETED,
        6.0: Status.PRUNED,
    }
    curves = {o.params["x"]: o.replicates[0].curves["loss"] for o in optimizer.observations}
    assert curves == CURVES
    assert sorted(map(tuple, optimizer.heard.values())) == sorted(CURVES.values())
    for observation in optimizer.observations:
        x, curve = observation.params["x"], observation.replicates[0].curves["loss"]
        assert observation["loss"] == (
            x if observation.status is Status.COMPLETED else curve[-1][1]
        )
        assert observation.error is None


@pytest.mark.parametrize(
    "executor",
    ["spawn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("loky", "dask"))],
    indirect=True,
)
def test_an_executor_without_a_way_back_keeps_the_curves_and_says_so_once(
    executor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    optimizer = Impatient(VALUES)
    experiment_of(rises, seed=0).optimize(optimizer, 4, workers=Workers(executor, 2))

    assert set(statuses(optimizer).values()) == {Status.COMPLETED}
    for observation in optimizer.observations:
        x = observation.params["x"]
        curve = tuple((epoch, x * epoch) for epoch in range(5))
        assert observation.replicates[0].curves == {"loss": curve}
    assert sum("no way back from a running trial" in each for each in caplog.messages) == 1


def test_an_optimizer_without_a_pruner_hears_nothing() -> None:
    optimizer = GridOptimizer({"x": VALUES}, LOSS)
    experiment_of(rises, seed=0).optimize(optimizer, 4, 2)

    for observation in optimizer.observations:
        assert observation.status is Status.COMPLETED
        x = observation.params["x"]
        for replicate in observation.replicates:
            assert replicate.curves == {"loss": tuple((n, x * n) for n in range(5))}


def test_a_step_may_end_a_replicate_by_a_rule_of_its_own() -> None:
    def diverges(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        ctx.metrics.add("loss", 99.0)
        ctx.report("loss", x, step=0)
        ctx.report("loss", float("nan"), step=1)
        ctx.report("accuracy", x / 2, step=1)
        if x > 3:
            raise Pruned("the loss diverges")
        return data

    optimizer = GridOptimizer({"x": VALUES}, LOSS)
    experiment_of(diverges, seed=0).optimize(optimizer, 4, 2)

    assert [o.status for o in optimizer.observations] == [
        *(Status.COMPLETED, Status.PRUNED, Status.COMPLETED, Status.PRUNED)
    ]
    pruned = optimizer.observations[1]
    assert (pruned.error, pruned.traceback) == ("the loss diverges", None)
    assert len(pruned.replicates) == 1
    # The value at the highest step; none for the loss, which is nan there.
    assert dict(pruned) == {"accuracy": 2.0}


def test_an_error_of_the_optimizer_ends_the_search_and_is_not_a_trials() -> None:
    class Broken(Impatient):
        def _report(self, handle: Any, step: int, value: float) -> bool:
            raise RuntimeError("the pruner is broken")

    for workers in (None, Workers("threads", 2)):
        optimizer = Broken(VALUES)
        with pytest.raises(RuntimeError, match="the pruner is broken"):
            experiment_of(rises, seed=0).optimize(optimizer, 4, workers=workers)
        assert {each.status for each in optimizer.observations} == {Status.ABANDONED}


def test_a_metric_that_was_only_reported_is_no_result(caplog: pytest.LogCaptureFixture) -> None:
    def forgets(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        ctx.report("loss", x, step=0)
        return data

    optimizer = GridOptimizer({"x": [1.0]}, LOSS)
    with pytest.raises(Exception, match=r"ctx\.metrics\.add\('loss', value\)"):
        experiment_of(forgets, seed=0).optimize(optimizer, 1)


def test_copies_of_a_context_report_to_nobody() -> None:
    def copies(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        for other in (copy.deepcopy(ctx), pickle.loads(pickle.dumps(ctx)), ctx.child()):  # noqa: S301
            assert other.report("loss", 99.0, step=1) is False
        return rises(data, ctx, x=x)

    optimizer = Impatient([4.0])
    with pytest.raises(Exception, match="none of 1 trials completed"):
        experiment_of(copies, seed=0).optimize(optimizer, 1)
    assert list(optimizer.heard.values()) == [list(CURVES[4.0])]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")
@pytest.mark.parametrize("workers", [None, 1])
def test_a_forked_child_leaves_the_way_back_alone(workers: Any) -> None:
    def forks(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        child = os.fork()
        if child == 0:
            ctx.report("loss", 99.0, step=0)
            os._exit(0)
        os.waitpid(child, 0)
        return rises(data, ctx, x=x)

    optimizer = Impatient([1.0, 2.0])
    experiment_of(forks, seed=0).optimize(optimizer, 2, workers=workers)
    assert sorted(map(tuple, optimizer.heard.values())) == [CURVES[1.0], CURVES[2.0]]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_while_the_optimizer_hears_interrupts_the_trial_after_it() -> None:
    class Interrupted(Impatient):
        def _report(self, handle: Any, step: int, value: float) -> bool:
            if step == 1:
                os.kill(os.getpid(), signal.SIGINT)
                # A handler runs between two instructions: not within these.
                for _ in range(1000):
                    threading.get_ident()
                self.whole = True
            return super()._report(handle, step, value)

    optimizer = Interrupted([1.0, 2.0])
    with pytest.raises(KeyboardInterrupt):
        experiment_of(rises, seed=0).optimize(optimizer, 2)
    assert optimizer.whole
    assert list(optimizer.heard.values()) == [[(0, 0.0), (1, 1.0)]]
    assert [each.status for each in optimizer.observations] == [Status.ABANDONED]


def test_the_baseline_reports_to_nobody() -> None:
    def step(data: Any, ctx: FrozenContext, *, x: float = 0.0) -> Any:
        return rises(data, ctx, x=x)

    optimizer = Impatient([1.0])
    experiment_of(step, seed=0).optimize(optimizer, 1, baseline=True)

    assert list(optimizer.heard.values()) == [list(CURVES[1.0])]
    baseline = optimizer.history.baseline
    assert baseline is not None
    assert baseline.replicates[0].curves == {"loss": tuple((n, 0.0) for n in range(5))}


# Stored runs ------------------------------------------------------------------------------------


class Once(Impatient):
    """Ends every trial as soon as another one has been told."""

    def _report(self, handle: Any, step: int, value: float) -> bool:
        super()._report(handle, step, value)
        return bool(self.ledger.observations)


def test_a_point_that_is_heard_before_an_outcome_is_told_is_so_in_a_resumed_run(
    tmp_path: Path,
) -> None:
    """The outcome is written first; meanwhile, another thread reports a point."""
    stored, reported, told = (threading.Event() for _ in range(3))

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x == 2.0:
            stored.wait(60)
            assert ctx.report("loss", 0.0, step=0) is False  # Nothing is told yet.
            reported.set()
            told.wait(60)
            if ctx.report("loss", 0.0, step=1):
                raise Pruned
        return data, {"loss": x}

    def follow(event: object) -> None:
        if isinstance(event, TrialStored) and event.observation.params["x"] == 1.0:
            stored.set()
            assert reported.wait(60)
        elif isinstance(event, TrialTold):
            told.set()

    def search(trials: int) -> Once:
        optimizer = Once([1.0, 2.0, 3.0])
        experiment_of(step, seed=0).optimize(
            optimizer,
            trials,
            workers=Workers("threads", 2),
            storage=tmp_path / "runs.db",
            callbacks=[follow],
        )
        return optimizer

    first = search(2)
    assert statuses(first) == {1.0: Status.COMPLETED, 2.0: Status.PRUNED}
    resumed = search(3)  # A decision that differs from the stored one would be an error.
    assert list(statuses(resumed)) == [1.0, 2.0, 3.0]
    assert [each.treatment.name for each in History.load(tmp_path / "runs.db")] == [
        *("trial_0", "trial_1", "trial_2")
    ]


@pytest.mark.parametrize("workers", [Workers("threads", 3), Workers(None, 3)])
def test_a_parallel_search_is_resumed_with_the_same_decisions(
    workers: Workers, tmp_path: Path
) -> None:
    async def train(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        for epoch in range(6):
            await asyncio.sleep(0)
            if ctx.report("loss", (x - 0.5) ** 2 + x / (1 + epoch), step=epoch):
                raise Pruned
        return data, {"loss": (x - 0.5) ** 2}

    def search(trials: int) -> OptunaOptimizer:
        pruner = optuna.pruners.SuccessiveHalvingPruner(reduction_factor=2)
        optimizer = OptunaOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0, pruner=pruner)
        experiment_of(train, seed=0).optimize(
            optimizer, trials, workers=workers, storage=tmp_path / "runs.db"
        )
        return optimizer

    first, resumed = search(12), search(13)
    for one, other in zip(first.study.trials, resumed.study.trials, strict=False):
        assert one.params == other.params
        assert one.state == other.state
        assert one.intermediate_values == other.intermediate_values
        assert one.system_attrs == other.system_attrs  # the rungs
    assert {each.status for each in first.observations} == {Status.COMPLETED, Status.PRUNED}
