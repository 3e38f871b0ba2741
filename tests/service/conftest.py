"""SigOpt's own client, which the tests of the service drive it with.

The client asks for urllib3 1.26, and would take back everybody's urllib3. It runs with urllib3 2,
so it is installed apart, without its dependencies, which are here.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / ".pytest_cache" / "sigopt-8.8.3"
_PACKAGES = ("sigopt==8.8.3", "backoff==1.11.1", "pypng==0.20220715.0")


def _install_client() -> None:
    CLIENT.parent.mkdir(exist_ok=True)
    done = CLIENT / "installed"
    with FileLock(f"{CLIENT}.lock"):
        if not done.exists():
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run(  # noqa: S603
                [*command, "--target", str(CLIENT), "--upgrade", *_PACKAGES],
                check=True,
                capture_output=True,
            )
            done.touch()
    sys.path.append(str(CLIENT))


_install_client()


class Server:
    """The service as a process of its own.

    Args:
        path: The SQLite file.
        options: Further words of the command line.
    """

    def __init__(self, path: Path, *options: str) -> None:
        is_new, kept = not path.exists(), path.with_suffix(".token")
        command = [sys.executable, "-m", "crystallize_opt", "serve", str(path), "--port", "0"]
        log = path.with_suffix(".log")
        with log.open("w") as errors:
            self.process = subprocess.Popen(  # noqa: S603
                [*command, *options],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("Serving"):
            self.process.communicate(timeout=60)
            raise RuntimeError(f"The server did not start: {line}{log.read_text()}")
        self.url = line.split()[-1]
        if is_new:  # Later, nobody can read it any more.
            kept.write_text(self.process.stdout.readline().removeprefix("token: ").strip())
        self.token = kept.read_text()

    def asking(self, url: str) -> urllib.request.Request:
        """Return a request for a page, with the token as a browser sends it."""
        text = base64.b64encode(f"{self.token}:".encode()).decode()
        return urllib.request.Request(url, headers={"Authorization": f"Basic {text}"})  # noqa: S310

    def kill(self) -> None:
        """End the process as a power cut would."""
        self.process.kill()
        self.process.communicate()

    def end(self) -> None:
        """End the process as a user would."""
        self.process.terminate()
        self.process.communicate(timeout=60)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers, which end with the test."""
    servers: list[Server] = []

    def start(path: Path, *options: str) -> Server:
        servers.append(Server(path, *options))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.end()


@pytest.fixture
def connect() -> Iterator[Callable[..., Any]]:
    """Open connections through the driver in this process, which close with the test."""
    from sigopt import Connection

    from crystallize_opt.service import Driver

    connections: list[Any] = []

    def open_one(**options: Any) -> Any:
        options = {"optimizer": "RandomOptimizer", **options}
        connections.append(Connection(driver=Driver, **options))
        return connections[-1]

    yield open_one
    for connection in connections:
        connection.impl.driver.close()
