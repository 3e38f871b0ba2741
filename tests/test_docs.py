"""What the pages about optimizers show is code that runs."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.adapters import pairs

ROOT = Path(__file__).parent.parent


def python_of(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_code_of_the_page_on_optimizers_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for block in python_of("optimizers.md"):
        exec(block, {})  # noqa: S102

    assert "GridOptimizer crystallize-opt True None None" in capsys.readouterr().out


def test_the_code_of_the_page_on_fidelity_prints_what_it_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names: dict[str, object] = {}
    for block in python_of("fidelity.md"):
        exec(block, names)  # noqa: S102

    printed = capsys.readouterr().out.splitlines()[-1]
    text = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    assert f"This prints `{printed}`" in text


def test_the_code_of_the_page_on_stored_runs_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = python_of("storage.md")
    exec(block, {})  # noqa: S102

    assert capsys.readouterr().out.startswith("['first'] 25 ")
    text = (ROOT / "docs" / "storage.md").read_text(encoding="utf-8")
    (query,) = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    with contextlib.closing(sqlite3.connect("runs.db")) as connection:
        assert len(connection.execute(query).fetchall()) == 5


def test_the_code_of_the_page_on_loops_by_hand_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in python_of("by_hand.md"):
        exec(block, {})  # noqa: S102

    pending, resumed, best = capsys.readouterr().out.splitlines()
    assert "trial_3" in pending
    assert resumed == "['trial_1']"
    assert "trial_0" in best


def test_the_code_of_the_page_on_learning_curves_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(python_of("learning_curves.md"))
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102

    assert " of 600 epochs" in capsys.readouterr().out
    assert "prun" in repr(names["optimizer"].observations[30:])  # type: ignore[attr-defined]


def test_the_examples_of_noisy_trials_run(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {}
    for block in python_of("noise.md"):
        exec(block, namespace)  # noqa: S102

    for name in ("optimizer", "racing"):
        counts = {len(each.replicates) for each in namespace[name].history}
        assert len(counts) > 1, name
    assert "beaten_by" in capsys.readouterr().out


def test_the_code_of_the_page_on_confirmations_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = python_of("confirm.md")
    exec(block, {})  # noqa: S102

    assert "20 pairs of replicates on fresh seeds" in capsys.readouterr().out


def test_the_code_of_the_page_on_comparisons_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = python_of("compare.md")
    exec(block, {})  # noqa: S102

    assert "TPE is better than random (corrected p = " in capsys.readouterr().out
    assert (tmp_path / "comparison.png").stat().st_size > 10_000


def test_the_code_of_the_page_on_scikit_learn_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = python_of("sklearn.md")
    exec(block, {})  # noqa: S102

    assert "'svc__C': " in capsys.readouterr().out


def test_the_code_of_the_page_on_pictures_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = python_of("pictures.md")
    exec(block, {})  # noqa: S102

    assert (tmp_path / "run.png").stat().st_size > 10_000


def test_the_six_jobs_take_the_lines_that_their_table_says() -> None:
    text = (ROOT / "docs" / "six_jobs.md").read_text(encoding="utf-8")
    said = [int(lines) for lines in re.findall(r"^\| \[.*\| \d+ \| (\d) \|$", text, re.MULTILINE)]
    jobs = [block.split("# the job\n")[1].splitlines() for block in python_of("six_jobs.md")]

    assert [len(lines) for lines in jobs] == said
    assert len(said) == 6
    assert max(said) <= 2
    assert max(len(line) for lines in jobs for line in lines) <= 120


def test_the_code_of_the_page_on_adapters_is_that_of_the_example() -> None:
    sources = [
        (ROOT / "examples" / "custom_optimizer.py").read_text(encoding="utf-8"),
        (ROOT / "tests" / "test_custom_optimizer.py").read_text(encoding="utf-8"),
    ]
    blocks = python_of("write_an_adapter.md")

    assert len(blocks) == 6
    assert [block for block in blocks if not any(block in source for source in sources)] == []


@pytest.mark.parametrize(
    "page",
    [
        *("by_hand.md", "mlflow.md", "notebooks.md", "optimizers.md", "storage.md"),
        "write_an_adapter.md",
    ],
)
def test_the_links_of_the_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for path, anchor in re.findall(r"\]\(([^)#]+)#?([^)]*)\)", text):
        target = ROOT / "docs" / path
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [h.lower().replace(" ", "-") for h in headings]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_table_of_features_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")
    slow = [name for name, maker in pairs.MAKERS.items() if maker.is_slow]
    lines = pairs.table(name for name in pairs.MAKERS if name not in slow)

    assert [line for line in lines if line not in text] == []
    assert [name for name in slow if f"| {name} | " not in text] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_table_of_features_is_that_of_the_code_of_the_slow() -> None:
    text = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")

    assert "\n".join(pairs.table(pairs.MAKERS)) in text
