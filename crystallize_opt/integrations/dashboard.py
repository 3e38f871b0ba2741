"""Runs of any optimizer in optuna-dashboard, while they are written."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from crystallize_opt.adapters.optuna.export import study_of
from crystallize_opt.errors import UsageError
from crystallize_opt.history.history import History
from crystallize_opt.pipeline.context import logger
from crystallize_opt.runtime.extras import needs

_EVERY = 2.0  # seconds between two looks at the file


def serve(
    path: str | os.PathLike[str],
    run: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    say: Callable[[str], object] = print,
) -> None:
    """Show runs in optuna-dashboard until Ctrl-C, and follow those that are being written.

    Each run is an Optuna study in memory, as `study_of` makes it; the file is only read.

    Args:
        path: The file given to `optimize(storage=...)`.
        run: The run's name; None for every run of the file that has objectives.
        host: The address to listen at; by default, only programs of this machine reach it.
        port: The port.
        say: Called with a line that says where the dashboard is.

    Raises:
        StorageError: There is no such file or run, or the file is damaged.
        UsageError: No run has objectives, or the port cannot be used.
        MissingExtraError: optuna-dashboard is not installed.
    """
    with needs("The dashboard needs", "optuna_dashboard", "optuna", extra="dashboard"):
        import optuna
        from optuna_dashboard import wsgi
    from wsgiref.simple_server import make_server

    storage = optuna.storages.InMemoryStorage()
    follow(path, run, storage)
    if not optuna.get_all_study_names(storage):
        raise UsageError(f"{os.fspath(path)!r} has no run with objectives to show.")
    try:
        server = make_server(host, port, wsgi(storage))
    except OSError as error:
        raise UsageError(f"Port {port} of {host} cannot be used: {error.strerror}.") from error
    ended = threading.Event()

    def follow_on() -> None:
        while not ended.wait(_EVERY):
            try:
                follow(path, run, storage)
            except Exception:  # noqa: BLE001  (the next look may succeed)
                logger.exception("The dashboard could not read %s.", path)

    follower = threading.Thread(target=follow_on, name="dashboard", daemon=True)
    follower.start()
    say(f"The dashboard is at http://{host}:{server.server_port}/dashboard (Ctrl-C ends it)")
    try:
        server.serve_forever()
    finally:
        ended.set()
        server.server_close()


def follow(path: str | os.PathLike[str], run: str | None, storage: Any) -> None:
    """Bring the studies in a storage up to the runs of a file."""
    for name in [run] if run is not None else History.runs(path):
        history = History.load(path, name)
        if history.objectives:
            study_of(history, storage=storage, study_name=history.name)
