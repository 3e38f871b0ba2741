"""The HTTP door: the handler as a Starlette application."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from crystallize_opt.service.handler import LONGEST_WAIT, Handler, Reply, too_late

_METHODS = ["GET", "POST", "PUT", "DELETE", "MERGE"]


def application(handler: Handler) -> Starlette:
    """Return the application, which closes the handler when it ends."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(handler.close)

    async def api(request: Request) -> Response:
        try:
            data = await _data_of(request)
        except ValueError as error:
            return JSONResponse({"message": f"The request is no JSON: {error}"}, 400)
        path = request.path_params["path"].strip("/").split("/")
        reply = await _reply(handler, request.method, path, data)
        if reply.status < 300 and request.headers.get("x-response-content") == "skip":
            return Response(status_code=204)
        return JSONResponse(reply.body, reply.status)

    async def of_experiment(request: Request) -> Response:
        number = request.path_params["number"]
        return RedirectResponse(f"/experiment/{number}/analysis")

    async def analysis(request: Request) -> Response:
        found = await _reply(handler, "GET", ["experiments", request.path_params["number"]], {})
        return JSONResponse(found.body, found.status)

    return Starlette(
        routes=[
            Route("/v1/{path:path}", api, methods=_METHODS),
            Route("/experiment/{number}", of_experiment),
            Route("/experiment/{number}/analysis", analysis),
        ],
        lifespan=lifespan,
    )


async def _data_of(request: Request) -> Any:
    """Return the query of GET and DELETE, and the body of the others."""
    if request.method in ("GET", "DELETE"):
        return dict(request.query_params)
    body = await request.body()
    found: Any = json.loads(body, parse_constant=_no_constant) if body else {}
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number.")


async def _reply(handler: Handler, method: str, path: list[str], data: Any) -> Reply:
    found = await run_in_threadpool(handler.begin, method, path, data)
    if isinstance(found, Reply):
        return found
    try:
        return await asyncio.wait_for(asyncio.wrap_future(found), LONGEST_WAIT)
    except TimeoutError:
        return too_late()


def token_of(request: Request) -> str | None:
    """Return the token of a request: the user name of basic authentication."""
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(text, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return None
