"""The experiments that are being worked on."""

from __future__ import annotations

import threading
from collections import OrderedDict

from crystallize_opt.service.live import Live, Settings
from crystallize_opt.service.store import Store

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

    def of(self, number: int) -> Live:
        """Return an open experiment."""
        with self._turn:
            live = self._open.get(number)
            if live is None:
                live = self._open[number] = Live(self._store, number, self._settings)
            self._open.move_to_end(number)
            oldest = [*self._open.values()][: max(0, len(self._open) - _MOST)]
            closing = [each for each in oldest if each is not live and each.is_idle]
            for other in closing:
                del self._open[other.number]
        for other in closing:
            other.close()
        return live

    def changed(self, number: int) -> None:
        """Begin an experiment's run anew, if it is open; otherwise it is when it is opened."""
        with self._turn:
            live = self._open.get(number)
        if live is not None:
            live.changed()

    def close(self) -> None:
        """Close every experiment."""
        with self._turn:
            lives = [*self._open.values()]
            self._open.clear()
        for live in lives:
            live.close()
