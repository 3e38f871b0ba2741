"""The pages for people: HTML and SVG, which need no scripts."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from crystallize_opt.analysis.report import report
from crystallize_opt.service.access import Access
from crystallize_opt.service.door import Door, refused
from crystallize_opt.service.handler import Reply
from crystallize_opt.service.refusal import Refusal
from crystallize_opt.service.store import ACTIVE, Record
from crystallize_opt.service.view import (
    history_of,
    listed,
    open_trials,
    pictures_of,
    rendered,
    sections_of,
)

_SECONDS = 5
"""After how many seconds the page of an experiment is loaded again."""
_LISTED = 100
_KEPT = 32
_FORM = "application/x-www-form-urlencoded"

Answer = Callable[[Request, Access], Awaitable[Response]]


class Pages:
    """The pages of a service.

    Args:
        door: What lets requests in.
    """

    def __init__(self, door: Door) -> None:
        self._door, self._service = door, door.handler.service
        self._secret = secrets.token_bytes()
        self._turn = threading.Lock()  # One page at a time is drawn.
        self._drawn: OrderedDict[int, tuple[object, dict[str, Any]]] = OrderedDict()

    @property
    def routes(self) -> list[Route]:
        """The routes of the pages."""
        of = "/experiment/{number:int}"
        return [
            Route("/", self._guarded(self._list)),
            Route(of, self._to_analysis),
            Route(f"{of}/analysis", self._guarded(self._experiment)),
            Route(f"{of}/report", self._guarded(self._report)),
            Route(f"{of}/suggestions", self._guarded(self._ask), methods=["POST"]),
            Route(f"{of}/suggestion/{{trial:int}}", self._guarded(self._trial)),
            Route(f"{of}/suggestion/{{trial:int}}", self._guarded(self._enter), methods=["POST"]),
        ]

    # Who may see a page ---------------------------------------------------------------------------

    def _guarded(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            try:
                access = await run_in_threadpool(self._door.access, request)
                if request.method == "POST":
                    await self._check_form(request, access)
                return await answer(request, access)
            except Refusal as refusal:
                return _message(refusal)

        return guarded

    def _sign(self, access: Access, path: str) -> str:
        """Return what a form has to bring: no other site can know it."""
        return hmac.new(self._secret, f"{access.token} {path}".encode(), hashlib.sha256).hexdigest()

    async def _check_form(self, request: Request, access: Access) -> None:
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != _FORM:
            raise Refusal(400, "This is no form of a page. Programs use the API under /v1/.")
        text = (await request.body()).decode("utf-8", "replace")
        try:
            fields = parse_qs(text, keep_blank_values=True, max_num_fields=500)
        except ValueError as error:
            raise Refusal(400, "The form has too many fields.") from error
        form = {name: values[-1] for name, values in fields.items()}
        given = form.get("sign", "").encode()
        if not hmac.compare_digest(given, self._sign(access, request.url.path).encode()):
            raise Refusal(403, "This form is of an earlier start of the service. Load it again.")
        request.state.form = form

    async def _api(self, method: str, path: list[str], data: Any, access: Access) -> Any:
        """Ask the API, as a program would."""
        reply: Reply = await self._door.reply(method, path, data, access)
        if reply.status >= 400:
            raise Refusal(reply.status, reply.body["message"])
        return reply.body

    async def _seen(self, request: Request, access: Access) -> Record:
        """Return the experiment of a page, if the client may see it."""
        number = request.path_params["number"]
        await self._api("GET", ["experiments", str(number)], {}, access)
        return self._service.experiment(number)

    # Pages ----------------------------------------------------------------------------------------

    async def _list(self, request: Request, access: Access) -> Response:
        if access.experiment is not None:
            return RedirectResponse(f"/experiment/{access.experiment}/analysis", 303)
        given = {"limit": str(_LISTED), "sort": "recent", "include_ai": "true"}
        given |= {
            key: request.query_params[key] for key in ("before",) & request.query_params.keys()
        }
        found = await self._api("GET", ["experiments"], given, access)
        ids = [each["id"] for each in found["data"]]
        return HTMLResponse(
            rendered(
                "list.html.jinja",
                title="Experiments",
                listed=await run_in_threadpool(listed, self._service, ids),
                before=found["paging"]["before"],
            )
        )

    async def _to_analysis(self, request: Request) -> Response:
        return RedirectResponse(f"/experiment/{request.path_params['number']}/analysis")

    async def _experiment(self, request: Request, access: Access) -> Response:
        record = await self._seen(request, access)
        shown = await run_in_threadpool(self._draw, record)
        data, is_live = record.data, request.query_params.get("live") != "no"
        is_open = record.state == ACTIVE and (
            data["budget"] is None or data["progress"]["count"] < data["budget"]
        )
        ask = f"/experiment/{record.id}/suggestions"
        return HTMLResponse(
            rendered(
                "experiment.html.jinja",
                title=data["name"],
                experiment=record,
                seconds=_SECONDS if is_live and is_open else None,
                is_live=is_live,
                open_trials=open_trials(self._service, record),
                sign=None if access.read_only or not is_open else self._sign(access, ask),
                ask=ask,
                **shown,
            )
        )

    def _draw(self, record: Record) -> dict[str, Any]:
        """Return what is shown of the trials; it is drawn again when there are others."""
        state = (record.data["updated"], record.data["progress"], record.data["revision"])
        with self._turn:
            known, shown = self._drawn.get(record.id, (None, {}))
            if known != state:
                history = history_of(self._service, record)
                shown = {"pictures": pictures_of(history), "sections": sections_of(history)}
                self._drawn[record.id] = state, shown
            self._drawn.move_to_end(record.id)
            if len(self._drawn) > _KEPT:
                self._drawn.popitem(last=False)
        return shown

    async def _report(self, request: Request, access: Access) -> Response:
        record = await self._seen(request, access)

        def write() -> str:
            with self._turn, tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "report.html"
                report(history_of(self._service, record), path)
                return path.read_text(encoding="utf-8")

        return HTMLResponse(await run_in_threadpool(write))

    # Trials by hand -------------------------------------------------------------------------------

    async def _ask(self, request: Request, access: Access) -> Response:
        number = request.path_params["number"]
        path = ["experiments", str(number), "suggestions"]
        suggestion = await self._api("POST", path, {}, access)
        return RedirectResponse(f"/experiment/{number}/suggestion/{suggestion['id']}", 303)

    async def _trial(
        self, request: Request, access: Access, refusal: Refusal | None = None
    ) -> Response:
        record = await self._seen(request, access)
        path = ["experiments", str(record.id), "suggestions", str(request.path_params["trial"])]
        suggestion = await self._api("GET", path, {}, access)
        is_open = suggestion["state"] == "open" and not access.read_only
        form = getattr(request.state, "form", {})
        return HTMLResponse(
            rendered(
                "trial.html.jinja",
                title=f"Trial {suggestion['id']} of {record.data['name']}",
                experiment=record,
                suggestion=suggestion,
                metrics=[*enumerate(record.data["metrics"])],
                sign=self._sign(access, request.url.path) if is_open else None,
                form=form,
                error=None if refusal is None else refusal.message,
            ),
            200 if refusal is None else refusal.status,
        )

    async def _enter(self, request: Request, access: Access) -> Response:
        record = await self._seen(request, access)
        try:
            data = _observation_of(record, request.state.form)
            data["suggestion"] = str(request.path_params["trial"])
            await self._api("POST", ["experiments", str(record.id), "observations"], data, access)
        except Refusal as refusal:
            return await self._trial(request, access, refusal)
        return RedirectResponse(f"/experiment/{record.id}/analysis", 303)


def _observation_of(record: Record, form: dict[str, str]) -> dict[str, Any]:
    """Return the observation that a form describes, as the API takes it.

    Raises:
        Refusal: What should be a number is none.
    """
    note = form.get("note", "").strip()
    data: dict[str, Any] = {"metadata": {"note": note}} if note else {}
    if "failed" in form:
        return {**data, "failed": True}
    values = []
    for index, metric in enumerate(record.data["metrics"]):
        value = _number(form, f"value{index}", metric["name"] or "value")
        error = _number(form, f"error{index}", f"standard error of {metric['name'] or 'value'}")
        if value is not None:
            values.append({"name": metric["name"], "value": value, "value_stddev": error})
    return {**data, "values": values}


def _number(form: dict[str, str], field: str, name: str) -> float | None:
    text = form.get(field, "").strip()
    try:
        return float(text.replace(",", ".")) if text else None
    except ValueError:
        raise Refusal(400, f"{name} is a number, not {text[:40]!r}.") from None


def _message(refusal: Refusal) -> Response:
    """Return a page with a message; where a token is missing or wrong, the browser asks for one."""
    status = 401 if refusal.status == 403 and "token is unknown" in refusal.message else None
    shown = Refusal(status or refusal.status, refusal.message)
    text = rendered("message.html.jinja", title="Not shown", message=refusal.message)
    headers = dict(refused(shown).headers)
    wanted: list[str] = ["www-authenticate", "retry-after"]
    kept = {key: headers[key] for key in wanted if key in headers}
    return HTMLResponse(text, shown.status, kept)
