"""The pages for people: what they show, and trials that are entered by hand."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt.service.access import Access
from tests.service.conftest import Server
from tests.service.http import EXPERIMENT, Web, web

__all__ = ["web"]
NASTY = "<script>alert(1)</script>"


class Page(html.parser.HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def field(self, name: str) -> str:
        """Return the value of a field of a form."""
        (value,) = [own["value"] for tag, own in self.tags if own.get("name") == name]
        return value or ""


def page(web: Web, path: str, status: int = 200, token: str | None = None) -> Page:
    response = web.raw("GET", path, auth=(token or web.token, ""))
    assert response.status_code == status, response.text
    return Page(response.text)


def experiment_of(web: Web, **changes: Any) -> str:
    return str(web("POST", "experiments", {**EXPERIMENT, **changes}).json()["id"])


def observe(web: Web, number: str, x: float, **outcome: Any) -> None:
    outcome = outcome or {"values": [{"name": "score", "value": x}]}
    data = {"assignments": {"x": x}, **outcome}
    response = web("POST", f"experiments/{number}/observations", data)
    assert response.status_code == 201, response.text


def test_the_list_shows_the_experiments_of_the_client(web: Web) -> None:
    number = experiment_of(web, name=NASTY)
    observe(web, number, 0.75)
    experiment_of(web, observation_budget=None)
    other = web.make(Access(client=2))

    shown = page(web, "/")
    assert NASTY in shown.text
    assert "score 0.75" in shown.text
    assert "1 of 20" in shown.text
    assert NASTY not in page(web, "/", token=other).text
    assert NASTY not in page(web, f"/experiment/{number}/analysis", 404, other).text


def test_a_browser_is_asked_for_the_token(web: Web) -> None:
    for response in (web.raw("GET", "/"), web.raw("GET", "/", auth=("1_wrong", ""))):
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Basic")


def test_an_experiment_is_shown_with_curve_best_trials_and_failures(web: Web) -> None:
    number = experiment_of(web, name=NASTY)
    for x in (0.5, 0.25, 0.75):
        observe(web, number, x)
    observe(web, number, 0.1, failed=True)
    web("POST", f"experiments/{number}/suggestions", {})

    assert web.raw("GET", f"/experiment/{number}").headers["location"].endswith("/analysis")
    shown = page(web, f"/experiment/{number}/analysis")
    for text in (
        *("4 of 20", "the best so far", "The best trials", "3 (best)", "The last trials"),
        *("1 of 4 trials failed", "Open trials", "maximize score", "RandomOptimizer", NASTY),
    ):
        assert text in shown.text, text
    tags = [tag for tag, _ in shown.tags]
    assert "svg" in tags
    assert "script" not in tags
    links = [own.get("href") or "" for _, own in shown.tags]
    assert not [link for link in links if link.startswith(("http", "//"))]


def test_a_page_is_loaded_again_until_the_budget_is_used_up(web: Web) -> None:
    number = experiment_of(web, observation_budget=1)
    path = f"/experiment/{number}/analysis"

    def is_live(shown: Page) -> bool:
        return any(own.get("http-equiv") == "refresh" for _, own in shown.tags)

    assert is_live(page(web, path))
    assert not is_live(page(web, f"{path}?live=no"))
    observe(web, number, 0.5)
    assert "1 of 1" in page(web, path).text
    assert not is_live(page(web, path))


def asked(web: Web, number: str) -> str:
    """Ask for a trial as a person does; return the path of its page."""
    sign = page(web, f"/experiment/{number}/analysis").field("sign")
    response = web.form(f"/experiment/{number}/suggestions", {"sign": sign})
    assert response.status_code == 303, response.text
    return str(response.headers["location"])


def test_a_trial_is_entered_by_hand(web: Web) -> None:
    number = experiment_of(web)
    path = asked(web, number)
    shown = page(web, path)
    assert "x" in shown.text
    given = {"sign": shown.field("sign"), "value0": "much", "error0": "0.1", "note": "wet sample"}

    wrong = web.form(path, given)
    assert wrong.status_code == 400
    assert "score is a number, not 'much'" in Page(wrong.text).text
    assert Page(wrong.text).field("note") == "wet sample"
    assert web.form(path, {**given, "value0": ""}).status_code == 400
    assert web.form(path, {**given, "value0": "nan"}).status_code == 400
    saved = web.form(path, {**given, "value0": "0,75"})
    assert saved.headers["location"] == f"/experiment/{number}/analysis"
    (only,) = web("GET", f"experiments/{number}/observations").json()["data"]
    assert (only["value"], only["value_stddev"]) == (0.75, 0.1)
    assert only["metadata"] == {"note": "wet sample"}
    assert "closed" in page(web, path).text

    path = asked(web, number)
    web.form(path, {"sign": page(web, path).field("sign"), "failed": "1", "value0": "3"})
    failed, _ = web("GET", f"experiments/{number}/observations").json()["data"]
    assert failed["failed"]


def test_only_a_page_of_the_service_can_send_a_form(web: Web) -> None:
    number = experiment_of(web)
    path = f"/experiment/{number}/suggestions"
    sign = page(web, f"/experiment/{number}/analysis").field("sign")
    other = web.make(Access())
    reader = web.make(Access(read_only=True))

    for given in ({"sign": ""}, {"sign": "guessed"}, {"sign": sign[:-1]}):
        assert web.form(path, given).status_code == 403
    assert web.form(path, {"sign": sign}, headers={"origin": "http://evil"}).status_code == 403
    assert web.form(asked(web, number), {"sign": sign, "failed": "1"}).status_code == 403
    for token in (other, reader):
        response = web.raw("POST", path, data={"sign": sign}, auth=(token, ""))
        assert response.status_code == 403
    response = web.raw("POST", path, json={"sign": sign}, auth=(web.token, ""))
    assert response.status_code == 400
    assert web("GET", f"experiments/{number}/suggestions").json()["count"] == 1
    shown = page(web, f"/experiment/{number}/analysis", token=reader)
    assert not [tag for tag, _ in shown.tags if tag == "form"]


_MOST = sys.float_info.max
_HARD = pytest.mark.parametrize(
    "values",
    [(1e160, 0.1, 0.2), (_MOST, -_MOST, 0.0), (-_MOST, 0.1), (_MOST,), (5e-324, -5e-324), (1.0,)],
    ids=str,
)


def experiment_with(web: Web, values: Sequence[float], count: int) -> str:
    parameters = [{**EXPERIMENT["parameters"][0], "name": name} for name in ("x", "y")]
    number = experiment_of(web, parameters=parameters)
    for index in range(count):
        value = {"value": values[index % len(values)], "value_stddev": _MOST * (index % 2)}
        data = {"assignments": {"x": index / 12, "y": index * 5 % 12 / 12}, "values": [value]}
        assert web("POST", f"experiments/{number}/observations", data).status_code == 201
    return number


@_HARD
@pytest.mark.parametrize("count", [1, 2, 12])
def test_any_finite_values_are_answered_and_drawn(
    web: Web, values: tuple[float, ...], count: int
) -> None:
    number = experiment_with(web, values, count)
    path = f"experiments/{number}"
    assert web("POST", f"{path}/suggestions", {}).status_code == 201

    for what in (
        *("", "/best_assignments", "/stopping_criteria", "/observations?sort=value"),
        *("/importances", "/metric_importances"),
    ):
        answer = web("GET", f"{path}{what}")
        assert answer.status_code in ((200, 422) if "importances" in what else (200,)), answer.text
        json.loads(answer.text, parse_constant=pytest.fail)  # JSON has no nan and no infinity.
    page(web, "/")
    shown = web.raw("GET", f"/experiment/{number}/analysis", auth=(web.token, ""))
    assert shown.status_code == 200, shown.text
    (picture,) = re.findall(r'<svg class="trace".*?</svg>', shown.text, re.DOTALL)
    assert not re.search(r"\b(nan|inf)", picture)


@pytest.mark.slow  # It draws every picture.
@_HARD
def test_the_full_report_of_any_finite_values_is_shown(web: Web, values: tuple[float, ...]) -> None:
    page(web, f"/experiment/{experiment_with(web, values, 12)}/report")


@pytest.mark.slow  # It draws every picture.
def test_the_full_report_is_shown(web: Web) -> None:
    number = experiment_of(web)
    observe(web, number, 0.5)

    assert "What was searched" in page(web, f"/experiment/{number}/report").text


@pytest.mark.slow  # A browser takes seconds to start.
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_shows_an_experiment_on_a_phone(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    server = serve(tmp_path / "service.db", "--optimizer", "RandomOptimizer")
    web = Client(server)
    number = web.experiment()
    address = server.url.replace("http://", f"http://{server.token}@")
    flags = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=390,844"),
    )
    shown = subprocess.run(  # noqa: S603
        [
            shutil.which("chromium") or "",
            *flags,
            "--dump-dom",
            f"{address}/experiment/{number}/analysis",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout

    assert re.search(r'<path class="best" d="M', shown)
    assert "Suggest a trial to run by hand" in shown


class Client:
    """Sends requests to a server as a program without SigOpt's client does."""

    def __init__(self, server: Server) -> None:
        import requests

        self._url, self._session = f"{server.url}/v1", requests.Session()
        self._session.auth = (server.token, "")

    def post(self, path: str, data: Any) -> Any:
        response = self._session.post(f"{self._url}/{path}", json=data, timeout=60)
        response.raise_for_status()
        return response.json()

    def experiment(self) -> str:
        """Make an experiment with a few observations; return its id."""
        number = str(self.post("experiments", EXPERIMENT)["id"])
        for x in (0.5, 0.25, 0.75):
            values = [{"name": "score", "value": x}]
            data = {"assignments": {"x": x}, "values": values}
            self.post(f"experiments/{number}/observations", data)
        return number
