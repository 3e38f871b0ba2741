"""Runs Nevergrad without its side effects; all calls of Nevergrad during a search are made here."""

from __future__ import annotations

import builtins
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crystallize_opt.adapters.nevergrad.library import metamodel, np
from crystallize_opt.runtime.own_random_state import OwnRandomState


@contextmanager
def quietly(own: OwnRandomState) -> Iterator[None]:
    """Give Nevergrad its own global generators, and suppress its warnings.

    Most of it draws from `parametrization.random_state`, but its discrete mutations, for example,
    draw from numpy's global generator. The lock of `own` also guards the warnings filters.
    """
    with own, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metamodel.float = _float
        try:
            yield
        finally:
            del metamodel.float


def _float(value: Any) -> float:
    """Return a number as a float, also one in an array of length 1.

    Nevergrad's models call `float` with such arrays, which numpy 2.4 refuses. Without this, most
    searches of numbers by `NGOpt` end with a TypeError when their first model is fitted:
    nevergrad.optimization.metamodel, version 1.0.12.
    """
    return builtins.float(value.item() if isinstance(value, np.ndarray) else value)
