"""Replays recorded asks and tells on a fresh optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Protocol, runtime_checkable

from crystallize_opt.errors import ReplayDiverged, SpaceExhausted, StorageError, TellError
from crystallize_opt.optimizers.ledger import Ledger
from crystallize_opt.trials.calls import (
    Asked,
    Attached,
    BaselineSet,
    Enqueued,
    Event,
    Reported,
    ReportedPoint,
    SavedState,
    Told,
)
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment


@runtime_checkable
class SavesState(Protocol):
    """An optimizer whose state can be saved, so that a replay need not repeat every suggestion.

    A stored run keeps the state before some of the asks. A replay inserts the suggestions before
    such an ask, restores the state, and repeats only the later asks.
    """

    def saved_state(self) -> str | None:
        """Return, as JSON, the state on which the next suggestion depends besides earlier calls.

        Return None if that state is not known: a replay then repeats every ask.
        """

    def restore_state(self, state: str) -> None:
        """Restore a state that `saved_state` returned."""


class Replayed(Protocol):
    """The methods of `SpaceOptimizer` that a replay uses."""

    ledger: Ledger

    @property
    def versions(self) -> dict[str, str]: ...

    def ask(self, n: int = 1) -> list[Treatment]: ...

    def enqueue(self, *points: Mapping[str, Any]) -> None: ...

    def report(
        self, treatment: Treatment, step: int, value: float | Mapping[str, float]
    ) -> bool: ...

    def report_replicate(
        self, treatment: Treatment, replicate: int, metrics: Mapping[str, float]
    ) -> bool: ...

    def tell(self, objective_values: Mapping[str, float]) -> None: ...

    def attach(self, observations: Observation) -> int: ...

    def set_baseline(
        self, baseline: Mapping[str, float], point: Mapping[str, Any] | None = None
    ) -> None: ...

    def _accept(self, points: Sequence[Mapping[str, Any]]) -> list[Any]: ...


def replay(
    optimizer: Replayed,
    events: Iterable[Event],
    versions: Mapping[str, str] | None,
    state: SavedState | None,
) -> None:
    """Repeat recorded calls on an optimizer: see `SpaceOptimizer.replay`."""
    with optimizer.ledger.replaying():
        _replay(optimizer, events, versions, state)


def _replay(
    optimizer: Replayed,
    events: Iterable[Event],
    versions: Mapping[str, str] | None,
    state: SavedState | None,
) -> None:
    for event, is_known in with_state(events, state):
        if isinstance(event, SavedState):
            _restore(optimizer, event.data)
        elif not isinstance(event, Asked):
            _call_again(optimizer, event, versions)
        elif is_known:
            _repeat(optimizer, event)
        else:
            _ask_again(optimizer, event, versions)


def with_state(
    events: Iterable[Event], state: SavedState | None
) -> Iterator[tuple[Event | SavedState, bool]]:
    """Put a saved state in its place among recorded calls.

    Args:
        events: The calls.
        state: The state before one of their asks, or after all; or None.

    Yields:
        Each call or the state; and whether the state is still to come, so that the suggestions of
        an ask need not be made again.
    """
    asks = 0
    for event in events:
        if state is not None and isinstance(event, Asked):
            if asks == state.asks:
                yield state, False
                state = None
            asks += 1
        yield event, state is not None
    if state is not None and asks == state.asks:
        yield state, False


def _call_again(
    optimizer: Replayed,
    event: Enqueued | Attached | BaselineSet | Told | Reported | ReportedPoint,
    versions: Mapping[str, str] | None,
) -> None:
    """Repeat a call other than an ask."""
    if isinstance(event, Enqueued):
        optimizer.enqueue(event.params)
    elif isinstance(event, Attached):
        optimizer.attach(event.observation)
    elif isinstance(event, BaselineSet):
        optimizer.set_baseline(event.observation, event.point)
    elif isinstance(event, Told):
        treatment = _pending(optimizer, event.observation.treatment.name)
        optimizer.tell(dataclasses.replace(event.observation, treatment=treatment))
    else:
        treatment = _pending(optimizer, event.name)
        if isinstance(event, ReportedPoint):
            metric, value = event.metric, event.value
            point = value if metric is None else {metric: value}
            prune = optimizer.report(treatment, event.step, point)
        else:
            prune = optimizer.report_replicate(treatment, event.replicate, event.metrics)
        if prune != event.prune:
            recorded = f"prune={event.prune}"
            raise _diverged(optimizer, event.name, recorded, "the opposite", versions)


def _restore(optimizer: object, state: str) -> None:
    if not isinstance(optimizer, SavesState):
        return
    try:
        optimizer.restore_state(state)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StorageError(
            f"The recorded state of the optimizer is damaged: {error!r}. The run can continue from "
            "its data with resume='attach'."
        ) from error


def _pending(optimizer: Replayed, name: str) -> Treatment:
    ledger = optimizer.ledger
    if name not in ledger.pending and name not in ledger.abandoned:
        raise TellError(f"In the record, {name!r} is told before it is asked for.")
    return ledger.named(name).treatment


def _repeat(optimizer: Replayed, event: Asked) -> None:
    """Repeat an ask with the recorded points: the backend does not choose them."""
    for recorded, treatment in zip(event.treatments, repeat_ask(optimizer, event), strict=True):
        if treatment.name != recorded.name:
            raise _diverged(optimizer, recorded.name, recorded.name, treatment.name, None)


def repeat_ask(optimizer: Replayed, event: Asked) -> list[Treatment]:
    """Let an optimizer accept the suggestions of an ask, and record the ask."""
    points = [each.params for each in event.treatments]
    handles = optimizer._accept(points)  # noqa: SLF001  (a hook of the same contract)
    treatments = [
        optimizer.ledger.add(params, handle) for params, handle in zip(points, handles, strict=True)
    ]
    optimizer.ledger.asked(treatments, event.wanted, event.expires)
    return treatments


def _ask_again(optimizer: Replayed, event: Asked, versions: Mapping[str, str] | None) -> None:
    """Repeat an ask, and check that its suggestions equal the recorded ones."""
    try:
        asked = optimizer.ask(event.wanted or len(event.treatments))
    except SpaceExhausted:
        asked = []
    if asked and event.expires is not None:
        optimizer.ledger.calls.pop()  # The same call, with the recorded deadline.
        optimizer.ledger.asked(asked, event.wanted, event.expires)
    for old, new in zip_longest(event.treatments, asked):
        if (
            old is None
            or new is None
            or old.name != new.name
            or not optimizer.ledger.same(old, new)
        ):
            before, now = (str(each and dict(each.params)) for each in (old, new))
            raise _diverged(optimizer, (old or new).name, before, now, versions)


def _diverged(
    optimizer: Replayed,
    name: str,
    recorded: str,
    now: str,
    versions: Mapping[str, str] | None,
) -> ReplayDiverged:
    return ReplayDiverged(
        f"The replay diverges at {name!r}: recorded {recorded}, now {now}. Versions recorded: "
        f"{dict(versions) if versions else 'unknown'}; now: {optimizer.versions}. With the same "
        "space, objective, seed, settings and versions it would not."
    )
