"""Reports: one file that shows what was searched, found and lost, and loads nothing."""

from __future__ import annotations

import html.parser
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import (
    Constraint,
    Experiment,
    Float,
    History,
    Objective,
    Observation,
    Status,
    Treatment,
    compare,
    report,
)
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.errors import UsageError

SPACE = {"x": Float(0.0, 1.0), "kind": ["a", "b"]}
LOSS = Objective("loss", "minimize")


def loss(x: float, kind: str, ctx: Any) -> float:
    if kind == "b" and x > 0.8:
        raise ValueError("<script>alert('too large')</script>")
    ctx.report("loss", 1.0, step=0)
    return float(x + ctx["seed_used"] % 7)


def run_of(tmp_path: Path, name: str = "night") -> History:
    experiment = Experiment.of(loss, name=name, seed=3)
    optimizer = RandomOptimizer(SPACE, LOSS, seed=5)
    experiment.optimize(optimizer, 40, 2, storage=tmp_path / "runs.db")
    return History.load(tmp_path / "runs.db", name)


class Page(html.parser.HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_of_a_run_shows_what_was_searched_and_lost(tmp_path: Path) -> None:
    history = run_of(tmp_path)
    report(history, tmp_path / "report.html")
    page = Page(tmp_path / "report.html")

    assert history.best is not None
    for shown in (
        "night",
        "minimize loss",
        "RandomOptimizer",
        "optimizer's seed",
        "experiment's seed",
        f"{history.best.treatment.name} (best)",
        "Float(0.0, 1.0)",
        "ValueError: <script>alert(",
        "median standard error",
        "crystallize-opt",
    ):
        assert shown in page.text
    # Nothing is loaded, and nothing of the run is run.
    assert "script" not in [tag for tag, _ in page.tags]
    assert all((a["src"] or "").startswith("data:") for tag, a in page.tags if tag == "img")
    assert not any({"href"} & {*attributes} for _, attributes in page.tags)
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_the_report_of_several_objectives_shows_the_front(tmp_path: Path) -> None:
    goals = [LOSS, Objective("size", "maximize")]
    trials = [
        Observation(Treatment(f"t{n}", {"x": n}), {"loss": float(n), "size": float(n % 5)})
        for n in range(9)
    ]
    report(History(trials, goals, [Constraint("loss", "<=", 7.0)]), tmp_path / "report.html")

    assert "The Pareto front" in Page(tmp_path / "report.html").text


def test_equal_points_are_shown_once(tmp_path: Path) -> None:
    trials = [Observation(Treatment(f"t{n}", {"x": n // 2}), {"loss": float(n)}) for n in range(4)]
    report(History(trials, [LOSS]), tmp_path / "report.html")

    text = Page(tmp_path / "report.html").text
    assert "The best 2 of 4." in text
    assert ("t0 (best)" in text, "t1" in text, "t2" in text) == (True, False, True)


@pytest.mark.parametrize("trials", [0, 1])
def test_a_run_with_hardly_a_trial_has_a_report(tmp_path: Path, trials: int) -> None:
    failed = Observation(Treatment("t", {"x": 1}), status=Status.FAILED, error="no luck")
    for number, history in enumerate(
        (
            History([failed][:trials], [LOSS]),
            History([failed][:trials]),
            History([Observation(Treatment("t"), {"loss": 1.0})][:trials], [LOSS]),
        )
    ):
        report(history, tmp_path / f"{number}.html")
        assert "What was searched" in Page(tmp_path / f"{number}.html").text


def test_comparisons_and_confirmations_are_shown(tmp_path: Path) -> None:
    experiment = Experiment.of(lambda x, kind: x + len(kind), metric="loss", seed=0)

    def broken(seed: int) -> RandomOptimizer:
        if seed:
            raise OSError("no licence")
        return make(seed)

    def make(seed: int) -> RandomOptimizer:
        return RandomOptimizer(SPACE, LOSS, seed=seed)

    comparison = compare(experiment, {"one": make, "other": broken}, 3, seeds=2)
    best = experiment.optimize(make(0), 3)
    confirmation = experiment.confirm(
        best, replicates=6, baseline=Treatment("half", {"x": 0.5, "kind": "a"})
    )
    report([comparison, confirmation], tmp_path / "both.html", title="My & results")
    text = Page(tmp_path / "both.html").text

    assert "My & results" in text
    assert comparison.verdict in text
    assert "OSError: no licence" in text
    assert "6 pairs of replicates" in text


def test_other_things_are_refused(tmp_path: Path) -> None:
    for wrong in ([], [3], [{"loss": 1}]):
        with pytest.raises(UsageError, match="a History, a Comparison or a Confirmation"):
            report(wrong, tmp_path / "report.html")
    with pytest.raises(
        UsageError, match=r"not 'report\.html'"
    ):  # the arguments the wrong way round
        report("report.html", History([]))  # type: ignore[arg-type]
    assert not (tmp_path / "report.html").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_shows_the_report(tmp_path: Path) -> None:
    report(run_of(tmp_path), tmp_path / "report.html")
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=1000",
    ]
    page = (tmp_path / "report.html").as_uri()
    shown = subprocess.run(  # noqa: S603
        [*command, "--dump-dom", page], capture_output=True, text=True, check=True, timeout=120
    )

    assert "The best trials" in shown.stdout
    subprocess.run(  # noqa: S603
        [*command, f"--screenshot={tmp_path / 'page.png'}", page], check=True, timeout=120
    )
    assert (tmp_path / "page.png").stat().st_size > 10_000
