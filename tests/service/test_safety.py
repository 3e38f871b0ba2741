"""Who gets in, what they see, and what is refused."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt.cli import main
from crystallize_opt.errors import UsageError
from crystallize_opt.service.access import Access
from crystallize_opt.service.guard import DEEPEST, LARGEST_BODY, RateLimit
from crystallize_opt.service.serve import Address, new_token
from tests.service.http import EXPERIMENT, Web, error_of, web

__all__ = ["web"]
WRONG = "1_guessed"


def test_a_request_needs_a_token(web: Web) -> None:
    error_of(web.raw("GET", "/v1/experiments"), 401)
    error_of(web("GET", "experiments", token=WRONG), 403)
    error_of(web("GET", "experiments", token=web.token[:-1]), 403)
    error_of(web("GET", "experiments", token=web.token.replace("_", "_x")), 403)
    error_of(web("GET", "experiments", token="999_" + web.token.partition("_")[2]), 403)
    bearer = {"Authorization": f"Bearer {web.token}"}
    assert web.raw("GET", "/v1/experiments", headers=bearer).status_code == 200
    for text in ("Basic ", "Basic !", "Basic wA==", "Digest x", "basic Og=="):
        error_of(web.raw("GET", "/v1/experiments", headers={"Authorization": text}), 401)


def test_the_file_holds_no_token(web: Web, tmp_path: Path) -> None:
    secret = web.token.partition("_")[2]
    with sqlite3.connect(tmp_path / "service.db") as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()

    assert '"hash"' in dump
    assert secret not in dump


def test_a_token_ends_and_can_be_withdrawn(web: Web) -> None:
    short = web.make(Access(), expires=time.time() - 1)
    assert "ended" in error_of(web("GET", "experiments", token=short), 403)
    made = web("POST", "tokens", {"lease_length": 60}).json()
    assert made["expires"] - time.time() == pytest.approx(60, abs=5)
    assert web("GET", "tokens/self", token=made["token"]).json()["id"] == made["id"]
    # No token outlasts the one that made it.
    heir = web("POST", "tokens", {"lasts_forever": True}, token=made["token"]).json()
    assert heir["expires"] == made["expires"]

    assert web("DELETE", f"tokens/{made['id']}").status_code == 200
    assert "withdrawn" in error_of(web("GET", "experiments", token=made["token"]), 403)


def test_a_client_never_sees_the_experiments_of_another(web: Web) -> None:
    mine = web("POST", "experiments", EXPERIMENT).json()
    other = web.make(Access(client=2))
    theirs = web("POST", "experiments", EXPERIMENT, token=other).json()
    web("POST", f"experiments/{mine['id']}/observations", observed(0.5))

    assert (mine["client"], theirs["client"]) == ("1", "2")
    assert [each["id"] for each in web("GET", "experiments").json()["data"]] == [mine["id"]]
    assert [e["id"] for e in web("GET", "experiments", token=other).json()["data"]] == [
        theirs["id"]
    ]
    for route in web.handler.routes:
        path = "/".join(route.pattern).replace("{}", mine["id"], 1).replace("{}", "1")
        if route.pattern[0] in ("experiments", "aiexperiments") and "{}" in route.pattern:
            data: dict[str, Any] | None = None if route.method in ("GET", "DELETE") else {}
            error_of(web(route.method, path, data, token=other), 404)
    error_of(web("GET", "clients/1/experiments", token=other), 404)
    error_of(web("POST", "tokens", {"client": 1}, token=other), 403)
    error_of(web("POST", "tokens", {"experiment": int(mine["id"])}, token=other), 404)
    assert web("GET", f"experiments/{mine['id']}").json()["progress"]["observation_count"] == 1


def observed(x: float) -> dict[str, Any]:
    return {"assignments": {"x": x}, "values": [{"name": "score", "value": x}]}


def test_a_token_for_one_experiment_opens_no_other(web: Web) -> None:
    first, second = (web("POST", "experiments", EXPERIMENT).json()["id"] for _ in range(2))
    guest = web("POST", f"experiments/{first}/tokens", {"permissions": "write"}).json()["token"]
    reader = web("POST", f"experiments/{first}/tokens", {}).json()["token"]

    assert web("POST", f"experiments/{first}/suggestions", {}, token=guest).status_code == 201
    assert web("GET", f"experiments/{first}", token=reader).status_code == 200
    error_of(web("POST", f"experiments/{first}/suggestions", {}, token=reader), 403)
    for token in (guest, reader):
        for path in (f"experiments/{second}", "experiments", "tokens", "clients/1/experiments"):
            error_of(web("GET", path, token=token), 403)
        error_of(web("POST", "experiments", EXPERIMENT, token=token), 403)
        error_of(web("POST", f"experiments/{first}/tokens", {}, token=token), 403)


def test_what_another_web_site_sends_is_refused(web: Web) -> None:
    auth = (web.token, "")
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"host": ""},
        {"host": "[::1"},
    ):
        error_of(web.raw("GET", "/v1/experiments", auth=auth, headers=headers), 403)
    for headers in (
        {"origin": "http://127.0.0.1"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        {"host": "localhost:4200"},
        {"host": "[::1]:4200"},
    ):
        assert web.raw("GET", "/v1/experiments", auth=auth, headers=headers).status_code == 200


def test_a_further_name_is_allowed_by_its_option() -> None:
    web = Web(None, hosts=["lab.example"])
    auth = (web.token, "")
    found = web.raw("GET", "/v1/experiments", auth=auth, headers={"host": "Lab.example:80"})
    web.handler.close()

    assert found.status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{" + b" " * LARGEST_BODY + b"}", 413),
        (b"[" * 100_000, 400),
        (b'{"name": ' + b"[" * DEEPEST + b"]" * DEEPEST + b"}", 400),
        (b"9" * 5000, 400),
        (b'{"name": NaN}', 400),
        (b'{"name": "\\ud800"}', 400),
        (b'{"\\udfff": 1}', 400),
        (b"\xff", 400),
        (b"[]", 400),
    ],
)
def test_a_body_that_is_too_large_deep_or_no_json_is_refused(
    web: Web, body: bytes, status: int
) -> None:
    response = web.raw("POST", "/v1/experiments", auth=(web.token, ""), content=body)

    assert response.status_code == status, response.text


def test_a_body_without_its_length_is_limited_too(web: Web) -> None:
    parts = iter([b" " * 100_000] * 20)
    response = web.raw("POST", "/v1/experiments", auth=(web.token, ""), content=parts)

    assert response.status_code == 413


def test_a_fault_of_the_service_leaks_nothing(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError(2, "No such file", "/home/someone/secret.db")

    monkeypatch.setattr(web.handler.service, "experiment", broken)
    mine = web("POST", "experiments", {**EXPERIMENT, "observation_budget": None})

    assert "Its log says more" in error_of(mine, 500)
    for text in (mine.text, str(mine.headers)):
        assert not re.search(r"secret|\.py|Traceback|Error\b|uvicorn|starlette", text)
    assert mine.headers["x-content-type-options"] == "nosniff"


def test_too_many_requests_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crystallize_opt.service.guard._clock", lambda: 100.0)
    web = Web(None, rate=0.5)  # One request at once, and then one in two seconds.
    other = web.make(Access())
    first, second = web("GET", "experiments"), web("GET", "experiments")
    theirs = web("GET", "experiments", token=other)
    wrong = [web("GET", "experiments", token=WRONG).status_code for _ in range(62)]
    web.handler.close()

    assert first.status_code == theirs.status_code == 200
    assert "Try again in" in error_of(second, 429)
    assert second.headers["retry-after"] in ("1", "2")
    assert wrong[:60] == [403] * 60
    assert wrong[-1] == 429


def test_a_bucket_never_holds_more_than_its_seconds() -> None:
    limit = RateLimit(10.0, seconds=1.0)
    allowed = [limit.wait("me", now=0.0) == 0.0 for _ in range(12)]
    later = [limit.wait("me", now=100.0) == 0.0 for _ in range(12)]

    assert allowed == later == [True] * 10 + [False] * 2


def test_an_open_address_without_tls_is_warned_of() -> None:
    opened = ["0.0.0.0", "::", "192.168.1.4", "lab.example"]  # noqa: S104
    for host in ["127.0.0.1", "::1", "localhost"]:
        assert not Address(host).is_open
    for host in opened:
        assert Address(host).is_open
        assert not Address(host, ssl_certfile="cert.pem").is_open


def test_tokens_are_made_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "service.db"
    web = Web(path)
    number = web("POST", "experiments", EXPERIMENT).json()["id"]
    web.handler.close()
    options = ["--experiment", number, "--read-only", "--days", "2"]
    assert main(["token", str(path), *options]) == 0
    token = capsys.readouterr().out.removeprefix("token: ").strip()
    with pytest.raises(UsageError, match="has no experiment 7"):
        new_token(path, experiment=7)
    web = Web(path)
    known = web("GET", "tokens/self", token=token).json()
    web.handler.close()

    assert known["permissions"] == "read"
    assert known["experiment"] == number
    assert known["expires"] - time.time() == pytest.approx(2 * 86400, abs=60)
    assert json.dumps(known["token"]) == "null"
