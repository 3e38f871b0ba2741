"""The experiments that are being worked on."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from crystallize_opt.service.live import Live, Settings
from crystallize_opt.service.refusal import Refusal
from crystallize_opt.service.store import Record, Store

_MOST = 64
"""How many experiments are open at most, unless more of them have work: each holds open files."""


class Lives:
    """The open experiments; the ones that were used least recently are closed.

    Args:
        store: The records.
        settings: What the service decides for all experiments.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._turn = threading.Lock()
        self._open: OrderedDict[int, Live] = OrderedDict()
        self._is_closed = False

    def suggest(
        self,
        number: int,
        data: Mapping[str, Any],
        then: Callable[[Record], Record] | None = None,
    ) -> Future[Record]:
        """Ask for a suggestion of an experiment: see `Live.suggest`."""
        with self._turn:
            return self._of(number).suggest(data, then)

    def observed(self, number: int, observation: int) -> None:
        """Let an experiment take a new observation into account, whose record is on disk."""
        with self._turn:
            self._of(number).observed(observation)

    def given_up(self, number: int, suggestion: int) -> None:
        """Let an experiment take into account that a suggestion was deleted."""
        with self._turn:
            self._of(number).given_up(suggestion)

    def changed(self, number: int, *, is_revised: bool) -> None:
        """Let an experiment take into account that its record has changed.

        Args:
            number: The number of the experiment.
            is_revised: Whether its run begins anew, also if the experiment is not open.
        """
        with self._turn:
            if is_revised or number in self._open:
                self._of(number).changed()

    def _of(self, number: int) -> Live:
        """Return an open experiment. Whoever calls it keeps the turn until it has called it."""
        if self._is_closed:
            raise Refusal(503, "The service is ending. Ask again when it has been started again.")
        live = self._open.get(number)
        if live is None:
            live = self._open[number] = Live(self._store, number, self._settings)
        self._open.move_to_end(number)
        most = _MOST if self._store.path is not None else len(self._open)  # Memory is no file.
        for other in [*self._open.values()][: max(0, len(self._open) - most)]:
            if other is not live and other.is_idle:
                del self._open[other.number]
                other.close()
        return live

    def close(self) -> None:
        """Close every experiment, after the requests that wait have been answered."""
        with self._turn:
            self._is_closed = True
            lives = [*self._open.values()]
            self._open.clear()
        for live in lives:
            live.close()
