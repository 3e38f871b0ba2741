"""Routes: which function answers which request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from crystallize_opt.service.access import Access
from crystallize_opt.service.given import Given


class Request(NamedTuple):
    """What a client asks for.

    Attributes:
        data: The parameters of the query, or the body.
        ids: The ids in the path, in order.
        access: What the client may do.
    """

    data: Mapping[str, Any]
    ids: Sequence[str]
    access: Access

    def given(self, what: str = "the request") -> Given:
        """Return the data to read them from."""
        return Given(self.data, what)


def _as_it_is(found: Any) -> Any:
    return found


@dataclass(frozen=True)
class Route:
    """One route.

    Attributes:
        method: The HTTP method.
        pattern: The parts of the path; `{}` for an id.
        answer: Returns the body, or a future of what `shown` makes the body of.
        status: The status of a good reply.
        shown: Returns the body for the result of a future.
        is_quick: Whether the answer always takes well below a millisecond: see `Door`.
    """

    method: str
    pattern: tuple[str, ...]
    answer: Callable[[Any, Request], Any]
    status: int = 200
    shown: Callable[[Any], Any] = field(default=_as_it_is)
    is_quick: bool = False


def route(method: str, path: str, answer: Callable[[Any, Request], Any], **more: Any) -> Route:
    """Return a route, whose path is a text such as `experiments/{}/suggestions`."""
    return Route(method, tuple(path.split("/")), answer, **more)
