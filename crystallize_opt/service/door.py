"""What lets requests in: tokens, rates, bodies; and answers those of the API."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from crystallize_opt.service.access import Access
from crystallize_opt.service.guard import DEEPEST, RateLimit
from crystallize_opt.service.handler import LONGEST_WAIT, Handler, Reply, too_late
from crystallize_opt.service.processors import share_one, use_all
from crystallize_opt.service.refusal import Refusal
from crystallize_opt.service.tokens import access_of

T = TypeVar("T")
PREFIX = "/v1/"
"""How the paths of the API begin."""
_THREADS = 8
"""How many requests are begun at once that may take long."""
_MISTAKES = 1.0  # Requests with wrong tokens that one address may send in a second.


class Door:
    """What lets requests in.

    Requests are begun in threads, so that none waits for another one's optimizer, or file. Those
    that are answered at once have one thread, in the order in which they came: several would spend
    half of their time on handing over to each other (Python runs one at a time).

    Args:
        handler: The handler.
        rate: How many requests a second each token may send.
    """

    def __init__(self, handler: Handler, rate: float) -> None:
        self.handler = handler
        self._quick = ThreadPoolExecutor(1, "quick request", share_one)
        self._others = ThreadPoolExecutor(_THREADS, "request", use_all)
        self._requests, self._mistakes = RateLimit(rate), RateLimit(_MISTAKES, seconds=60)

    def access(self, request: Request) -> Access:
        """Return what a request may do.

        Raises:
            Refusal: It has no valid token, or there are too many requests.
        """
        try:
            access = access_of(self.handler.service.store, token_of(request))
        except Refusal:
            who = None if request.client is None else request.client.host
            _refuse_many(self._mistakes.wait(who))
            raise
        _refuse_many(self._requests.wait(access.token))
        return access

    async def reply(self, method: str, path: list[str], data: Any, access: Access) -> Reply:
        """Answer a request; other requests are answered meanwhile."""
        threads = self._threads_for(method, path)
        return await self._answered(threads, lambda: self.handler.begin(method, path, data, access))

    async def api(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of the API: an ASGI application."""
        request = Request(scope, receive)
        try:
            response = await self._response(request)
        except HTTPException as error:  # The body is too long.
            response = JSONResponse({"message": error.detail}, error.status_code)
        await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        has_body = request.method not in ("GET", "DELETE")
        body = await request.body() if has_body else b""
        path = request.scope["path"].removeprefix(PREFIX).strip("/").split("/")
        is_short = request.headers.get("x-response-content") == "skip"

        def shown(reply: Reply) -> Response:
            if reply.status < 300 and is_short:
                return Response(status_code=204)
            return JSONResponse(reply.body, reply.status)

        def begin() -> Response | Future[Reply]:
            access = self.access(request)
            data = _data_of(body) if has_body else dict(request.query_params)
            found = self.handler.begin(request.method, path, data, access)
            # A list may be long: its JSON is written in the thread, and not in the event loop.
            return shown(found) if isinstance(found, Reply) else found

        try:
            found = await self._answered(self._threads_for(request.method, path), begin)
        except Refusal as refusal:
            return refused(refusal)
        return shown(found) if isinstance(found, Reply) else found

    def _threads_for(self, method: str, path: Sequence[str]) -> ThreadPoolExecutor:
        return self._quick if self.handler.is_quick(method, path) else self._others

    async def _answered(
        self, threads: ThreadPoolExecutor, begin: Callable[[], T | Future[Reply]]
    ) -> T | Reply:
        """Begin a request in a thread, and wait for the reply, which may come from another one."""
        answer: _Answer[T] = _Answer()
        threads.submit(answer.begin, begin)
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                return await answer.awaited
        except TimeoutError:
            answer.give_up()
            return too_late()
        except asyncio.CancelledError:
            answer.give_up()
            raise

    def close(self) -> None:
        """End the threads; the requests that were begun are answered."""
        self._quick.shutdown()
        self._others.shutdown()


class _Answer(Generic[T]):
    """Hands the reply of a thread over to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.awaited: asyncio.Future[T | Reply] = self._loop.create_future()
        self._begun: Future[Reply] | None = None

    def begin(self, begin: Callable[[], T | Future[Reply]]) -> None:
        """Begin the request, in a thread."""
        if self.awaited.done():  # Nobody waits for it any more.
            return
        try:
            found = begin()
        except BaseException as error:  # noqa: BLE001  (it is raised where the reply is awaited)
            self._in_loop(self.awaited.set_exception, error)
        else:
            if isinstance(found, Future):
                self._begun = found
                found.add_done_callback(self._pass_on)
                if self.awaited.done():  # It was given up meanwhile.
                    found.cancel()
            else:
                self._in_loop(self.awaited.set_result, found)

    def give_up(self) -> None:
        """Cancel the request: nobody waits for it any more."""
        if self._begun is not None:
            self._begun.cancel()

    def _pass_on(self, made: Future[Reply]) -> None:
        if made.cancelled():
            return
        if (error := made.exception()) is not None:
            self._in_loop(self.awaited.set_exception, error)
        else:
            self._in_loop(self.awaited.set_result, made.result())

    def _in_loop(self, do: Callable[[Any], None], found: Any) -> None:
        def unless_given_up() -> None:
            if not self.awaited.done():
                do(found)

        with contextlib.suppress(RuntimeError):  # The server has ended.
            self._loop.call_soon_threadsafe(unless_given_up)


class TooMany(Refusal):
    """There are too many requests.

    Args:
        seconds: After how many seconds to try again.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(429, f"Too many requests. Try again in {seconds:.1f} seconds.")
        self.seconds = seconds


def _refuse_many(seconds: float) -> None:
    if seconds:
        raise TooMany(seconds)


def refused(refusal: Refusal) -> Response:
    """Return the response to a request that is refused."""
    headers = {}
    if isinstance(refusal, TooMany):
        headers["retry-after"] = str(math.ceil(refusal.seconds))
    if refusal.status == 401:
        headers["www-authenticate"] = 'Basic realm="The token is the user name", charset="UTF-8"'
    return JSONResponse({"message": refusal.message}, refusal.status, headers)


def _data_of(body: bytes) -> Any:
    """Return what the JSON of a body says."""
    try:
        found: Any = json.loads(body, parse_constant=_no_constant) if body else {}
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise Refusal(400, f"The body of the request is no JSON: {why}") from error
    _check_texts_and_depth(found)
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON.")


def _check_texts_and_depth(data: Any) -> None:
    """Check that a value is not nested too deep, and that UTF-8 can write its texts."""
    level = [data]
    for _ in range(DEEPEST):
        texts = [each for each in level if isinstance(each, str)]
        texts += [key for each in level if isinstance(each, dict) for key in each]
        try:
            "".join(texts).encode()
        except UnicodeEncodeError as error:
            raise Refusal(400, "A text of the request has half a character (U+D800).") from error
        level = [
            item
            for each in level
            if isinstance(each, (dict, list))
            for item in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise Refusal(400, f"The JSON of the request is nested deeper than {DEEPEST} levels.")


def token_of(request: Request) -> str | None:
    """Return the token of a request: the user name of basic authentication, or a bearer token."""
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return text.strip()
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(text, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return None
