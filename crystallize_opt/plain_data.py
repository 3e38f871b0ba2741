"""TEMPORARY until the encoder is merged."""

from typing import Any


def describe(value: Any) -> Any:
    """Describe."""
    from crystallize_opt.storage.description import setting

    return setting(value)
