"""How many trials a second the service takes, how long clients wait, and what memory it needs.

A server is started as a process of its own. 32 clients ask for suggestions of one experiment of
`RandomOptimizer`, and observe them at once, over HTTP connections that stay open. They are tasks of
one event loop, which reads no more of an answer than its length and its body, because they share
the machine with the server; what they take of it is printed as well. Then the same asks and tells
are made in this process, stored in a file as well. How long the disk takes for a flush is measured
in the same folder. At last, an empty file gets 1,000 experiments, which are listed. Run:

    python benchmarks/service_load.py --observations 10000
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from crystallize_opt import History, Objective, Observation
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.service.disk import flush
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
        self._host, _, port = urlsplit(url).netloc.partition(":")
        self._port = int(port)
        text = base64.b64encode(f"{token}:".encode()).decode()
        self._head = (
            f"Host: {self._host}:{port}\r\nAuthorization: Basic {text}\r\n"
            "Content-Type: application/json\r\n"
        )
        self.seconds: list[float] = []

    async def connect(self) -> None:
        """Open the connection."""
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)

    async def __call__(self, method: str, path: str, data: Any = None) -> Any:
        """Send a request, and return the answer."""
        body = b"" if data is None else json.dumps(data).encode()
        head = f"{method} /v1/{path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        began = time.perf_counter()
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        text = await self._reader.readexactly(length)
        self.seconds.append(time.perf_counter() - began)
        if not answer.startswith(b"HTTP/1.1 20"):
            raise RuntimeError(f"{method} {path}: {answer[:20]!r} {text!r}")
        return json.loads(text)


@contextlib.contextmanager
def serving(path: Path) -> Iterator[tuple[psutil.Process, Callable[[], Awaitable[Client]]]]:
    """Run a server; give its process, and what opens connections."""
    command = [sys.executable, "-m", "crystallize_opt", "serve", str(path), "--port", "0"]
    with subprocess.Popen(  # noqa: S603
        [*command, "--optimizer", "RandomOptimizer", "--rate-limit", "1e6"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        token = process.stdout.readline().split()[-1]

        async def connected() -> Client:
            client = Client(url, token)
            await client.connect()
            return client

        try:
            yield psutil.Process(process.pid), connected
        finally:
            process.terminate()


def loss(assignments: dict[str, Any]) -> float:
    return float((assignments["x"] - 0.3) ** 2 + assignments["y"])


async def trials(
    connections: Sequence[Client], number: str, observations: int, note: Callable[[int], None]
) -> list[str]:
    """Let each client ask and observe until all observations are made; return what failed."""
    left, failures = iter(range(observations)), []

    async def work(client: Client) -> None:
        for trial in left:  # The tasks share it.
            note(trial)
            try:
                suggestion = await client("POST", f"experiments/{number}/suggestions", {})
                values = [{"name": "loss", "value": loss(suggestion["assignments"])}]
                data = {"suggestion": suggestion["id"], "values": values}
                await client("POST", f"experiments/{number}/observations", data)
            except Exception as error:  # noqa: BLE001  (each is counted)
                failures.append(repr(error))

    await asyncio.gather(*map(work, connections))
    return failures


async def over_http(folder: Path, observations: int, clients: int) -> tuple[float, float]:
    """Return the wall time and the server's CPU time of a trial."""
    with serving(folder / "service.db") as (server, connected):
        first = await connected()
        given = {**EXPERIMENT, "parallel_bandwidth": clients}
        number = (await first("POST", "experiments", given))["id"]
        memory: list[tuple[int, float]] = []
        connections = [await connected() for _ in range(clients)]

        def note(trial: int) -> None:
            if trial % max(1, observations // 5) == 0:
                memory.append((trial, server.memory_info().rss / 2**20))

        before, own, began = sum(server.cpu_times()[:2]), time.process_time(), time.perf_counter()
        failures = await trials(connections, number, observations, note)
        spent, own = time.perf_counter() - began, time.process_time() - own
        cpu = sum(server.cpu_times()[:2]) - before
        note(observations)
        last = await connected()  # The server closes a connection that is idle too long.
        progress = (await last("GET", f"experiments/{number}"))["progress"]
    count, stored = progress["observation_count"], len(History.load(folder / "service.db", number))
    times = sorted(each for client in connections for each in client.seconds)
    load = os.getloadavg()[0]
    print(f"{clients} clients, {observations} observations; the load of the machine was {load:.1f}")
    print(f"  errors {len(failures)}, lost {observations - count}, not in the run {count - stored}")
    print(f"  {observations / spent:.0f} pairs of suggestion and observation a second")
    for share in (0.5, 0.9, 0.99, 1.0):
        place = min(len(times) - 1, int(share * len(times)))
        print(f"  {100 * share:.0f} % of the requests within {1000 * times[place]:.1f} ms")
    print(f"  CPU of the clients: {1000 * own / observations:.2f} ms a trial")
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


def flushes(folder: Path) -> None:
    """Print how long a flush of a few pages takes, as after a commit."""
    seconds = []
    with (folder / "flushed").open("wb", buffering=0) as stream:
        for _ in range(200):
            stream.write(bytes(4 * 4096))
            began = time.perf_counter()
            flush(stream.fileno())
            seconds.append(time.perf_counter() - began)
    ranked = sorted(seconds)
    median, late = 1000 * ranked[100], 1000 * ranked[198]
    print(f"a flush to the disk: {median:.2f} ms (median), {late:.2f} ms (99 %)")


async def lists(folder: Path, experiments: int) -> None:
    with serving(folder / "many.db") as (_, connected):
        client = await connected()
        for _ in range(experiments):
            await client("POST", "experiments", EXPERIMENT)
        for limit in sorted({experiments, min(experiments, 100)}, reverse=True):
            client.seconds.clear()
            for _ in range(11):
                found = await client("GET", f"experiments?limit={limit}")
                assert len(found["data"]) == limit
            median = 1000 * sorted(client.seconds)[5]
            print(f"a list of {limit} of {experiments} experiments: {median:.0f} ms (median of 11)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--observations", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--experiments", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wall, cpu = asyncio.run(over_http(folder, given.observations, given.clients))
        own_wall, own_cpu = in_process(folder, given.observations)
        print(
            f"CPU of a trial: {1000 * cpu:.2f} ms in the server, {1000 * own_cpu:.2f} ms in "
            f"process, {cpu / own_cpu:.1f} times; wall: {1000 * wall:.2f} and "
            f"{1000 * own_wall:.2f} ms, {wall / own_wall:.1f} times"
        )
        flushes(folder)
        asyncio.run(lists(folder, given.experiments))


if __name__ == "__main__":
    main()
