"""The names of files and folders."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt.storage.files import checkpoint_folder

names = st.text(min_size=1) | st.text("./\\a ", min_size=1, max_size=3) | st.just("x" * 300)


@given(names, names)
def test_each_run_has_a_folder_of_its_own_for_checkpoints(one: str, other: str) -> None:
    first, second = (Path(checkpoint_folder("/data/runs.db", run)) for run in (one, other))

    assert (first == second) == (one == other)
    assert first.parent == Path("/data/runs.db.checkpoints")
    assert len(first.name) <= 200
    assert first.name not in (".", "..")
