"""An observation is in the file, with its replicates, before it is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from crystallize_opt import History
from crystallize_opt.adapters import RandomOptimizer
from tests.recording.killed_runs import LOSS, SPACE
from tests.recording.resuming import search


def test_an_observation_is_stored_before_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    class Looks(RandomOptimizer):
        def tell(self, objective_values: Any) -> None:
            told = {o.treatment.name for o in History.load(path)}
            assert objective_values.treatment.name in told
            super().tell(objective_values)

    assert len(search(path, Looks(SPACE, LOSS, seed=0), 3).observations) == 3


def test_the_replicates_are_stored(tmp_path: Path) -> None:
    found = search(tmp_path / "runs.db", trials=2, replicates_per_trial=3)
    read = History.load(tmp_path / "runs.db")

    for observation, stored in zip(found.observations, read, strict=True):
        assert [dataclasses.astuple(r) for r in stored.replicates] == [
            dataclasses.astuple(r) for r in observation.replicates
        ]
        assert stored.sem == observation.sem
