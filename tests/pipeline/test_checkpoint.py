"""The folder of one replicate."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import FrozenContext
from crystallize_opt.errors import CheckpointError
from crystallize_opt.trials.placed import TrialFolders


def context(folder: Path, replicate: int = 0, **folders: Any) -> FrozenContext:
    ctx = FrozenContext({"replicate": replicate})
    ctx.folders = TrialFolders(str(folder / "checkpoints" / "run"), **folders)
    return ctx


def test_a_trial_begins_with_a_copy_of_what_another_one_left(tmp_path: Path) -> None:
    before = context(tmp_path, trial="a")
    before.checkpoint.joinpath("weights").mkdir()
    before.checkpoint.joinpath("weights", "0").write_text("old")
    for _ in range(2):  # The second attempt does not find what the first one left.
        ctx = context(tmp_path, trial="b", source="a")
        (file,) = ctx.checkpoint.rglob("0")
        assert file.read_text() == "old"
        file.write_text("new")
        ctx.checkpoint.joinpath("more").touch()
        assert ctx.checkpoint == file.parents[1]

    assert before.checkpoint.joinpath("weights", "0").read_text() == "old"
    assert list(context(tmp_path, 1, trial="b").checkpoint.iterdir()) == []


def test_a_copy_of_the_context_has_the_same_folder(tmp_path: Path) -> None:
    ctx = context(tmp_path, trial="a")
    ctx.checkpoint.joinpath("file").touch()
    for again in (copy.deepcopy(ctx), pickle.loads(pickle.dumps(ctx))):  # noqa: S301
        assert again.checkpoint == ctx.checkpoint
        again.close()
        assert [each.name for each in ctx.checkpoint.iterdir()] == ["file"]
    # Also where only the copy asks.
    ctx = context(tmp_path, trial="b")
    again = copy.deepcopy(ctx)
    again.checkpoint.joinpath("file").touch()
    assert [each.name for each in ctx.checkpoint.iterdir()] == ["file"]


def test_a_missing_checkpoint_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert list(context(tmp_path, trial="b", source="gone").checkpoint.iterdir()) == []
    assert "'b' should continue" in caplog.text


def test_a_machine_without_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="on the machine 'elsewhere'"):
        _ = context(tmp_path, trial="a", machine="elsewhere").checkpoint
    with pytest.raises(CheckpointError, match=r"shared/7.*which does not exist"):
        _ = context(tmp_path / "shared" / "7", trial="a").checkpoint
