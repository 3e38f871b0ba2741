"""Nothing is lost or doubled if the service dies, at whatever moment."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import History
from crystallize_opt.trials.status import Status
from tests.service.conftest import ROOT, Server
from tests.service.test_classic import X

pytestmark = pytest.mark.filterwarnings("ignore:The .data field:RuntimeWarning")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_death_after_any_write_loses_and_doubles_nothing(tmp_path: Path, step: int) -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "tests.service.crashes", str(tmp_path), str(step)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 30, "the scenario has fewer writes than it should"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Crowd:
    """Clients in threads, which repeat each request until it is answered.

    Args:
        server: The server.
        experiment: The experiment.
        budget: How many observations all of them make.
        ends: Called after each answer, with the number of answers so far.
    """

    def __init__(
        self, server: Server, experiment: str, budget: int, ends: Callable[[int], None]
    ) -> None:
        self.acknowledged: dict[str, str] = {}  # Observation by suggestion.
        self._server, self._experiment, self._budget, self._ends = server, experiment, budget, ends
        self._turn = threading.Lock()
        self._answers = 0
        self.errors: list[BaseException] = []

    def work(self) -> None:
        """Evaluate suggestions until the budget is used up."""
        from sigopt import Connection

        connection = Connection(client_token=self._server.token, api_url=self._server.url)
        experiment = connection.experiments(self._experiment)
        try:
            while True:
                with self._turn:
                    if len(self.acknowledged) >= self._budget:
                        return
                suggestion = self._until_answered(experiment.suggestions().create)
                value = -((suggestion.assignments["x"] - 0.3) ** 2)
                observation = self._until_answered(
                    experiment.observations().create, suggestion=suggestion.id, value=value
                )
                with self._turn:
                    self.acknowledged[suggestion.id] = observation.id
        except BaseException as error:  # noqa: BLE001
            self.errors.append(error)

    def _until_answered(self, call: Callable[..., Any], **arguments: Any) -> Any:
        from sigopt.exception import ApiException, ConnectionException

        while True:
            try:
                answer = call(**arguments)
            except ConnectionException:
                time.sleep(0.1)  # As clients do: the server needs the processor to start again.
                continue
            except ApiException as error:
                if error.status_code != 503:
                    raise
                continue
            with self._turn:
                self._answers += 1
                answers = self._answers
            self._ends(answers)
            return answer


def kill_again_and_again(
    path: Path, serve: Callable[..., Server], kills: int, optimizer: str, seed: int = 0
) -> None:
    from sigopt import Connection

    port = free_port()
    options = ("--optimizer", optimizer, "--port", str(port))
    servers = [serve(path, *options)]
    rng = random.Random(seed)
    connection = Connection(client_token=servers[0].token, api_url=servers[0].url)
    experiment = connection.experiments().create(
        name="Killed",
        parameters=[X],
        metrics=[{"name": "m"}],
        parallel_bandwidth=3,
        metadata={"seed": 1},
    )
    moments = sorted(rng.sample(range(3, 12 * kills), kills))
    due = threading.Event()

    def ends(answers: int) -> None:
        if moments and answers >= moments[0]:
            due.set()

    crowd = Crowd(servers[0], experiment.id, 6 * kills, ends)
    threads = [threading.Thread(target=crowd.work) for _ in range(3)]
    for thread in threads:
        thread.start()
    while moments and any(each.is_alive() for each in threads):
        if due.wait(1.0):
            servers[-1].kill()
            moments.pop(0)
            due.clear()
            servers.append(serve(path, *options))
    for thread in threads:
        thread.join()
    assert not crowd.errors
    assert len(servers) > kills

    known = connection.experiments(experiment.id).observations().fetch().data
    by_suggestion = {each.suggestion: each.id for each in known}
    assert len(by_suggestion) == len(known)
    assert crowd.acknowledged.items() <= by_suggestion.items()
    servers[-1].end()
    history = History.load(path, run=experiment.id)
    completed = [each for each in history if each.status is Status.COMPLETED]
    assert len(completed) == len(known)
    assert {each["m"] for each in completed} == {each.value for each in known}
    assert History.runs(path) == [experiment.id]  # It went on, and did not begin anew.


def test_a_killed_server_goes_on(tmp_path: Path, serve: Callable[..., Server]) -> None:
    kill_again_and_again(tmp_path / "service.db", serve, 2, "RandomOptimizer")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_server_that_is_killed_fifty_times_goes_on(
    tmp_path: Path, serve: Callable[..., Server], seed: int
) -> None:
    kill_again_and_again(tmp_path / "service.db", serve, 10, "OptunaOptimizer", seed)
