"""The transport-free core: a request in, a reply out. Both doors, HTTP and the driver, use it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from crystallize_opt.pipeline.context import logger
from crystallize_opt.service import (
    of_ai_experiments,
    of_checkpoints,
    of_experiments,
    of_observations,
    of_projects,
    of_results,
    of_runs,
    of_suggestions,
    of_tokens,
)
from crystallize_opt.service.access import EVERYTHING, OF_EXPERIMENTS, Access
from crystallize_opt.service.adopt import adopt_runs
from crystallize_opt.service.given import number_of, shown
from crystallize_opt.service.refusal import Refusal, missing
from crystallize_opt.service.routing import Request, Route
from crystallize_opt.service.service import Service

_MODULES = (
    of_experiments,
    of_suggestions,
    of_observations,
    of_results,
    of_projects,
    of_ai_experiments,
    of_runs,
    of_checkpoints,
    of_tokens,
)
_LEFT_OUT = {
    "files": "It keeps no files: keep them beside your code, and their names in the metadata.",
    "tags": "It has no tags: use metadata.",
    "best_practices": "It gives no such advice.",
    **dict.fromkeys(
        ("invites", "memberships", "permissions", "roles", "pending_permissions", "users"),
        "It has one client and no users: access is by tokens.",
    ),
    **dict.fromkeys(
        ("organizations", "plans", "billing", "sessions", "pki_sessions", "verifications"),
        "It has no accounts: it runs on a machine of your own.",
    ),
    **dict.fromkeys(("web_data", "notes"), "It keeps no views and notes of people."),
}
"""What SigOpt had and this service has not, and why."""

LONGEST_WAIT = 135.0
"""Seconds that a request over HTTP waits for a suggestion. SigOpt's client waits for 150."""


class Reply(NamedTuple):
    """What a request is answered with.

    Attributes:
        status: The HTTP status.
        body: Plain data; None for no body.
    """

    status: int
    body: Any


class Handler:
    """Answers requests. Any thread may call it.

    Args:
        service: The experiments.

    Attributes:
        not_served: Why runs of searches in the file are not served: one sentence for each.

    Example:
        >>> handler = Handler(Service(None))
        >>> handler.handle("GET", ["experiments"], {}).body["count"]
        0
        >>> handler.handle("GET", ["experiments", "7"], {})
        Reply(status=404, body={'message': 'There is no experiment 7.'})
        >>> handler.close()
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.not_served = adopt_runs(service.store, service.settings.optimizer)
        self._routes: dict[tuple[str, tuple[str, ...]], Route] = {}
        for module in _MODULES:
            self._routes |= {(each.method, each.pattern): each for each in module.ROUTES}

    @property
    def routes(self) -> list[Route]:
        """The routes: what there is to ask for."""
        return [*self._routes.values()]

    def begin(
        self, method: str, path: Sequence[str], data: Mapping[str, Any], access: Access = EVERYTHING
    ) -> Reply | Future[Reply]:
        """Answer a request at once, or with a future: a change waits for the disk.

        A request that repeats another one waits as well: the first may still be on its way there.

        Args:
            method: GET, POST, PUT, DELETE or MERGE.
            path: The parts of the path after `/v1/`.
            data: The parameters of the query, or the body.
            access: What the client may do.
        """
        try:
            route, ids = self._find(method.upper(), [str(part) for part in path])
            access.check(route.method, route.pattern, ids)
            self._check_client(route.pattern, ids, access)
            found = route.answer(self.service, Request(data, ids, access))
        except Refusal as refusal:
            return _refused(refusal)
        except sqlite3.Error as error:
            return _not_written(error)
        if isinstance(found, Future):
            return self._when_made(found, route)
        if route.method == "GET":
            return Reply(route.status, found)
        reply: Future[Reply] = Future()
        reply.set_running_or_notify_cancel()
        self._set_when_on_disk(reply, Reply(route.status, found))
        return reply

    def _when_made(self, found: Future[Any], route: Route) -> Future[Reply]:
        """Return the reply to a request that waits for an optimizer."""
        reply: Future[Reply] = Future()

        def done(made: Future[Any]) -> None:
            if not reply.set_running_or_notify_cancel():
                return
            error = made.exception()
            if error is None:
                shown = Reply(route.status, route.shown(made.result()))
                self._set_when_on_disk(reply, shown)
            elif isinstance(error, Refusal):
                reply.set_result(_refused(error))
            else:
                reply.set_exception(error)

        found.add_done_callback(done)
        reply.add_done_callback(lambda each: each.cancelled() and found.cancel())
        return reply

    def _set_when_on_disk(self, reply: Future[Reply], made: Reply) -> None:
        def done(error: OSError | None) -> None:
            reply.set_result(made if error is None else _not_written(error))

        self.service.store.when_on_disk(done)

    def handle(
        self, method: str, path: Sequence[str], data: Mapping[str, Any], access: Access = EVERYTHING
    ) -> Reply:
        """Answer a request, and wait until there is an answer: see `begin`."""
        reply = self.begin(method, path, data, access)
        if isinstance(reply, Reply):
            return reply
        return reply.result()

    def is_quick(self, method: str, path: Sequence[str]) -> bool:
        """Whether `begin` always takes well below a millisecond for a request."""
        found = self._known(method, path)
        return found is not None and found[0].is_quick

    def _known(self, method: str, path: Sequence[str]) -> tuple[Route, list[str]] | None:
        pattern = tuple("{}" if position % 2 else part for position, part in enumerate(path))
        for some in ((*pattern[:-1], *path[-1:]), pattern):  # A last word, such as `batch`, first.
            if (route := self._routes.get((method, some))) is not None:
                pairs = zip(some, path, strict=True)
                return route, [part for name, part in pairs if name == "{}"]
        return None

    def _find(self, method: str, path: Sequence[str]) -> tuple[Route, list[str]]:
        if (found := self._known(method, path)) is not None:
            return found
        for part in path:
            if part in _LEFT_OUT:
                raise Refusal(501, f"This service has no `{part}`. {_LEFT_OUT[part]}")
        methods = sorted({other for other, _ in self._routes if self._known(other, path)})
        allowed = f" It takes {' and '.join(methods)}." if methods else ""
        raise missing(f"There is no {method} {shown('/'.join(path))[1:-1]} here.{allowed}")

    def _check_client(self, pattern: Sequence[str], ids: Sequence[str], access: Access) -> None:
        """Check that what a request names belongs to the client; for it, there is nothing else."""
        if not ids:
            return
        if pattern[0] == "clients" and ids[0] != str(access.client):
            raise missing(
                f"There is no client {shown(ids[0])}; you are the client {access.client}."
            )
        if pattern[0] in OF_EXPERIMENTS:
            number = number_of(ids[0], "experiment")
            if self.service.store.parent_of("experiment", number) != access.client:
                raise missing(f"There is no experiment {number}.")

    def close(self) -> None:
        """Finish what was begun, and close the file."""
        self.service.close()


def too_late() -> Reply:
    """Return the reply to a request whose suggestion takes too long."""
    return _refused(
        Refusal(
            429,  # Which SigOpt's client takes as: ask again.
            f"The optimizer has not made a suggestion within {LONGEST_WAIT:.0f} seconds. It goes on"
            " working: ask again.",
        )
    )


def _refused(refusal: Refusal) -> Reply:
    return Reply(refusal.status, {"message": refusal.message})


def _not_written(error: Exception) -> Reply:
    logger.error("The records could not be read or written.", exc_info=error)
    message = "The file cannot be read or written now. The server's log says more."
    return _refused(Refusal(503, message))
