"""What a client may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crystallize_opt.service.refusal import Refusal

OWNER = 1
"""The client to whom a file belongs."""


@dataclass(frozen=True)
class Access:
    """What the bearer of a token may do.

    Attributes:
        experiment: The only experiment that it may see; None for all of the client's.
        read_only: Whether it may change nothing.
        client: Whose experiments it may see; there are no others for it.
        is_owner: Whether it may make tokens of other clients.
        token: The number of the token; 0 in this process.
        expires: When the token ends, in seconds since 1970; None: never.
    """

    experiment: int | None = None
    read_only: bool = False
    client: int = OWNER
    is_owner: bool = False
    token: int = 0
    expires: float | None = None

    def check(self, method: str, pattern: Sequence[str], ids: Sequence[str]) -> None:
        """Check that a request is allowed.

        Raises:
            Refusal: It is not.
        """
        if self.read_only and method != "GET":
            raise Refusal(403, "This token may only read. Ask for one that may write.")
        if self.experiment is None or (pattern[0] == "tokens" and [*ids] == ["self"]):
            return
        if pattern[0] not in OF_EXPERIMENTS or [*ids[:1]] != [str(self.experiment)]:
            raise Refusal(403, f"This token is for the experiment {self.experiment} only.")


OF_EXPERIMENTS = ("experiments", "aiexperiments")
EVERYTHING = Access(is_owner=True)
