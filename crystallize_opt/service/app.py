"""The HTTP door: the handler as a Starlette application."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from crystallize_opt.runtime.extras import needs
from crystallize_opt.service.door import PREFIX, Door
from crystallize_opt.service.guard import HEADERS, LARGEST_BODY, Guard
from crystallize_opt.service.handler import Handler
from crystallize_opt.service.openapi import description_of
from crystallize_opt.service.processors import share_one
from crystallize_opt.service.web import Pages


def application(handler: Handler, *, hosts: Iterable[str] = (), rate: float = 1000.0) -> Starlette:
    """Return the application, which closes the handler when it ends.

    Args:
        handler: The handler.
        hosts: The names under which the service may be reached, besides those of this machine.
        rate: How many requests a second each token may send.
    """
    with needs("The pages need", "jinja2", extra="service"):
        import jinja2  # noqa: F401
    door = Door(handler, rate)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        share_one()
        yield
        await run_in_threadpool(handler.close)
        door.close()

    described = description_of(handler.routes)

    async def openapi(_: Request) -> Response:
        return JSONResponse(described)

    return Starlette(
        routes=[
            Route("/openapi.json", openapi),
            *Pages(door).routes,
        ],
        middleware=[
            Middleware(Guard, hosts=hosts),
            Middleware(RequestBodyLimitMiddleware, max_body_size=LARGEST_BODY),
            Middleware(_Api, door=door),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _own_fault},
        lifespan=lifespan,
    )


class _Api:
    """Lets the API through to its own routes, before those of the pages are tried.

    Starlette's routes take as long as all that the service does for a suggestion.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            await self._door.api(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  (it is registered for these)
    headers = dict(error.headers or {})
    return JSONResponse({"message": error.detail}, error.status_code, headers)


async def _own_fault(_: Request, __: Exception) -> Response:
    """Say no more than that something went wrong: the log of the server has the traceback."""
    message = "The service failed at this request. Its log says more."
    return JSONResponse({"message": message}, 500, HEADERS)
