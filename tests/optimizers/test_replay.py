"""A recorded order of asks and tells, gone through again, suggests the same: or says where not."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.pruners import MedianPruner

from crystallize_opt import (
    Experiment,
    FrozenContext,
    Observation,
    ReplayDiverged,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import TellError
from crystallize_opt.trials.calls import Asked, Reported, SavedState, Told
from tests.optimizers.scenarios import (
    LOSS,
    SPACE,
    Optimizer,
    attached_trials,
    batches,
    completed,
    exactly,
    failures,
    late_outcomes,
    loss_of,
    make,
    one_by_one,
    record,
    several_pending,
    tpe,
)
from tests.toy import experiment_of

HAPPENINGS: list[Callable[[Optimizer], None]] = [
    one_by_one,
    several_pending,
    batches,
    failures,
    attached_trials,
    late_outcomes,
]
NAMES = ["Random", "Grid", "TPE"]


def must_be_where_the_other_is(optimizer: Optimizer, other: Optimizer) -> None:
    assert record(optimizer) == record(other)
    assert list(map(exactly, optimizer.pending)) == list(map(exactly, other.pending))
    assert [o.status for o in optimizer.observations] == [o.status for o in other.observations]
    assert exactly(optimizer.get_best_treatment()) == exactly(other.get_best_treatment())
    for each in (optimizer, other):
        batches(each)
    assert record(optimizer) == record(other)


@pytest.mark.parametrize("happens", HAPPENINGS)
@pytest.mark.parametrize("name", NAMES)
def test_a_fresh_optimizer_is_then_where_the_recorded_one_was(
    name: str, happens: Callable[[Optimizer], None]
) -> None:
    recorded, replayed = make(name), make(name)
    happens(recorded)
    assert len(recorded.events) > 5

    replayed.replay(recorded.events, recorded.versions)

    must_be_where_the_other_is(replayed, recorded)


@pytest.mark.parametrize("name", NAMES)
def test_a_search_of_an_experiment_is_replayed(name: str) -> None:
    def noisy(data: Any, ctx: FrozenContext, *, x: float, n: int) -> None:
        if n > 7:
            raise ValueError("boom")
        ctx.metrics.add("loss", x * x + n + ctx["replicate"])

    space = SearchSpace({"x": (-5.0, 5.0), "n": (1, 9)})
    recorded, replayed = (make(name, space=space) for _ in range(2))
    experiment: Experiment = experiment_of(noisy, seed=0)
    experiment.optimize(recorded, 12, replicates_per_trial=3)
    assert {o.status for o in recorded.observations} == {Status.COMPLETED, Status.FAILED}

    replayed.replay(recorded.events)

    must_be_where_the_other_is(replayed, recorded)
    assert [o.sem for o in replayed.observations] == [o.sem for o in recorded.observations]


@pytest.mark.parametrize("name", NAMES)
def test_a_finite_space_ends_after_a_replay_as_before(name: str) -> None:
    space = SearchSpace({"a": (1, 3), "b": [True, 1]})
    recorded, replayed = (make(name, space=space) for _ in range(2))
    recorded.tell(completed(recorded.ask(4)[2]))
    assert len(recorded.ask(5)) == 2

    replayed.replay(recorded.events)

    assert record(replayed) == record(recorded)
    assert len(replayed.pending) == 5


# Pruning --------------------------------------------------------------------------------------


def prune_some(optimizer: Optimizer) -> None:
    for number in range(10):
        (treatment,) = optimizer.ask()
        means = []
        for replicate in range(4):
            means.append(loss_of(treatment) + replicate * number / 10)
            if optimizer.report_replicate(treatment, replicate, {"loss": means[-1]}):
                optimizer.tell(Observation(treatment, {"loss": means[-1]}, Status.PRUNED))
                break
        else:
            optimizer.tell(Observation(treatment, {"loss": sum(means) / 4}))


def pruning_tpe() -> OptunaOptimizer:
    return tpe(pruner=MedianPruner(n_startup_trials=2, n_warmup_steps=1))


def test_reports_and_prunings_are_replayed() -> None:
    recorded, replayed = pruning_tpe(), pruning_tpe()
    prune_some(recorded)
    statuses = [observation.status for observation in recorded.observations]
    assert set(statuses) == {Status.PRUNED, Status.COMPLETED}

    replayed.replay(recorded.events)

    must_be_where_the_other_is(replayed, recorded)
    assert [t.state for t in replayed.study.trials] == [t.state for t in recorded.study.trials]


def test_another_wish_to_prune_is_an_error() -> None:
    recorded = pruning_tpe()
    prune_some(recorded)
    events = recorded.events
    position = next(i for i, e in enumerate(events) if isinstance(e, Reported) and e.prune)
    report = events[position]
    assert isinstance(report, Reported)
    events[position] = report._replace(prune=False)

    with pytest.raises(ReplayDiverged, match=f"{report.name!r}.*prune=False, now the opposite"):
        pruning_tpe().replay(events)


# In another process ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_replay_in_another_process_goes_on_as_here(name: str, tmp_path: Path) -> None:
    recorded = make(name)
    for happens in (several_pending, failures, attached_trials):
        happens(recorded)
    (tmp_path / "events").write_bytes(pickle.dumps(recorded.events))
    code = f"""
