"""Each experiment has a thread of its own: nobody waits for the optimizer of another one."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import Objective
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.service.handler import Handler
from crystallize_opt.service.live import Live, Settings
from crystallize_opt.service.served_run import ServedRun
from crystallize_opt.service.service import Service
from tests.service.http import Web, error_of, web
from tests.service.test_classic import X

__all__ = ["web"]


@pytest.fixture
def handler() -> Iterator[Handler]:
    made = Handler(Service(None, Settings("RandomOptimizer")))
    yield made
    made.close()


def experiment_of(handler: Handler, **more: Any) -> str:
    data = {"name": "e", "parameters": [X], "metrics": [{"name": "m"}], **more}
    reply = handler.handle("POST", ["experiments"], data)
    assert reply.status == 201, reply
    return str(reply.body["id"])


class Gate:
    """Lets the asks of one experiment through when it is opened, and counts all asks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.opened = threading.Event()
        self.asked = threading.Semaphore(0)
        ask: Callable[[ServedRun], Any] = ServedRun.ask

        def slow(run: ServedRun) -> Any:
            if run._number == number:
                self.opened.wait(60)
            try:
                return ask(run)
            finally:
                self.asked.release()

        monkeypatch.setattr(ServedRun, "ask", slow)


def test_a_slow_suggestion_holds_up_nobody_else(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, 1)
    slow, other = experiment_of(handler), experiment_of(handler)
    waiting = [handler.begin("POST", ["experiments", slow, "suggestions"], {}) for _ in range(64)]
    own = {"assignments": {"x": 0.5}, "value": 1.0}

    assert handler.handle("POST", ["experiments", other, "suggestions"], {}).status == 201
    assert handler.handle("POST", ["experiments", slow, "observations"], own).status == 201
    progress = handler.handle("GET", ["experiments", slow], {}).body["progress"]
    assert progress["observation_count"] == 1
    assert not any(isinstance(each, Future) and each.done() for each in waiting)

    gate.opened.set()
    replies = [each.result(60) for each in waiting if isinstance(each, Future)]
    assert len({each.body["id"] for each in replies}) == 64


