"""The examples run, and the optimizer of the quickstart swaps in one line."""

from __future__ import annotations

import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SWAP_LINE = "from crystallize_opt.adapters import OptunaOptimizer as Optimizer  # swap this line"


def quickstart_with(optimizer: str, folder: Path) -> Path:
    """Write the quickstart with one line changed, and a smaller budget for the tests."""
    source = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    assert source.count(SWAP_LINE) == 1
    swapped = source.replace(SWAP_LINE, SWAP_LINE.replace("OptunaOptimizer", optimizer))
    path = folder / "quickstart.py"
    path.write_text(swapped.replace("num_trials=30", "num_trials=6"), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "optimizer",
    ["OptunaOptimizer", "AxOptimizer", "SMACOptimizer", "RandomOptimizer", "GridOptimizer"],
)
def test_the_quickstart_runs_with_each_optimizer_by_one_changed_line(
    optimizer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(quickstart_with(optimizer, tmp_path)), run_name="__main__")

    out, err = capsys.readouterr()
    assert f"{optimizer}: 100%" in err
    assert "Best parameters: {'kernel': " in out
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000
    baseline, winner = (float(score) for score in re.findall(r"(0\.\d{4})$", out, re.MULTILINE))
    assert 0.8 < baseline < 1
    assert 0.1 < winner < 1


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@pytest.mark.parametrize("library", ["sklearn", pytest.param("torch", marks=pytest.mark.slow)])
def test_the_example_of_early_stopping_spends_fewer_epochs(
    library: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(library)
    example = runpy.run_path(str(ROOT / "examples" / "early_stopping.py"))

    step = example["train" if library == "sklearn" else "train_torch"]
    example["main"](step, trials=8, epochs=5)

    shown = re.findall(
        r"(\d+) of 40 epochs; the winner's accuracy is (\d\.\d+)", capsys.readouterr().out
    )
    (without, _), (with_, accuracy) = shown
    assert int(without) == 40
    assert 8 <= int(with_) < 40
    assert float(accuracy) > 0.5


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


def test_the_example_of_constraints_and_two_objectives_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example("constraints_and_pareto")["main"](12)

    out = capsys.readouterr().out
    assert re.search(r"^0\.\d{3}  \d+\.\d\d ms  \{'trees': ", out)
    assert "The compromise is trial_" in out
    assert (tmp_path / "pareto.png").stat().st_size > 10_000


def test_the_example_of_a_grid_search_finds_one_winner_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    example("grid_search")["main"](2)

    winners, confirmed, *_, hypothesis, applied = capsys.readouterr().out.splitlines()
    by_treatments, by_an_optimizer = re.findall(r"trial_\d+", winners)
    assert by_treatments == by_an_optimizer
    assert confirmed.startswith(f"'{by_an_optimizer}' is better than the baseline: mistakes 0.")
    assert "{'change': -" in hypothesis
    assert re.search(r"\d+ of 400 values$", applied)


def test_the_example_of_a_noisy_metric_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example("noisy_metric")["main"](6, 8)

    out = capsys.readouterr().out
    assert re.search(r"^\d\d replicates in 6 trials", out)
    assert "8 pairs of replicates on fresh seeds" in out


def test_the_example_of_a_crash_goes_on_where_it_ended(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "resume_after_crash.py")]
    first, second = (
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
        for _ in range(2)
    )

    assert first.returncode == -signal.SIGKILL
    assert second.stdout.startswith("20 trials, the best is trial_")


@pytest.mark.slow
def test_the_example_of_a_dask_cluster_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example("dask_cluster")["main"](6)

    assert capsys.readouterr().out.startswith("6 trials, the best is trial_")
