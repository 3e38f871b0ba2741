"""What a Python program sends, as the JSON that a server would get."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def as_plain(value: Any) -> Any:
    """Return a value as JSON has it: numpy's numbers and arrays, and the client's objects, too.

    Example:
        >>> as_plain({"x": (1, 2.0)})
        {'x': [1, 2.0]}
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [as_plain(item) for item in value]
    for method in ("to_json", "tolist"):  # of the client's objects, of numpy
        if hasattr(value, method):
            return as_plain(getattr(value, method)())
    return json.loads(json.dumps(value))  # This raises the error that says what it is.