@pytest.mark.skipif(sys.platform != "linux", reason="threads cannot choose their processors")
@pytest.mark.parametrize("optimizer", ["RandomOptimizer", "OptunaOptimizer"])
def test_an_optimizer_that_may_start_threads_uses_all_processors(
    handler: Handler, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    everywhere = os.sched_getaffinity(0)
    if len(everywhere) == 1:
        pytest.skip("this process may use one processor only")
    found: dict[str, set[int]] = {}

    def noted(method: str) -> None:
        original: Callable[..., Any] = getattr(ServedRun, method)

        def noting(run: ServedRun, *arguments: Any) -> Any:
            started = threading.Thread(
                target=lambda: found.update({method: os.sched_getaffinity(0)})
            )
            started.start()
            started.join()
            return original(run, *arguments)

        monkeypatch.setattr(ServedRun, method, noting)

    methods = ["ask", "ask_for", "give_up", "settle", "tell"]
    for method in ("__init__", *methods):
        noted(method)
    path = ["experiments", experiment_of(handler, metadata={"optimizer": optimizer})]
    suggestion = handler.handle("POST", [*path, "suggestions"], {}).body["id"]
    other = handler.handle("POST", [*path, "suggestions"], {"assignments": {"x": 0.5}}).body["id"]
    handler.handle("POST", [*path, "observations"], {"suggestion": suggestion, "value": 1.0})
    handler.handle("DELETE", [*path, "suggestions", other], {})
    handler.handle("POST", [*path, "suggestions"], {})

    assert found.pop("__init__") == everywhere  # What imports a library may start threads.
    assert sorted(found) == methods
    shared = len(found["ask"]) == 1
    assert shared == (optimizer == "RandomOptimizer")
    assert all(processors == found["ask"] for processors in found.values())
    assert shared or found["ask"] == everywhere
    assert os.sched_getaffinity(0) == everywhere  # The caller's thread is left alone.


def test_suggestions_are_made_ahead_and_know_of_those_that_are_open(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, 0)
    path = ["experiments", experiment_of(handler, parallel_bandwidth=4), "suggestions"]
    first = handler.handle("POST", path, {}).body
    assert gate.asked.acquire(timeout=60)
    assert gate.asked.acquire(timeout=60)  # One ahead, before anybody asks for it.
    live = handler.service.lives._open[1]
    assert live._run is not None
    pending = [dict(each.params) for each in live._run.optimizer.pending]

    second = handler.handle("POST", path, {}).body

    assert [first["assignments"], second["assignments"]] == pending


def test_one_client_at_a_time_gets_suggestions_that_know_every_result(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    ask = ServedRun.ask

    def counting(run: ServedRun) -> Any:
        told.append(len(run.optimizer.observations))
        return ask(run)

    monkeypatch.setattr(ServedRun, "ask", counting)
    path = ["experiments", experiment_of(handler)]
    for _ in range(4):
        suggestion = handler.handle("POST", [*path, "suggestions"], {}).body
        data = {"suggestion": suggestion["id"], "value": 1.0}
        handler.handle("POST", [*path, "observations"], data)

    assert told == [0, 1, 2, 3]


def test_a_request_that_nobody_waits_for_takes_no_suggestion(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, 1)
    path = ["experiments", experiment_of(handler), "suggestions"]
    first, given_up, last = [handler.begin("POST", path, {}) for _ in range(3)]
    assert isinstance(first, Future)
    assert isinstance(given_up, Future)
    assert isinstance(last, Future)

    given_up.cancel()  # The optimizer has not come to it: it makes the first one.
    gate.opened.set()

    assert first.result(60).status == last.result(60).status == 201
    assert handler.handle("GET", path, {}).body["count"] == 2


def test_a_suggestion_that_takes_too_long_is_there_for_the_next_request(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, 1)
    monkeypatch.setattr("crystallize_opt.service.door.LONGEST_WAIT", 0.01)
    path = f"experiments/{experiment_of(web.handler)}/suggestions"
    message = error_of(web("POST", path), 429)  # SigOpt's client then asks again by itself.
    gate.opened.set()
    monkeypatch.setattr("crystallize_opt.service.door.LONGEST_WAIT", 60.0)

    assert "ask again" in message
    assert web("POST", path).status_code == 201


def test_own_assignments_that_are_out_of_bounds_meanwhile_are_refused_and_no_others(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, 1)
    path = ["experiments", experiment_of(handler)]
    first = handler.begin("POST", [*path, "suggestions"], {})
    own = handler.begin("POST", [*path, "suggestions"], {"assignments": {"x": 0.9}})
    last = handler.begin("POST", [*path, "suggestions"], {})
    assert isinstance(first, Future)
    assert isinstance(own, Future)
    assert isinstance(last, Future)

    narrower = {"parameters": [{"name": "x", "bounds": {"min": 0, "max": 0.5}}]}
    assert handler.handle("PUT", path, narrower).status == 200
    gate.opened.set()

    assert first.result(60).status == last.result(60).status == 201
    assert own.result(60).status == 400
    assert "changed meanwhile" in own.result().body["message"]


def test_an_optimizer_that_fails_is_an_answer_and_begins_again(
    handler: Handler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = ["experiments", experiment_of(handler), "suggestions"]
    with monkeypatch.context() as broken:

        def ask(_: ServedRun) -> Any:
            raise ZeroDivisionError("a secret")

        broken.setattr(ServedRun, "ask", ask)
        reply = handler.handle("POST", path, {})

    assert reply.status == 503
    assert "secret" not in reply.body["message"]
    assert "a secret" in caplog.text
    assert handler.handle("POST", path, {}).status == 201


def test_an_observation_may_come_while_its_suggestion_is_asked_for_again(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ["experiments", experiment_of(handler)]
    first = handler.handle("POST", [*path, "suggestions"], {}).body
    second = handler.handle("POST", [*path, "suggestions"], {}).body
    data = {"suggestion": first["id"], "value": 1.0}
    known = handler.handle("POST", [*path, "observations"], data).body
    ask_for = ServedRun.ask_for

    def and_meanwhile(run: ServedRun, params: Any) -> Any:
        data = {"suggestion": second["id"], "value": 2.0}
        assert handler.handle("POST", [*path, "observations"], data).status == 201
        return ask_for(run, params)

    monkeypatch.setattr(ServedRun, "ask_for", and_meanwhile)
    handler.handle("PUT", [*path, "observations", known["id"]], {"values": [{"value": 3.0}]})
    monkeypatch.setattr("crystallize_opt.service.live._QUIET", 0.0)
    third = handler.handle("POST", [*path, "suggestions"], {}).body

    live = handler.service.lives._open[1]
    assert live._run is not None
    optimizer = live._run.optimizer
    completed = [each["m"] for each in optimizer.observations if each.metrics]
    assert sorted(completed) == [2.0, 3.0]
    assert [dict(each.params) for each in optimizer.pending] == [third["assignments"]]
    suggestion = handler.handle("GET", [*path, "suggestions", second["id"]], {}).body
    assert suggestion["state"] == "closed"


def test_a_full_disk_is_an_answer(handler: Handler, caplog: pytest.LogCaptureFixture) -> None:
    path = ["experiments", experiment_of(handler)]
    handler.service.store._connection.execute("PRAGMA query_only = 1")

    reply = handler.handle("PUT", path, {"name": "other"})

    assert reply.status == 503
    assert "could not be" in caplog.text
    handler.service.store._connection.execute("PRAGMA query_only = 0")
    assert handler.handle("PUT", path, {"name": "other"}).body["name"] == "other"


def test_experiments_that_nobody_uses_are_closed_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crystallize_opt.service.lives._MOST", 1)
    handler = Handler(Service(tmp_path / "service.db", Settings("RandomOptimizer")))
    numbers = [experiment_of(handler, metadata={"seed": 5}) for _ in range(3)]
    found: dict[str, list[Any]] = {number: [] for number in numbers}
    closed: list[int] = []
    close = Live.close

    def close_and_count(live: Live) -> None:
        closed.append(live.number)
        close(live)

    monkeypatch.setattr(Live, "close", close_and_count)
    for _ in range(3):
        for number in numbers:
            reply = handler.handle("POST", ["experiments", number, "suggestions"], {})
            found[number].append(reply.body["assignments"])

    assert closed
    monkeypatch.undo()
    handler.close()
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, Objective("m", "maximize"), seed=5)
    points = [dict(each.params) for each in optimizer.ask(3)]
    assert found == dict.fromkeys(numbers, points)


def test_an_optimizer_in_memory_that_fails_learns_what_it_had_learnt(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ["experiments", experiment_of(handler)]
    first = handler.handle("POST", [*path, "suggestions"], {}).body
    second = handler.handle("POST", [*path, "suggestions"], {}).body
    handler.handle("POST", [*path, "observations"], {"suggestion": first["id"], "value": 1.0})
    with monkeypatch.context() as broken:
        broken.setattr(ServedRun, "ask", lambda _: 1 / 0)
        assert handler.handle("POST", [*path, "suggestions"], {}).status == 503

    handler.handle("POST", [*path, "observations"], {"suggestion": second["id"], "value": 2.0})
    third = handler.handle("POST", [*path, "suggestions"], {}).body

    live = handler.service.lives._open[1]
    assert live._run is not None
    optimizer = live._run.optimizer
    assert sorted(each["m"] for each in optimizer.observations) == [1.0, 2.0]
    assert [dict(each.params) for each in optimizer.pending] == [third["assignments"]]


def test_observations_that_keep_coming_do_not_keep_a_suggestion_waiting(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = experiment_of(handler)
    path = ["experiments", number]
    tell: Callable[[ServedRun, int], float | None] = ServedRun.tell
    told = 0

    def another_one_comes(run: ServedRun, observation: int) -> float | None:
        nonlocal told
        told += 1
        if told < 500:
            own = {"assignments": {"x": told / 1000}, "value": 1.0}
            assert handler.handle("POST", [*path, "observations"], own).status == 201
        return tell(run, observation)

    assert handler.handle("POST", [*path, "suggestions"], {}).status == 201
    monkeypatch.setattr(ServedRun, "tell", another_one_comes)
    own = {"assignments": {"x": 0.5}, "value": 1.0}
    assert handler.handle("POST", [*path, "observations"], own).status == 201
    assert handler.handle("POST", [*path, "suggestions"], {}).status == 201

    assert told < 500


@pytest.mark.parametrize("what", ["observed", "deleted", "edited"])
def test_a_suggestion_knows_what_was_recorded_before_it(
    handler: Handler, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Also what was recorded while the optimizer was busy with something earlier."""
    path = ["experiments", experiment_of(handler)]
    first, second = (handler.handle("POST", [*path, "suggestions"], {}).body for _ in range(2))
    tell, ask = ServedRun.tell, ServedRun.ask
    is_busy, may_go_on = threading.Event(), threading.Event()
    known: list[tuple[list[float | None], int]] = []

    def slow(run: ServedRun, number: int) -> float | None:
        is_busy.set()
        assert may_go_on.wait(60)
        return tell(run, number)

    def noting(run: ServedRun) -> Any:
        optimizer = run.optimizer
        values = [each.metrics.get("m") for each in optimizer.observations]
        known.append((values, len(optimizer.pending)))
        return ask(run)

    monkeypatch.setattr(ServedRun, "tell", slow)
    monkeypatch.setattr(ServedRun, "ask", noting)
    data = {"suggestion": first["id"], "value": 1.0}
    observation = handler.handle("POST", [*path, "observations"], data).body["id"]
    assert is_busy.wait(60)
    if what == "observed":
        data = {"suggestion": second["id"], "value": 2.0}
        assert handler.handle("POST", [*path, "observations"], data).status == 201
    elif what == "deleted":
        assert handler.handle("DELETE", [*path, "suggestions", second["id"]], {}).status == 200
    else:
        edited = {"suggestion": first["id"], "value": 3.0}
        assert handler.handle("PUT", [*path, "observations", observation], edited).status == 200
    waiting = handler.begin("POST", [*path, "suggestions"], {})
    assert isinstance(waiting, Future)
    may_go_on.set()

    assert waiting.result(60).status == 201
    expected = {
        "observed": ([1.0, 2.0], 0),
        "deleted": ([1.0, None], 0),  # It was abandoned.
        "edited": ([3.0], 1),
    }
    assert known == [expected[what]]
