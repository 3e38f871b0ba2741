"""The command line, as a shell runs it."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from crystallize_opt import Experiment, Float, FrozenContext, History, Objective, Storage
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.cli import main

LOSS = Objective("loss", "minimize")


def loss(x: float, kind: Any) -> float:
    if x > 0.9:
        raise ValueError("too large")
    return x


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with two runs."""
    file = tmp_path_factory.mktemp("runs") / "runs.db"
    for run, trials in (("night", 30), ("day", 5)):
        search(file, run, trials)
    return file


def search(file: Path, run: str, trials: int) -> None:
    optimizer = RandomOptimizer({"x": Float(0.0, 1.0), "kind": ["a", None, 1]}, LOSS, seed=0)
    experiment = Experiment.of(loss, seed=0)
    experiment.optimize(optimizer, trials, storage=Storage(file, run=run), progress=False)


def test_runs_are_listed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs)]) == 0

    out = capsys.readouterr().out
    assert re.search(r"night +not running +30 +\d +loss=0", out)
    assert re.search(r"day +not running +5 +\d +loss=0", out)


def test_a_run_is_shown(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(runs), "--run", "night"]) == 0

    out = capsys.readouterr().out
    best = History.load(runs, "night").best
    assert best is not None
    assert out.startswith("night: not running\n")
    assert f"{best.treatment.name} {dict(best.params)!r}" in out
    assert re.search(r"trials +30: .*\d+ completed", out)
    assert re.search(r"last error +trial_\d+: ValueError: too large", out)


WRITES = """
import sys, time
from pathlib import Path
from crystallize_opt import Experiment, Objective, Storage
from crystallize_opt.adapters import RandomOptimizer

folder = Path(sys.argv[1])

def loss(x, ctx):
    (folder / f"began {int(x * 1e6)}").touch()
    while len([*folder.glob("go*")]) < len([*folder.glob("began*")]):
        time.sleep(0.01)
    return x

optimizer = RandomOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=0)
storage = Storage(folder / "live.db", run="live")
Experiment.of(loss, seed=0).optimize(optimizer, 3, storage=storage, progress=False)
"""


