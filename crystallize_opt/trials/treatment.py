"""Treatments: an optimizer suggests a treatment, and an experiment tries it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol


class Context(Protocol):
    """The context a treatment writes to: `FrozenContext`, or one of another framework."""

    def add(self, key: str, value: Any, /) -> None:
        """Set a new key."""


class Treatment:
    """A named change to the context.

    Args:
        name: The treatment's name in results, unique within a run.
        apply: A mapping of parameter names to values, or a function `apply(ctx)` that adds keys to
            the context.

    Example:
        >>> treatment = Treatment("fast", {"learning_rate": 0.5})
        >>> treatment.params["learning_rate"]
        0.5
    """

    __slots__ = ("_apply_value", "name")

    def __init__(
        self, name: str, apply: Mapping[str, Any] | Callable[[Any], Any] | None = None
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"A treatment's name is a string, not {name!r}.")
        if apply is None:
            apply = {}
        elif type(apply) is dict or isinstance(apply, Mapping):  # `type` first, because it is fast
            apply = dict(apply)
        elif not callable(apply):
            raise TypeError(
                f"Treatment {name!r}: apply= takes a mapping of parameters or a function of the "
                f"context, not {apply!r}."
            )
        self.name = name
        self._apply_value = apply

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters, read-only. Empty for a treatment made from a function."""
        value = self._apply_value
        return MappingProxyType(value if isinstance(value, dict) else {})

    def apply(self, ctx: Context) -> None:
        """Write the treatment into a context.

        Raises:
            ContextMutationError: A key is already set.
        """
        value = self._apply_value
        if isinstance(value, dict):
            for key, parameter in value.items():
                ctx.add(key, parameter)
        else:
            value(ctx)

    def __repr__(self) -> str:
        return f"Treatment({self.name!r}, {self._apply_value!r})"
