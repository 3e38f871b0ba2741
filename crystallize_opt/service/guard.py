"""What stands before the service: foreign hosts and sites, sizes, rates, headers."""

from __future__ import annotations

import functools
import ipaddress
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 1024 * 1024
DEEPEST = 20
"""How deep the JSON of a request may be nested."""

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}

_RAW = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


class Guard:
    """Refuses requests for other hosts, and those that another web site made a browser send.

    A page of another site cannot name this host by a name of its own (DNS rebinding), so that only
    known names and plain addresses are accepted. Starlette's `TrustedHostMiddleware` knows no
    addresses that the process does not know of itself, as behind a forwarded port.

    Args:
        app: The application.
        hosts: The names under which the service may be reached, besides those of this machine.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self.app = app
        own = ("localhost", socket.gethostname(), socket.getfqdn())
        self._hosts = {name.lower() for name in (*own, *hosts)}
        self._is_known = functools.lru_cache(maxsize=256)(self._names_this)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_known(host):
            message = (
                "This service does not answer to the host of this request. Start it with "
                "--allow-host and the name, if the name is its own."
            )
            await JSONResponse({"message": message}, 403)(scope, receive, send)
        elif _is_foreign(scope["method"], headers, host):
            message = "Requests that another web site makes a browser send are refused."
            await JSONResponse({"message": message}, 403)(scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send))

    def _names_this(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True


def _is_foreign(method: str, headers: Headers, host: str) -> bool:
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        return True
    site = headers.get("sec-fetch-site", "none")
    is_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    return site not in ("none", "same-origin") and not is_link


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [*message["headers"]]
            known = {name for name, _ in given}
            message["headers"] = given + [each for each in _RAW if each[0] not in known]
        await send(message)

    return sending


class RateLimit:
    """How many requests a second each client may send: a bucket for each that fills steadily.

    Args:
        per_second: How many requests a second, on average.
        seconds: For how many seconds' worth a client may save up.

    Example:
        >>> limit = RateLimit(1.0, seconds=2.0)
        >>> [limit.wait("me", now=now) for now in (0.0, 0.0, 0.5, 1.5)]
        [0.0, 0.0, 0.5, 0.0]
    """

    def __init__(self, per_second: float, *, seconds: float = 2.0) -> None:
        self._rate, self._most = per_second, max(1.0, per_second * seconds)
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()
        self._turn = threading.Lock()

    def wait(self, who: object, *, now: float | None = None) -> float:
        """Count a request, and return 0; or return after how many seconds to try again."""
        now = _clock() if now is None else now
        with self._turn:
            level, since = self._buckets.get(who, (self._most, now))
            level = min(self._most, level + (now - since) * self._rate)
            is_allowed = level >= 1.0
            self._buckets[who] = (level - is_allowed, now)
            self._buckets.move_to_end(who)
            if len(self._buckets) > _MOST_CLIENTS:
                self._buckets.popitem(last=False)
        return 0.0 if is_allowed else (1.0 - level) / self._rate


_MOST_CLIENTS = 10_000
_clock = time.monotonic
