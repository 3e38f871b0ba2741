"""`ctx.checkpoint`: a trial with more epochs continues one of the same configuration."""

from __future__ import annotations

import os
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from smac import HyperbandFacade

from crystallize_opt import (
    Failures,
    FrozenContext,
    History,
    Integer,
    Objective,
    SearchSpace,
    Status,
    Storage,
    Workers,
)
from crystallize_opt.adapters import RandomOptimizer, SMACOptimizer
from tests.search import training
from tests.search.training import train, train_asynchronously
from tests.toy import experiment_of

LOSS = Objective("loss", "minimize")
SPACE = SearchSpace({"x": (0.0, 1.0), "epochs": Integer(1, 27, fidelity=True)})


def hyperband() -> SMACOptimizer:
    return SMACOptimizer(SPACE, LOSS, seed=0, facade=HyperbandFacade)


def trained(optimizer: SMACOptimizer) -> list[tuple[Any, ...]]:
    return [(o.treatment.name, o.params["epochs"], o["trained"]) for o in optimizer.observations]


@pytest.mark.parametrize(
    "workers",
    [None, Workers(None, 3), "threads", 2, pytest.param("spawn", marks=pytest.mark.slow)],
)
def test_27_epochs_after_9_cost_18(
    workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    """Real searches with SMAC's Hyperband, wherever the trials run."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if workers == "spawn":
        workers = Workers(request.getfixturevalue("executor_named")("spawn"), 2)
    step = train_asynchronously if workers == Workers(None, 3) else train
    optimizer = hyperband()
    experiment_of(step, seed=0).optimize(optimizer, 75, workers=workers, progress=False)

    before: dict[float, int] = {}
    for observation in optimizer.observations:
        x, epochs = observation.params["x"], observation.params["epochs"]
        assert observation["trained"] == epochs - before.get(x, 0)
        before[x] = epochs
    costs = {(epochs, cost) for _, epochs, cost in trained(optimizer)}
    promoted = {(3, 2), (9, 6), (27, 18)}
    # In parallel, SMAC begins further brackets while trials of an earlier one run.
    assert promoted <= costs if workers is None else promoted & costs
    assert list(tmp_path.glob("*/run")) == []  # Nothing is left without storage.


def test_each_replicate_has_a_folder_of_its_own(tmp_path: Path) -> None:
    optimizer = hyperband()
    experiment_of(train, seed=0).optimize(optimizer, 30, 2, storage=tmp_path / "runs.db")

    assert [cost for _, epochs, cost in trained(optimizer) if epochs == 3] == [2, 2, 2]
    assert all(len(observation.replicates) == 2 for observation in optimizer.observations)


def test_only_the_folders_of_configurations_in_the_race_are_kept(tmp_path: Path) -> None:
    runs = tmp_path / "runs.db"
    folder = tmp_path / "runs.db.checkpoints" / "night"
    experiment = experiment_of(train, seed=0)
    kept = []
    for trials in (27, 28, 36, 37, 40, 41):
        optimizer = hyperband()
        experiment.optimize(optimizer, trials, storage=Storage(runs, run="night"))
        told = {o.treatment.name: o.params for o in optimizer.observations}
        kept.append(sorted(told[each.name]["epochs"] for each in folder.iterdir()))

    # 27 with one epoch compete. When SMAC has compared them, 18 are out of the race, then six of
    # nine. When SMAC begins the next bracket, the one with 27 epochs is out of the race, too.
    assert kept == [[1] * 27, [1] * 8 + [3], [3] * 9, [3, 3, 9], [27], [3]]


def test_a_retried_trial_finds_what_the_failed_attempt_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached: Counter[int] = Counter()

    def fail_each_first_time(epoch: int) -> None:
        reached[epoch] += 1
        if epoch in (2, 8, 26) and reached[epoch] % 2:
            raise RuntimeError("the disk is full")

    monkeypatch.setattr(training, "on_epoch", fail_each_first_time)
    optimizer = hyperband()
    failures = Failures(retries=1)
    experiment_of(train, seed=0).optimize(optimizer, 40, failures=failures, progress=False)

    assert [reached[epoch] for epoch in (2, 8, 26)] == [18, 6, 2]
    assert {(epochs, cost) for _, epochs, cost in trained(optimizer)} == {
        (1, 1), (3, 2), (9, 6), (27, 18),
    }  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of a process")
def test_a_search_that_is_killed_while_a_trial_writes_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiment_of(train, seed=0)
    whole = hyperband()
    experiment.optimize(whole, 41, progress=False)

    def run(deadly: int) -> None:
        """Run the search until the epoch number `deadly` of all that it trains."""
        count = 0

        def die(epoch: int) -> None:
            nonlocal count
            count += 1
            if count == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(training, "on_epoch", die)
        experiment.optimize(hyperband(), 41, storage=tmp_path / "runs.db", progress=False)

    deaths = 0
    for deadly in (30, 2, 14, 4, 7):
        child = os.fork()
        if child == 0:
            run(deadly)
            os._exit(0)
        deaths += os.waitpid(child, 0)[1] == signal.SIGKILL
    resumed = hyperband()
    monkeypatch.setattr(training, "on_epoch", lambda _: None)
    experiment.optimize(resumed, 41, storage=tmp_path / "runs.db", progress=False)

    assert deaths == 5
    assert trained(resumed) == trained(whole)
    history = History.load(tmp_path / "runs.db")
    assert [dict(o) for o in history] == [dict(o) for o in whole.observations]
    assert history.best_params == whole.get_best_treatment().params


def test_an_interrupted_trial_begins_again_with_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 27 epochs, in the middle."""
    experiment = experiment_of(train, seed=0)

    def interrupt(epoch: int) -> None:
        if epoch == 20:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training, "on_epoch", interrupt)
    optimizer = hyperband()
    experiment.optimize(optimizer, 40, storage=tmp_path / "runs.db", progress=False)
    assert optimizer.observations[-1].status is Status.ABANDONED

    monkeypatch.setattr(training, "on_epoch", lambda _: None)
    resumed = hyperband()
    experiment.optimize(resumed, 40, storage=tmp_path / "runs.db", progress=False)
    assert trained(resumed)[-1] == ("trial_39", 27, 18)


def test_attached_trials_have_no_checkpoint(tmp_path: Path) -> None:
    """The pipeline may have changed since: its steps could not read the files."""
    storage = tmp_path / "runs.db"
    experiment_of(train, seed=0).optimize(hyperband(), 20, storage=storage, progress=False)
    optimizer = hyperband()
    experiment_of(train, seed=0).optimize(
        optimizer, 50, storage=Storage(storage, resume="attach"), progress=False
    )

    old = {o.params["x"] for o in optimizer.observations[:20]}
    costs = [o["trained"] for o in optimizer.observations[20:] if o.params["x"] in old]
    assert costs
    assert costs[0] == 3  # The first one is promoted, and begins anew.


def test_without_a_fidelity_the_folder_is_empty_and_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    def use(data: Any, ctx: FrozenContext, *, x: float = 0.5) -> Any:
        seen.append(ctx.checkpoint)
        assert list(ctx.checkpoint.iterdir()) == []
        ctx.checkpoint.joinpath("model").write_text("a model")
        return data, {"loss": x}

    experiment = experiment_of(use, seed=0)
    experiment.optimize(RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0), 3, 2, progress=False)
    experiment.run()

    assert len(set(seen)) == len(seen) == 7
    assert not any(path.exists() for path in seen)
