"""Single values that leave a worker process: unchanged if plain, otherwise pickled."""

from __future__ import annotations

import pickle
from typing import Any

_PLAIN = (float, int, str, bool, type(None))


class Placeholder(str):
    """Stands for a value that cannot be sent; its `repr` is itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def portable(value: Any) -> Any:
    """Return a value, unchanged if plain, otherwise (an array, for example) pickled."""
    if type(value) in _PLAIN:
        return value
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001  (whatever a foreign __reduce__ raises)
        return pickle.dumps(Placeholder(f"<a {type(value).__name__}, which cannot be pickled>"))


def unpacked(value: Any) -> Any:
    """Return the value for which `portable` stands."""
    if type(value) is not bytes:
        return value
    try:
        return pickle.loads(value)  # noqa: S301  (our own worker's bytes)
    except Exception:  # noqa: BLE001
        return Placeholder("<a value that cannot be unpickled>")
