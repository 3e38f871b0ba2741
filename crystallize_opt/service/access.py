"""What a client may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crystallize_opt.service.refusal import Refusal


@dataclass(frozen=True)
class Access:
    """What the bearer of a token may do.

    Attributes:
        experiment: The only experiment that it may see; None for all.
        read_only: Whether it may change nothing.
    """

    experiment: int | None = None
    read_only: bool = False

    def check(self, method: str, pattern: Sequence[str], ids: Sequence[str]) -> None:
        """Check that a request is allowed.

        Raises:
            Refusal: It is not.
        """
        if self.read_only and method != "GET":
            raise Refusal(403, "This token may only read. Ask for one that may write.")
        if self.experiment is None:
            return
        if pattern[0] != "experiments" or not ids or ids[0] != str(self.experiment):
            raise Refusal(403, f"This token is for the experiment {self.experiment} only.")


EVERYTHING = Access()
