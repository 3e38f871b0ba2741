"""The names of files and folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import History, Storage
from crystallize_opt.errors import StorageError
from crystallize_opt.storage.files import checkpoint_folder
from tests.toy import PlainOptimizer, toy_experiment

names = st.text(min_size=1) | st.text("./\\a ", min_size=1, max_size=3) | st.just("x" * 300)


@given(names, names)
def test_each_run_has_a_folder_of_its_own_for_checkpoints(one: str, other: str) -> None:
    first, second = (Path(checkpoint_folder("/data/runs.db", run)) for run in (one, other))

    assert (first == second) == (one == other)
    assert first.parent == Path("/data/runs.db.checkpoints")
    assert len(first.name) <= 200
    assert first.name not in (".", "..")


def test_who_may_not_write_a_file_makes_none_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's owner could not write to those, and so not to the run any more."""
    path = tmp_path / "runs.db"
    toy_experiment().optimize(PlainOptimizer([1.0]), 1, storage=path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)  # Root may write anything.

    with pytest.raises(StorageError, match="not write to it"):
        toy_experiment().optimize(PlainOptimizer([1.0]), 1, storage=Storage(path, run="another"))

    assert [each.name for each in tmp_path.iterdir()] == ["runs.db"]
    assert path.read_bytes() == before
    assert len(History.load(path)) == 1
