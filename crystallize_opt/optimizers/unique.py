"""Turns a backend's suggestions into points that may be tried.

Only this module decides what happens if a backend suggests a point that violates a linear
constraint or was suggested before, if it has no suggestion, when a finite space ends, and how many
points with a known outcome a search takes in a row. In a region so narrow that suggestions would
hardly ever hit it, most backends search positions instead.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Literal, Protocol

from crystallize_opt.errors import SpaceExhausted
from crystallize_opt.optimizers.ledger import Ledger
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.space.unseen import UnseenPoints
from crystallize_opt.trials.calls import Asked, Attached

if TYPE_CHECKING:
    from crystallize_opt.optimizers.last_step import LastStep
    from crystallize_opt.space.positions import Positions

Repeats = Literal["allowed", "not pending", "never"]
"""Whether a point may be suggested again: always, once it is no longer pending, or never."""


class Dropped(enum.StrEnum):
    """Why a suggestion was discarded."""

    INFEASIBLE = "violates a linear constraint"
    REPEATED = "was suggested before"


class KnownInARow:
    """Counts the suggestions in a row of which a search knew the outcome.

    The count follows from the asks and tells alone, so that a replay counts the same.

    Attributes:
        count: How many there were before the last ask.
        asked: How many suggestions the last ask made; infinite if not all were the backend's.
        known: Of how many of them the outcome was known.
    """

    def __init__(self) -> None:
        self.count = 0
        self.asked: float = 0
        self.known = 0

    def begin(self) -> None:
        """Begin an ask; afterwards add the number of its suggestions to `asked`."""
        self.count = self.count + self.known if self.known == self.asked else 0
        self.asked = self.known = 0


class Backend(Protocol):
    """The hooks of `SpaceOptimizer` that make suggestions."""

    def _suggest(self) -> tuple[Any, dict[str, Any]] | None: ...

    def _suggest_batch(self, n: int) -> Sequence[tuple[Any, dict[str, Any]]]: ...

    def _complete(self, params: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]: ...

    def _insert(self, params: Mapping[str, Any]) -> Any: ...

    def _reopen(self, handle: Any, params: Mapping[str, Any]) -> Any: ...

    def _drop(self, handle: Any, why: Dropped) -> None: ...


class Proposals:
    """Asks a backend until it suggests a point that may be tried.

    Args:
        space: The search space.
        ledger: Knows the pending trials and the enqueued points.
        rng: Draws random points when the backend finds none.
        repeats: Whether a point may be suggested again.
        asks_in_a_row: How many suggestions are discarded, or have a known outcome, before a random
            point takes their place; None: any number, until the backend raises `SpaceExhausted`.
        gives_up: If given, the search ends with this message instead of trying a random point.
        positions: The positions that the backend searches instead of a narrow region, or None.
        last_step: The fidelity of the space, if the backend neither sees nor chooses it; or None.

    Attributes:
        repeats: Whether a point may be suggested again.
        known: Counts the suggestions in a row that had a known outcome.
        has_drawn: Whether a random point has taken the place of the backend's suggestions.
    """

    def __init__(
        self,
        space: SearchSpace,
        ledger: Ledger,
        rng: Random,
        repeats: Repeats,
        *,
        asks_in_a_row: int | None,
        gives_up: str | None,
        positions: Positions | None,
        last_step: LastStep | None,
    ) -> None:
        self.repeats = repeats
        self.known = KnownInARow()
        self.has_drawn = False
        self._space = space
        self._ledger = ledger
        self._rng = rng
        self._asks_in_a_row = asks_in_a_row
        self._gives_up = gives_up
        self._positions = positions
        self._last_step = last_step
        self._is_plain = positions is None and last_step is None
        # Where nothing else chooses the fidelity of a point, it is the highest.
        name = space.fidelity
        highest = None if name is None else getattr(space[name], "high", None)
        self._highest = {} if name is None else {name: highest}
        self._batch: deque[tuple[Any, dict[str, Any]]] = deque()
        self._unseen: UnseenPoints | None = None
        if repeats != "allowed":
            unseen = UnseenPoints(space, rng)
            if repeats == "never" or unseen.is_finite:
                self._unseen = unseen

    @property
    def has_positions(self) -> bool:
        """Whether the backend searches positions, several of which may stand for one point."""
        return self._positions is not None

    def end(self, backend: Backend) -> None:
        """End an ask: discard the suggestions of a joint batch for which there is no place.

        This happens where a finite space ends within the batch.
        """
        while self._batch:
            handle, _ = self._batch.popleft()
            backend._drop(handle, Dropped.REPEATED)  # noqa: SLF001

    def add(self, params: Mapping[str, Any]) -> None:
        """Count a point as suggested."""
        if self._unseen is not None:
            self._unseen.add(params)

    def repeat(self, backend: Backend, params: Mapping[str, Any]) -> Any:
        """Insert a point that was suggested when the search was recorded; return its handle."""
        if self._ledger.enqueued:
            self._ledger.enqueued.popleft()
            self.known.asked = math.inf  # The point was not the backend's, so it ends the row.
        self.add(params)
        return self.insert(backend, params)

    def insert(self, backend: Backend, params: Mapping[str, Any]) -> Any:
        """Give a backend a point that it did not suggest; return its handle."""
        return backend._insert(self.encoded(params))  # noqa: SLF001

    def encoded(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a point in the form that the backend searches."""
        if self._last_step is not None:
            params = self._last_step.without(params)
        return params if self._positions is None else self._positions.encode(params)

    def reopen(self, backend: Backend, handle: Any, params: Mapping[str, Any]) -> Any:
        """Tell a backend that an abandoned trial has an outcome after all; return its handle."""
        return backend._reopen(handle, self.encoded(params))  # noqa: SLF001

    def _suggestion(self, backend: Backend, wanted: int) -> tuple[Any, dict[str, Any]] | None:
        if wanted > 1 and not self._batch:
            # At the end of a finite space, a library may search for ever for points that differ.
            number = wanted if self._unseen is None else int(min(wanted, self._unseen.left))
            self._batch.extend(backend._suggest_batch(number))  # noqa: SLF001
        # The hooks are those of the same contract.
        suggestion = self._batch.popleft() if self._batch else backend._suggest()  # noqa: SLF001
        if self._is_plain or suggestion is None:
            return suggestion
        handle, point = suggestion
        if self._positions is not None:
            point = self._positions.decode(point)
        return handle, point if self._last_step is None else self._last_step.added_to(point)

    def _complete(self, backend: Backend, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Let a backend choose the other parameters; in a narrow region they are drawn."""
        if self._is_plain:
            return backend._complete(given)  # noqa: SLF001
        if (last := self._last_step) is not None and self._positions is None:
            handle, point = backend._complete(last.without(given))  # noqa: SLF001
            return handle, last.added_to(point, last.of(given))
        point = self._space.validate(self._space.fixed(given).sample(self._rng))
        return self.insert(backend, point), point

    def next(self, backend: Backend, wanted: int = 1) -> tuple[Any, dict[str, Any]]:
        """Return the handle and the parameters of the next point.

        Args:
            backend: The hooks of the optimizer.
            wanted: How many points the ask still needs, this one included.

        Raises:
            SpaceExhausted: Every point of a finite space has been suggested.
        """
        if self._ledger.enqueued:
            return self._next_enqueued(backend)
        if self.known.count and self.known.count >= (self._asks_in_a_row or math.inf):
            self.known.count = 0
            return self._next_unseen(backend)
        unseen = self._unseen
        if (
            unseen is None
            and not self._space.constraints
            and not (self.repeats == "not pending" and self._ledger.pending)
        ):
            plain = wanted == 1 and self._is_plain and not self._batch
            suggestion = backend._suggest() if plain else self._suggestion(backend, wanted)  # noqa: SLF001
            if suggestion is not None:  # The usual case, kept short: nothing has to be checked.
                return suggestion
            return self._fall_back(backend)
        if unseen is not None and unseen.is_finite and self._asks_in_a_row is not None:
            unseen.require_any()
        for _ in count() if self._asks_in_a_row is None else range(self._asks_in_a_row):
            suggestion = self._suggestion(backend, wanted)
            if suggestion is None:
                break
            handle, params = suggestion
            why = self._why_not(params)
            if why is None:
                return handle, params
            backend._drop(handle, why)  # noqa: SLF001
        return self._fall_back(backend)

    def _why_not(self, params: Mapping[str, Any]) -> Dropped | None:
        """Return why a point may not be tried; else count it as suggested, and return None."""
        if self._space.constraints and not self._space.satisfies_constraints(params):
            return Dropped.INFEASIBLE
        if self.repeats == "not pending" and self._ledger.pending:
            key = self._space.key
            point = key(params)
            if any(point == key(each.treatment.params) for each in self._ledger.pending.values()):
                return Dropped.REPEATED
        if self._unseen is not None and not self._unseen.add(params) and self.repeats == "never":
            return Dropped.REPEATED
        return None

    def _next_unseen(self, backend: Backend) -> tuple[Any, dict[str, Any]]:
        """Return a random point that has not been suggested."""
        if self._unseen is None and self._space.size < math.inf:
            self._unseen = UnseenPoints(self._space, self._rng)
            for event in self._ledger.calls:
                if isinstance(event, Asked):
                    for treatment in event.treatments:
                        self._unseen.add(treatment.params)
                elif isinstance(event, Attached):
                    self._unseen.add(event.observation.treatment.params)
        return self._fall_back(backend)

    def _fall_back(self, backend: Backend) -> tuple[Any, dict[str, Any]]:
        """Return a random point that may be tried."""
        if self._gives_up is not None:
            raise SpaceExhausted(self._gives_up)
        self.has_drawn = True
        unseen = self._unseen
        point = self._space.sample(self._rng) if unseen is None else unseen.draw()
        if self._highest:
            point = self._space.validate(point | self._highest)
        return self._complete(backend, point)

    def _next_enqueued(self, backend: Backend) -> tuple[Any, dict[str, Any]]:
        given = self._highest | self._ledger.enqueued[0]
        self.known.asked = math.inf  # The point is not the backend's, so it ends the row.
        handle, params = self._complete(backend, given)
        if not self._space.satisfies_constraints(params):
            backend._drop(handle, Dropped.INFEASIBLE)  # noqa: SLF001
            point = self._space.fixed(given).sample(self._rng)
            handle, params = self._complete(backend, point)
        self._ledger.enqueued.popleft()
        self.add(params)
        return handle, params
