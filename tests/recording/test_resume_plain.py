"""Runs of plain optimizers, which implement only the protocol, can be resumed."""

from __future__ import annotations

import asyncio
import math
import random
from pathlib import Path
from typing import Any

import optuna
import pytest

from crystallize_opt import BaseOptimizer, FrozenContext, History, Objective, Treatment, Workers
from crystallize_opt.errors import ReplayDiverged, RunChanged
from crystallize_opt.search.callbacks import TrialStored
from tests.recording.resuming import search
from tests.toy import PlainOptimizer, experiment_of, toy_experiment


class Batches(BaseOptimizer):
    """Asks for several at once, draws from a generator, and knows nothing but the protocol."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(Objective("sum", "minimize"))
        self.rng = random.Random(seed)
        self.told: list[float] = []

    def ask(self) -> list[Treatment]:
        shift = min(self.told, default=0.0)
        return [Treatment("one of them", {"delta": self.rng.random() + shift}) for _ in range(3)]

    async def tell(self, objective_values: Any) -> None:  # type: ignore[override]
        self.told.append(objective_values["sum"])

    def get_best_treatment(self) -> Treatment:
        return Treatment("best", {"delta": min(self.told)})


@pytest.mark.parametrize("die_after", [0, 1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_plain_optimizer_goes_on(die_after: int, workers: int, tmp_path: Path) -> None:
    whole = search(tmp_path / "whole.db", Batches(), 9, toy_experiment(seed=0)).told
    options: dict[str, Any] = {}
    if workers > 1:
        options = {"workers": Workers("threads", workers)}
    stored = 0

    def die(event: Any) -> None:
        nonlocal stored
        if isinstance(event, TrialStored):
            stored += 1
            if stored == die_after:
                raise KeyboardInterrupt

    if die_after:
        with pytest.raises(KeyboardInterrupt):
            search(
                tmp_path / "parts.db",
                Batches(),
                9,
                toy_experiment(seed=0),
                callbacks=[die],
                **options,
            )
        assert len(History.load(tmp_path / "parts.db")) >= die_after
    parts = search(tmp_path / "parts.db", Batches(), 9, toy_experiment(seed=0), **options)

    assert parts.told == whole
    assert len(History.load(tmp_path / "parts.db")) == 9


def test_what_a_plain_optimizer_was_not_told_counts_as_finished(tmp_path: Path) -> None:
    died = False

    async def step(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        nonlocal died
        if ctx["condition"] == "trial_0":
            if not died:  # when the other one is stored
                while not (died or stored):
                    await asyncio.sleep(0)
                died = True
                raise KeyboardInterrupt
            raise ValueError("it fails when it is run again")
        return data, {"sum": delta}

    stored: list[TrialStored] = []

    class Both(PlainOptimizer):
        def ask(self) -> list[Treatment]:
            return self.treatments

    async def run(**options: Any) -> Any:
        optimizer = Both([1.0, 2.0])
        experiment = experiment_of(step, seed=0)
        await experiment.aoptimize(optimizer, 2, storage=tmp_path / "runs.db", **options)
        return optimizer

    def note(event: Any) -> None:
        stored.extend([event] if isinstance(event, TrialStored) else [])

    asyncio.run(run(workers=Workers(None, 2), callbacks=[note]))  # It ends as after Ctrl-C.
    assert [o.treatment.name for o in History.load(tmp_path / "runs.db")] == ["trial_1"]

    found = asyncio.run(run())  # does not say that no trial completed
    assert [dict(told) for told in found.told] == [{"sum": math.inf}, {"sum": 2.0}]
    assert found.get_best_treatment().name == "trial_1"


def test_a_plain_optimizer_that_diverges_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path / "runs.db", PlainOptimizer([1.0, 2.0, 3.0]), 2, toy_experiment(seed=0))
    monkeypatch.setattr(PlainOptimizer, "version", "1", raising=False)
    search(tmp_path / "other.db", PlainOptimizer([1.0, 2.0, 3.0]), 2, toy_experiment(seed=0))
    other = PlainOptimizer([1.0, 2.5, 3.0])
    with pytest.raises(ReplayDiverged, match=r"'trial_1'.*2\.0.*2\.5"):
        search(tmp_path / "other.db", other, 3, toy_experiment(seed=0))
    monkeypatch.undo()

    good = PlainOptimizer([1.0, 2.0, 3.0])
    search(tmp_path / "runs.db", good, 3, toy_experiment(seed=0))
    assert [dict(t) for t in good.told] == [{"sum": 9.0}, {"sum": 12.0}, {"sum": 15.0}]


class Planned(BaseOptimizer):
    """Pops its suggestions off a list, and has all kinds of attributes."""

    def __init__(self, values: list[float] | None = None, **attributes: Any) -> None:
        super().__init__(Objective("sum", "minimize"))
        self.values = values or [1.0, 2.0, 3.0, 4.0]
        self.best = (math.inf, 0.0)
        self.rng = random.Random(0)
        self.study = optuna.create_study()  # Its name is random.
        self.file = (value for value in "no identity")
        vars(self).update(attributes)

    def ask(self) -> list[Treatment]:
        self.rng.random()
        self.asked = self.values.pop(0)
        return [Treatment(f"trial {self.asked}", {"delta": self.asked})]

    def tell(self, objective_values: Any) -> None:
        self.best = min(self.best, (objective_values["sum"], self.asked))

    def get_best_treatment(self) -> Treatment:
        return Treatment("best", {"delta": self.best[1]})


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"values": [1.0, 2.0, 3.0, 5.0]}, r"attributes\.values\[3\]: 4\.0 became 5\.0"),
        ({"rng": random.Random(1)}, r"attributes\.rng"),
        ({"kernel": lambda x: x + 1}, r"attributes\.kernel: nothing became"),
        ({"file": "plain"}, r"attributes\.file: nothing became 'plain'"),
    ],
)
def test_the_attributes_of_a_plain_optimizer_are_compared(
    attributes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """Also those that no suggestion so far depends on; and as they were before the first ask."""
    path = tmp_path / "runs.db"
    search(path, Planned(), 2, toy_experiment(seed=0))

    with pytest.raises(RunChanged, match=said) as caught:
        search(path, Planned(**attributes), 4, toy_experiment(seed=0))
    assert len(str(caught.value).splitlines()) < 25
    assert search(path, Planned(), 4, toy_experiment(seed=0)).values == []


def test_a_version_stands_for_the_attributes_of_a_plain_optimizer(tmp_path: Path) -> None:
    class Versioned(Planned):
        version = "1"

    path = tmp_path / "runs.db"
    search(path, Versioned(began=1), 2, toy_experiment(seed=0))
    search(path, Versioned(began=2), 3, toy_experiment(seed=0))
    Versioned.version = "2"
    with pytest.raises(RunChanged, match=r"optimizer\.version: '1' became '2'"):
        search(path, Versioned(began=2), 4, toy_experiment(seed=0))


def test_the_same_plain_optimizer_may_go_on_if_it_repeats_itself(tmp_path: Path) -> None:
    class Only(BaseOptimizer):
        duplicates = True

        def ask(self) -> list[Treatment]:
            return [Treatment("only", {"delta": 1.0})]

        def tell(self, objective_values: Any) -> None:
            self.score = objective_values["sum"]

        def get_best_treatment(self) -> Treatment:
            return Treatment("best", {"delta": 1.0})

    optimizer = Only(Objective("sum", "minimize"))
    for trials in (2, 4):
        search(tmp_path / "runs.db", optimizer, trials, toy_experiment(seed=0))
    assert len(History.load(tmp_path / "runs.db")) == 4