def wait_for(what: Any, seconds: float = 60.0) -> Any:
    """Return what a function returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_running_search_is_watched_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "writes.py").write_text(WRITES, encoding="utf-8")
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    writer = subprocess.Popen([sys.executable, str(tmp_path / "writes.py"), str(tmp_path)], env=env)  # noqa: S603
    try:
        wait_for(lambda: [*tmp_path.glob("began*")])
        command = [sys.executable, "-m", "crystallize_opt", "show", str(tmp_path / "live.db")]
        watch = subprocess.Popen(  # noqa: S603
            [*command, "--watch", "0.2"], stdout=subprocess.PIPE, text=True, env=env
        )
        assert watch.stdout is not None
        assert watch.stdout.readline() == "live: running\n"
        for number in range(3):
            (tmp_path / f"go {number}").touch()
        out, _ = watch.communicate(timeout=60)
        assert watch.returncode == 0
        assert out.splitlines()[-6] == "live: not running"
        assert "trials        3: 3 completed" in out
    finally:
        writer.wait(timeout=60)


def test_a_run_is_exported(runs: Path, tmp_path: Path) -> None:
    history = History.load(runs, "night")
    for kind in ("csv", "json", "parquet"):
        assert main(["export", str(runs), "--run", "night", kind, str(tmp_path / kind)]) == 0
    study = f"sqlite:///{tmp_path / 'study.db'}"
    assert main(["export", str(runs), "--run", "night", "optuna", study]) == 0

    names = [each.treatment.name for each in history]
    with (tmp_path / "csv").open(encoding="utf-8") as file:
        assert [row["trial"] for row in csv.DictReader(file)] == names
    data = json.loads((tmp_path / "json").read_text(encoding="utf-8"))
    assert [each["trial"] for each in data["trials"]] == names
    assert [each["params"] for each in data["trials"]] == [dict(each.params) for each in history]
    assert data["objectives"] == [{"metric": "loss", "direction": "minimize"}]
    assert pd.read_parquet(tmp_path / "parquet").trial.tolist() == names
    assert history.best is not None
    loaded = optuna.load_study(study_name="night", storage=study)
    assert loaded.best_value == history.best["loss"]


@pytest.mark.parametrize(
    "words",
    [
        ["export", "--run", "day", "FILE", "csv", "FILE"],
        ["export", "--run", "day", "FILE", "json", "FILE-wal"],
        ["export", "--run", "day", "FILE", "csv", "FOLDER/../FOLDERNAME/runs.db"],
        ["export", "--run", "day", "FOLDER/link.db", "json", "FILE"],
        ["export", "--run", "day", "FILE", "parquet", "FOLDER/link.db"],
        ["export", "--run", "day", "FILE", "optuna", "sqlite:///FILE"],
        ["export", "--run", "day", "FILE", "optuna", "sqlite+pysqlite:///file:FILE?uri=true"],
        ["report", "--run", "day", "FILE", "FILE"],
    ],
)
def test_nothing_is_written_over_the_runs(
    words: list[str], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = runs.with_name("link.db")
    if not link.exists():
        link.symlink_to(runs)
    names = {"FILE": runs, "FOLDERNAME": runs.parent.name, "FOLDER": runs.parent}
    for name, stands_for in names.items():
        words = [word.replace(name, str(stands_for)) for word in words]
    before = runs.read_bytes()

    assert main(words) == 1

    assert "is the file of the runs itself" in capsys.readouterr().err
    assert runs.read_bytes() == before
    assert not runs.with_name("runs.db-wal").exists()


def test_json_has_numbers_that_it_lacks_as_texts(tmp_path: Path) -> None:
    def step(x: float, ctx: FrozenContext) -> dict[str, float]:
        ctx.report("curve", math.inf, 0)
        return {"loss": x, "slope": math.nan, "most": -math.inf}

    file, target = tmp_path / "runs.db", tmp_path / "runs.json"
    optimizer = RandomOptimizer({"x": Float(0.0, 1.0)}, LOSS, seed=0)
    Experiment.of(step, seed=0).optimize(optimizer, 1, storage=file, progress=False)
    assert main(["export", str(file), "json", str(target)]) == 0

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    data = json.loads(target.read_text(encoding="utf-8"), parse_constant=refuse)
    (trial,) = data["trials"]
    expected = {"loss": trial["params"]["x"], "slope": "nan", "most": "-inf"}
    assert trial["metrics"] == trial["replicates"][0]["metrics"] == expected
    assert trial["replicates"][0]["curves"] == {"curve": [[0, "inf"]]}


def test_a_report_is_written(runs: Path, tmp_path: Path) -> None:
    assert main(["report", str(runs), "--run", "day", str(tmp_path / "day.html")]) == 0
    assert "<title>day</title>" in (tmp_path / "day.html").read_text(encoding="utf-8")


def test_optimizers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimizers"]) == 0
    assert "| `RandomOptimizer` |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "none.db"], r"There is no file .*none\.db"),
        (["runs", "none.db"], r"There is no file .*none\.db"),
        (["show", "RUNS"], "has several runs; give run="),
        (["show", "RUNS", "--run", "noon"], "has no run 'noon'. Its runs: 'night', 'day'"),
        (["export", "RUNS", "--run", "day", "csv", "no/where.csv"], "'no/where.csv' cannot be"),
        (["export", "RUNS", "--run", "day", "optuna", "study.db"], "sqlite:///study.db"),
        (
            ["export", "RUNS", "--run", "day", "optuna", "sqlite:///no/where.db"],
            r"'sqlite:///no/where.db' cannot be opened: \(sqlite3",
        ),
        (["export", "RUNS", "--run", "day", "optuna", "fly://x"], r"'fly://x' cannot be.*\bfly\."),
        (["report", "RUNS", "--run", "day", "no/where.html"], "'no/where.html' cannot be"),
        pytest.param(
            ["dashboard", "RUNS", "--host", "256.0.0.1"],
            "cannot be used",
            marks=[
                pytest.mark.slow,
                # optuna-dashboard imports BoTorch's kernels.
                pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
            ],
        ),
    ],
)
def test_an_error_is_one_message_and_the_exit_code_1(
    words: list[str], message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(runs) if word == "RUNS" else word for word in words]) == 1

    error = capsys.readouterr().err
    assert error.startswith("crystallize-opt: ")
    assert re.search(message, error)


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["export", "x.db", "xls", "y"], ["show", "a", "--watch", "0"]]
)
def test_wrong_words_have_the_exit_code_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for command in ("runs", "show", "export", "report", "dashboard", "optimizers"):
        assert re.search(rf"^ +{command}\b", out, re.MULTILINE)


@pytest.mark.slow
def test_the_dashboard_follows_a_run(tmp_path: Path) -> None:
    search(tmp_path / "runs.db", "night", 5)
    command = [sys.executable, "-m", "crystallize_opt", "dashboard", str(tmp_path / "runs.db")]
    with subprocess.Popen(  # noqa: S603
        [*command, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as server:
        try:
            assert server.stdout is not None
            (url,) = re.findall(r"(http://127\.0\.0\.1:\d+)/dashboard", server.stdout.readline())

            def values() -> list[float]:
                def get(path: str) -> Any:
                    with urllib.request.urlopen(f"{url}/api/{path}") as answer:  # noqa: S310
                        return json.load(answer)

                (study,) = get("studies")["study_summaries"]
                assert study["study_name"] == "night"
                trials = get(f"studies/{study['study_id']}")["trials"]
                return [each["values"][0] for each in trials if each["state"] == "Complete"]

            done = [each["loss"] for each in History.load(tmp_path / "runs.db") if each]
            assert values() == done
            search(tmp_path / "runs.db", "night", 12)
            wait_for(lambda: len(values()) > len(done))
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=60) == 130
