"""`crystallize-opt serve`: the service over HTTP until Ctrl-C; and `crystallize-opt token`."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from crystallize_opt.errors import UsageError
from crystallize_opt.runtime.extras import needs
from crystallize_opt.service.access import EVERYTHING, Access
from crystallize_opt.service.handler import Handler
from crystallize_opt.service.live import Settings
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import Store
from crystallize_opt.service.tokens import KIND, make_token

Say = Callable[[str], object]


@dataclass(frozen=True)
class Address:
    """Where the service is.

    Attributes:
        host: The address to listen at; by default, only programs of this machine reach it.
        port: The port; 0 for a free one.
        names: The names under which the service may be reached, besides those of this machine.
        ssl_certfile: The certificate for TLS, a PEM file.
        ssl_keyfile: The key of the certificate, if the file of the certificate does not have it.
        rate: How many requests a second each token may send.
    """

    host: str = "127.0.0.1"
    port: int = 4200
    names: Iterable[str] = ()
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    rate: float = 1000.0

    @property
    def is_open(self) -> bool:
        """Whether other machines reach the service, and what they send can be read on the way."""
        try:
            is_loopback = ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            is_loopback = self.host == "localhost"
        return not is_loopback and self.ssl_certfile is None


def serve(
    path: str | os.PathLike[str],
    settings: Settings | None = None,
    address: Address | None = None,
    *,
    say: Say = print,
    warn: Say = print,
) -> None:
    """Serve the experiments of a file until Ctrl-C or SIGTERM.

    Args:
        path: The SQLite file, created if it does not exist.
        settings: What the service decides for all experiments.
        address: Where the service is.
        say: Called with the lines that say where the service is, and the first token.
        warn: Called with warnings.

    Raises:
        MissingExtraError: Starlette or uvicorn is not installed.
        RunLocked: Another service has the file open.
        UsageError: The port or the certificate cannot be used.
    """
    with needs("The service needs", "starlette", "uvicorn", extra="service"):
        import uvicorn

        from crystallize_opt.service.app import application

    address = address or Address()
    handler = Handler(Service(path, settings))
    try:
        with _listening(address.host, address.port) as listening:
            config = uvicorn.Config(
                application(handler, hosts=address.names, rate=address.rate),
                log_level="warning",
                access_log=False,
                lifespan="on",
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=60,
                ssl_certfile=address.ssl_certfile,
                ssl_keyfile=address.ssl_keyfile,
            )
            _load(config)
            if address.is_open:
                warn(
                    f"warning: {address.host} may be reached from other machines, and tokens and "
                    "results go there unencrypted: give --ssl-certfile, or listen at 127.0.0.1 "
                    "behind a server with TLS or a tunnel (ssh -L)."
                )
            shown = f"[{address.host}]" if ":" in address.host else address.host
            scheme = "http" if address.ssl_certfile is None else "https"
            port = listening.getsockname()[1]
            for reason in handler.not_served:
                warn(f"warning: {reason}")
            say(f"Serving {os.fspath(path)} at {scheme}://{shown}:{port}")
            store = handler.service.store
            if not store.count(KIND):
                token, _ = make_token(store, EVERYTHING)
                store.flush()  # It is shown once.
                say(f"token: {token}")
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        handler.close()


def _load(config: object) -> None:
    try:
        config.load()  # type: ignore[attr-defined]
    except OSError as error:  # `ssl.SSLError` is one.
        raise UsageError(f"The certificate cannot be used: {error.strerror or error}.") from error


def new_token(
    path: str | os.PathLike[str],
    *,
    client: int | None = None,
    experiment: int | None = None,
    read_only: bool = False,
    days: float | None = None,
) -> str:
    """Make a token for a file that is not being served.

    Args:
        path: The SQLite file.
        client: The client whose experiments the token opens; None for the owner of the file.
        experiment: The only experiment that it opens; None for all of the client's.
        read_only: Whether it may change nothing.
        days: After how many days it ends; None: never.

    Raises:
        StorageError: The file cannot be written.
        RunLocked: The file is being served: ask the service for a token.
        UsageError: The client has no such experiment.
    """
    access = Access(
        experiment,
        read_only,
        client=EVERYTHING.client if client is None else client,
        is_owner=client is None and experiment is None and not read_only,
    )
    store = Store(path)
    try:
        if experiment is not None and store.parent_of("experiment", experiment) != access.client:
            raise UsageError(f"The client {access.client} has no experiment {experiment}.")
        expires = None if days is None else time.time() + 86400 * days
        return make_token(store, access, expires=expires)[0]
    finally:
        store.close()


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
