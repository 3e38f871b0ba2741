"""The one error of the service: a request that is refused, with a status and a message."""

from __future__ import annotations

from crystallize_opt.errors import CrystallizeOptError


class Refusal(CrystallizeOptError):  # noqa: N818  (what happens to the request, as in HTTP)
    """A request is refused.

    Args:
        status: The HTTP status: 400, 401, 403, 404, ...
        message: What was given, what is allowed, what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def bad(message: str) -> Refusal:
    """Return the refusal of a request that is wrong itself."""
    return Refusal(400, message)


def missing(message: str) -> Refusal:
    """Return the refusal of a request for something that is not there."""
    return Refusal(404, message)
