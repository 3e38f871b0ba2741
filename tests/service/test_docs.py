"""The pages and the example about the service run: with SigOpt's client, and with curl."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.conftest import Server

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:The .data field:RuntimeWarning")


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_page_for_users_of_sigopt_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks("coming_from/sigopt.md", "python"):
        exec(block, names)  # noqa: S102

    best, front = capsys.readouterr().out.splitlines()
    assert best.endswith("True")
    assert re.fullmatch(r"\[\d+(, \d+)*\]", front)
    names["conn"].impl.driver.close()  # type: ignore[attr-defined]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_of_curl_run(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve(tmp_path / "service.db", "--optimizer", "RandomOptimizer")
    (script,) = blocks("service.md", "bash")
    shown = subprocess.run(  # noqa: S603
        [shutil.which("bash") or "bash", "-ec", script],
        env={**os.environ, "URL": server.url, "TOKEN": server.token},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert '"best_assignments"' in shown.stdout
    assert '"value":0.61' in shown.stdout


def test_the_example_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(ROOT / "examples" / "sigopt_loop.py"))["main"]
    main(str(tmp_path / "service.db"))
    first = capsys.readouterr().out
    main(str(tmp_path / "service.db"))

    assert first.startswith("30 observations\nThe best value is ")
    assert capsys.readouterr().out == first