import pickle, sys
from pathlib import Path
from tests.optimizers.scenarios import batches, make, record
optimizer = make({name!r})
optimizer.replay(pickle.loads(Path(sys.argv[1]).read_bytes()))
batches(optimizer)
print(record(optimizer))
"""
    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, str(tmp_path / "events")],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    batches(recorded)

    assert shown.stdout.strip() == str(record(recorded))


# Where it diverges ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Random", "TPE"])
def test_another_seed_diverges_at_the_first_trial(name: str) -> None:
    recorded = make(name)
    one_by_one(recorded)
    first = recorded.observations[0].treatment

    with pytest.raises(ReplayDiverged) as error:
        make(name, seed=1).replay(recorded.events)

    (now,) = make(name, seed=1).ask()
    assert "diverges at 'trial_0'" in str(error.value)
    assert f"recorded {dict(first.params)}, now {dict(now.params)}" in str(error.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("position", [0, 3, 11])
def test_a_suggestion_that_differs_is_named_with_values_and_versions(
    name: str, position: int
) -> None:
    recorded = make(name)
    one_by_one(recorded)
    events = recorded.events
    number = [i for i, event in enumerate(events) if isinstance(event, Asked)][position]
    asked = events[number]
    assert isinstance(asked, Asked)
    (treatment,) = asked.treatments
    doctored = dict(treatment.params) | {"x": 4.0625}
    events[number] = Asked((Treatment(treatment.name, doctored),))
    replayed = make(name)

    with pytest.raises(ReplayDiverged) as error:
        replayed.replay(events, {"python": "2.7.18", "optuna": "1.0.0"})

    message = str(error.value)
    assert f"diverges at 'trial_{position}'" in message
    assert f"recorded {doctored}, now {dict(treatment.params)}" in message
    assert "recorded: {'python': '2.7.18', 'optuna': '1.0.0'}" in message
    assert f"now: {replayed.versions}" in message
    assert ("optuna" in replayed.versions) == (name == "TPE")


def test_a_library_without_metadata_does_not_hide_the_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RandomOptimizer, "libraries", ("no-such-distribution",))
    other = make("Random", seed=1)

    with pytest.raises(ReplayDiverged, match="'no-such-distribution': 'unknown'"):
        make("Random").replay([Asked(tuple(other.ask()))])


def test_what_was_told_otherwise_shows_as_soon_as_it_matters() -> None:
    recorded = make("TPE")
    one_by_one(recorded)
    events = [
        event._replace(observation=Observation(event.observation.treatment, {"loss": -number}))
        if isinstance(event, Told)
        else event
        for number, event in enumerate(recorded.events)
    ]

    with pytest.raises(ReplayDiverged, match=r"'trial_(5|6|7|8|9|10|11)'.*Versions recorded: unk"):
        make("TPE").replay(events)


@pytest.mark.parametrize(("left", "now"), [({"a": (1, 3)}, "None"), ({"a": (1, 2)}, "None")])
def test_a_space_that_ends_earlier_diverges(left: dict[str, Any], now: str) -> None:
    recorded = GridOptimizer({"a": (1, 9)}, LOSS)
    recorded.ask(2)
    recorded.ask(2)

    with pytest.raises(ReplayDiverged, match=f"recorded {{'a': [34]}}, now {now}"):
        GridOptimizer(left, LOSS).replay(recorded.events)


def test_a_tell_before_its_ask_is_an_error() -> None:
    recorded = make("Random")
    one_by_one(recorded)

    with pytest.raises(TellError, match="'trial_0' is told before it is asked for"):
        make("Random").replay(recorded.events[1:])


# What is recorded -----------------------------------------------------------------------------


class Interrupted(RandomOptimizer):
    """Raises at its third suggestion, once."""

    interrupted = False

    def _suggest(self) -> tuple[None, dict[str, Any]]:
        if len(self.pending) == 2 and not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        return super()._suggest()


def test_a_batch_that_was_interrupted_is_recorded_as_far_as_it_got() -> None:
    recorded = Interrupted(SPACE, LOSS, seed=0)
    with pytest.raises(KeyboardInterrupt):
        recorded.ask(5)
    assert [len(event.treatments) for event in recorded.events if isinstance(event, Asked)] == [2]
    for treatment in recorded.pending:
        recorded.tell(completed(treatment))

    replayed = make("Random")
    replayed.replay(recorded.events)

    must_be_where_the_other_is(replayed, recorded)


def test_names_stay_unique_when_trials_of_another_run_are_attached() -> None:
    first, second = make("Random"), make("Random", seed=1)
    first.ask(5)
    second.attach([completed(treatment) for treatment in first.pending[2:4]])

    names = [treatment.name for treatment in second.ask(4)]

    assert names == ["trial_4", "trial_5", "trial_6", "trial_7"]
    replayed = make("Random", seed=1)
    replayed.replay(second.events)
    assert [treatment.name for treatment in replayed.pending] == names


def test_the_callers_list_of_events_is_a_copy() -> None:
    optimizer = make("Random")
    one_by_one(optimizer)
    optimizer.events.clear()

    assert len(optimizer.events) == 24


def test_a_state_saved_after_the_last_ask_is_restored() -> None:
    recorded = tpe()
    one_by_one(recorded)
    saved = recorded.saved_state()
    assert saved is not None
    replayed = tpe()

    replayed.replay(recorded.events, state=SavedState(12, saved))

    for optimizer in (recorded, replayed):
        one_by_one(optimizer)
    assert record(replayed) == record(recorded)
