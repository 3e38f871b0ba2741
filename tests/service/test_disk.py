"""What is answered is on disk, so that a loss of power does not undo it."""

from __future__ import annotations

import errno
import json
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt.service import disk, live
from crystallize_opt.service.handler import Handler
from crystallize_opt.service.live import Settings
from crystallize_opt.service.service import Service
from tests.service import crashes
from tests.service.test_classic import X

EXPERIMENT = {"name": "e", "parameters": [X], "metrics": [{"name": "m"}]}


class Platter:
    """The disk below a file of runs: it has what the file had when the last flush began.

    Args:
        monkeypatch: Pytest's.
        path: The file.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self._path = path
        self._content: dict[str, bytes] = {}
        flush = disk.flush

        def and_note(descriptor: int) -> None:
            log = Path(f"{path}-wal")
            content = {"": path.read_bytes(), "-wal": log.read_bytes()}
            flush(descriptor)
            self._content = content

        monkeypatch.setattr(disk, "flush", and_note)

    def lose_power(self, to: Path) -> None:
        """Write what a machine finds when it starts again."""
        for suffix, content in self._content.items():
            Path(f"{to}{suffix}").write_bytes(content)


def test_a_loss_of_power_after_any_answer_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_QUIET", 0.0)
    path = tmp_path / "whole.db"
    platter = Platter(monkeypatch, path)
    handler = Handler(Service(path, Settings("RandomOptimizer")))
    answers: list[str] = []

    def ask(method: str, where: str, data: dict[str, Any]) -> Any:
        reply = handler.handle(method, where.split("/"), data)
        answers.append(json.dumps(reply.body) + "\n")
        image = tmp_path / f"{len(answers)}.db"
        platter.lose_power(image)
        image.with_suffix(".heard").write_text("".join(answers))
        return reply.body

    crashes.client(ask)
    handler.close()
    monkeypatch.undo()
    monkeypatch.setattr(live, "_QUIET", 0.0)

    assert len(answers) >= 10
    for number in range(1, len(answers) + 1):
        crashes.run(tmp_path / f"{number}.db")
        crashes.check(tmp_path / f"{number}.db")


@pytest.mark.parametrize("what", ["experiment", "suggestion", "observation", "repeated"])
def test_no_change_is_answered_before_it_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    handler = Handler(Service(tmp_path / "service.db", Settings("RandomOptimizer")))
    path = ["experiments", handler.handle("POST", ["experiments"], EXPERIMENT).body["id"]]
    first = handler.handle("POST", [*path, "suggestions"], {}).body
    of_first = {"suggestion": first["id"], "value": 1.0}
    if what == "repeated":
        handler.handle("POST", [*path, "observations"], of_first)
    begun, goes_on = threading.Event(), threading.Event()
    flush = disk.flush

    def waits(descriptor: int) -> None:
        begun.set()
        goes_on.wait(60)
        flush(descriptor)

    monkeypatch.setattr(disk, "flush", waits)
    reply = {
        "experiment": lambda: handler.begin("POST", ["experiments"], EXPERIMENT),
        "suggestion": lambda: handler.begin("POST", [*path, "suggestions"], {}),
    }.get(what, lambda: handler.begin("POST", [*path, "observations"], of_first))()

    assert begun.wait(60)
    assert isinstance(reply, Future)
    assert not reply.done()
    seen = handler.handle("GET", path, {})  # Whoever only reads waits for nothing.
    assert seen.status == 200
    goes_on.set()
    assert reply.result(60).status == 201
    handler.close()


def test_several_requests_share_a_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = Handler(Service(tmp_path / "service.db", Settings("RandomOptimizer")))
    begun, goes_on, flushes = threading.Event(), threading.Event(), [0]

    def waits(_: int) -> None:
        flushes[0] += 1
        begun.set()
        goes_on.wait(60)

    monkeypatch.setattr(disk, "flush", waits)
    first = handler.begin("POST", ["experiments"], EXPERIMENT)
    assert begun.wait(60)
    others = [handler.begin("POST", ["experiments"], EXPERIMENT) for _ in range(20)]
    goes_on.set()

    for each in (first, *others):
        assert isinstance(each, Future)
        assert each.result(60).status == 201
    assert flushes[0] == 2  # The one that had begun may have missed the others.
    handler.close()


def test_after_a_flush_that_failed_nothing_is_accepted_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "service.db"
    handler = Handler(Service(path, Settings("RandomOptimizer")))

    def fails(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(disk, "flush", fails)
        assert handler.handle("POST", ["experiments"], EXPERIMENT).status == 503

    # The system has dropped the pages, and would report success.
    reply = handler.handle("POST", ["experiments"], EXPERIMENT)
    assert reply.status == 503
    assert str(tmp_path) not in reply.body["message"]
    assert "Input/output error" in caplog.text
    handler.close()
    again = Handler(Service(path, Settings("RandomOptimizer")))
    assert again.handle("POST", ["experiments"], EXPERIMENT).status == 201
    again.close()
