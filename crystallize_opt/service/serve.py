"""`crystallize-opt serve`: the service over HTTP until Ctrl-C."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from crystallize_opt.errors import UsageError
from crystallize_opt.runtime.extras import needs
from crystallize_opt.service.handler import Handler
from crystallize_opt.service.live import Settings
from crystallize_opt.service.service import Service


def serve(
    path: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 4200,
    say: Callable[[str], object] = print,
) -> None:
    """Serve the experiments of a file until Ctrl-C or SIGTERM.

    Args:
        path: The SQLite file, created if it does not exist.
        settings: What the service decides for all experiments.
        host: The address to listen at; by default, only programs of this machine reach it.
        port: The port; 0 for a free one.
        say: Called with the lines that say where the service is.

    Raises:
        MissingExtraError: Starlette or uvicorn is not installed.
        RunLocked: Another service has the file open.
        UsageError: The port cannot be used.
    """
    with needs("The service needs", "starlette", "uvicorn", extra="service"):
        import uvicorn

        from crystallize_opt.service.app import application

    handler = Handler(Service(path, settings))
    try:
        listening = _listening(host, port)
        with listening:
            config = uvicorn.Config(application(handler), log_level="warning", lifespan="on")
            say(f"Serving {os.fspath(path)} at http://{host}:{listening.getsockname()[1]}")
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        handler.close()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)  # From now on, requests wait until they are answered.
    except OSError as error:
        listening.close()
        raise UsageError(f"Port {port} of {host} cannot be used: {error.strerror}.") from error
    return listening
