"""How many trials a second the service takes, how long clients wait, and what memory it needs.

A server is started as a process of its own. 32 clients ask for suggestions of one experiment of
`RandomOptimizer`, and observe them at once, over HTTP connections that stay open. Then the same
asks and tells are made in this process, stored in a file as well. At last, an empty file gets 1,000
experiments, which are listed. Run:

    python benchmarks/service_load.py --observations 10000
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from crystallize_opt import History, Objective, Observation
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.storage.settings import Storage

EXPERIMENT: dict[str, Any] = {
    "name": "load",
    "parameters": [
        {"name": "x", "type": "double", "bounds": {"min": 0, "max": 1}},
        {"name": "y", "type": "double", "bounds": {"min": 0, "max": 1}},
        {"name": "kind", "type": "categorical", "categorical_values": ["a", "b", "c"]},
    ],
    "metrics": [{"name": "loss", "objective": "minimize"}],
    "metadata": {"seed": 0},
}


class Client:
    """One connection that stays open."""

    def __init__(self, url: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        text = base64.b64encode(f"{token}:".encode()).decode()
        self._headers = {"Authorization": f"Basic {text}", "Content-Type": "application/json"}
        self.seconds: list[float] = []

    def __call__(self, method: str, path: str, data: Any = None) -> Any:
        began = time.perf_counter()
        body = None if data is None else json.dumps(data)
        self._connection.request(method, f"/v1/{path}", body, self._headers)
        response = self._connection.getresponse()
        text = response.read()
        self.seconds.append(time.perf_counter() - began)
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {text!r}")
        return json.loads(text)


def start(path: Path, *options: str) -> tuple[subprocess.Popen[str], Callable[[], Client]]:
    command = [sys.executable, "-m", "crystallize_opt", "serve", str(path), "--port", "0"]
    process = subprocess.Popen(  # noqa: S603
        [*command, "--optimizer", "RandomOptimizer", "--rate-limit", "1e6", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    token = process.stdout.readline().split()[-1]
    return process, lambda: Client(url, token)


def loss(assignments: dict[str, Any]) -> float:
    return float((assignments["x"] - 0.3) ** 2 + assignments["y"])


def over_http(  # noqa: C901  (one run, from start to end)
    folder: Path, observations: int, clients: int
) -> tuple[float, float]:
    """Return the wall time and the server's CPU time of a trial."""
    process, connect = start(folder / "service.db")
    server = psutil.Process(process.pid)
    first = connect()
    number = first("POST", "experiments", {**EXPERIMENT, "parallel_bandwidth": clients})["id"]
    left, turn = iter(range(observations)), threading.Lock()
    failures: list[str] = []
    memory: list[tuple[int, float]] = []
    connections = [connect() for _ in range(clients)]

    def work(client: Client) -> None:
        while True:
            with turn:
                trial = next(left, None)
                if trial is not None and trial % max(1, observations // 5) == 0:
                    memory.append((trial, server.memory_info().rss / 2**20))
            if trial is None:
                return
            try:
                suggestion = client("POST", f"experiments/{number}/suggestions", {})
                value = loss(suggestion["assignments"])
                values = [{"name": "loss", "value": value}]
                data = {"suggestion": suggestion["id"], "values": values}
                client("POST", f"experiments/{number}/observations", data)
            except Exception as error:  # noqa: BLE001  (each is counted)
                failures.append(repr(error))

    for client in connections:
        client("GET", f"experiments/{number}")  # Connect.
        client.seconds.clear()
    before, began = sum(server.cpu_times()[:2]), time.perf_counter()
    threads = [threading.Thread(target=work, args=(client,)) for client in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent, cpu = time.perf_counter() - began, sum(server.cpu_times()[:2]) - before
    memory.append((observations, server.memory_info().rss / 2**20))
    count = connect()("GET", f"experiments/{number}")["progress"]["observation_count"]
    process.terminate()
    process.wait(120)
    stored = len(History.load(folder / "service.db", number))
    times = sorted(each for client in connections for each in client.seconds)
    load = os.getloadavg()[0]
    print(f"{clients} clients, {observations} observations; the load of the machine was {load:.1f}")
    print(f"  errors {len(failures)}, lost {observations - count}, not in the run {count - stored}")
    print(f"  {observations / spent:.0f} pairs of suggestion and observation a second")
    for share in (0.5, 0.9, 0.99, 1.0):
        place = min(len(times) - 1, int(share * len(times)))
        print(f"  {100 * share:.0f} % of the requests within {1000 * times[place]:.1f} ms")
    print("  memory in MiB: " + ", ".join(f"{size:.0f} at {at}" for at, size in memory))
    for text in sorted({*failures})[:5]:
        print(f"  {text}")
    return spent / observations, cpu / observations


def in_process(folder: Path, observations: int) -> tuple[float, float]:
    """Return the wall time and the CPU time of a trial, asked and told in this process."""
    space = {"x": (0.0, 1.0), "y": (0.0, 1.0), "kind": ["a", "b", "c"]}
    optimizer = RandomOptimizer(space, Objective("loss", "minimize"), seed=0)
    recorded = RecordedOptimizer(optimizer, Storage(folder / "process.db", "run"))
    recorded.describe({})
    run_sync(recorded.resume())
    began, before = time.perf_counter(), time.process_time()
    for _ in range(observations):
        (treatment,) = run_sync(recorded.ask())
        told = Observation(treatment, {"loss": loss(dict(treatment.params))})
        run_sync(recorded.tell(told))
    spent = time.perf_counter() - began, time.process_time() - before
    recorded.close()
    return spent[0] / observations, spent[1] / observations


def lists(folder: Path, experiments: int) -> None:
    process, connect = start(folder / "many.db")
    client = connect()
    for _ in range(experiments):
        client("POST", "experiments", EXPERIMENT)
    for limit in (experiments, 100):
        client.seconds.clear()
        for _ in range(11):
            found = client("GET", f"experiments?limit={limit}")
            assert len(found["data"]) == limit
        median = 1000 * sorted(client.seconds)[5]
        print(f"a list of {limit} of {experiments} experiments: {median:.0f} ms (median of 11)")
    process.terminate()
    process.wait(120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--observations", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--experiments", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wall, cpu = over_http(folder, given.observations, given.clients)
        own_wall, own_cpu = in_process(folder, given.observations)
        print(
            f"CPU of a trial: {1000 * cpu:.2f} ms in the server, {1000 * own_cpu:.2f} ms in "
            f"process, {cpu / own_cpu:.1f} times; wall: {1000 * wall:.2f} and "
            f"{1000 * own_wall:.2f} ms, {wall / own_wall:.1f} times"
        )
        lists(folder, given.experiments)


if __name__ == "__main__":
    main()
