"""Treatments: an optimizer suggests a treatment, and an experiment tries it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol


class Context(Protocol):
    """The context a treatment writes to: `FrozenContext`, or one of another framework."""

    def add(self, key: str, value: Any, /) -> None:
        """Set a new key."""


class Params(dict[str, Any]):
    """The parameters of a treatment: a `dict` that cannot be changed.

    `json`, `pickle`, `copy` and `**` take it as they take a `dict`; `dict(params)` and
    `params.copy()` give one that can be changed.
    """

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("The parameters of a treatment cannot be changed; copy them: dict(params).")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = _refuse
    __ior__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, a `dict` is unpickled item by item, with `__setitem__`.
        return Params, (dict(self),)


_NO_PARAMS = Params()


class Treatment:
    """A named change to the context.

    Args:
        name: The treatment's name in results, unique within a run.
        apply: A mapping of parameter names to values, or a function `apply(ctx)` that adds keys to
            the context.

    Example:
        >>> treatment = Treatment("fast", {"learning_rate": 0.5})
        >>> treatment["learning_rate"], treatment.params
        (0.5, {'learning_rate': 0.5})
    """

    __slots__ = ("_apply_value", "name")

    def __init__(
        self, name: str, apply: Mapping[str, Any] | Callable[[Any], Any] | None = None
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"A treatment's name is a string, not {name!r}.")
        if apply is None:
            apply = _NO_PARAMS
        elif type(apply) is dict or isinstance(apply, Mapping):  # `type` first, because it is fast
            apply = apply if type(apply) is Params else Params(apply)
        elif not callable(apply):
            raise TypeError(
                f"Treatment {name!r}: apply= takes a mapping of parameters or a function of the "
                f"context, not {apply!r}."
            )
        self.name = name
        self._apply_value = apply

    @property
    def params(self) -> Params:
        """The parameters, read-only. Empty for a treatment made from a function."""
        value = self._apply_value
        return value if type(value) is Params else _NO_PARAMS

    @property
    def function(self) -> Callable[[Any], Any] | None:
        """The function of the context; None for a treatment made from parameters."""
        value = self._apply_value
        return None if type(value) is Params else value  # type: ignore[return-value]

    def named(self, name: str) -> Treatment:
        """Return the same change to the context under another name."""
        return Treatment(name, self._apply_value)

    def __getitem__(self, name: str) -> Any:
        """Return the value of a parameter.

        Raises:
            KeyError: The treatment does not set the parameter.
        """
        try:
            return self.params[name]
        except KeyError:
            names = ", ".join(map(repr, self.params)) or "none"
            raise KeyError(
                f"{self.name!r} sets no parameter {name!r}; its parameters: {names}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self.params

    __iter__ = None  # Otherwise Python would iterate with the numbers 0, 1, ... as names.

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


class SingleReplicate(Treatment):
    """One replicate of a treatment, as a trial of its own.

    Args:
        treatment: The treatment.
        replicate: The number of the replicate, which the steps see.
        seed: The replicate's seed; None for the one from the `SeedPlugin`.
        name: The name of the trial; None for the treatment's name and the number.

    Attributes:
        condition: The treatment's name, which the steps see.
    """

    __slots__ = ("condition", "replicate", "seed")

    def __init__(
        self,
        treatment: Treatment,
        replicate: int,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        if name is None:
            name = f"{treatment.name}, replicate {replicate}"
        super().__init__(name, treatment.function or treatment.params)
        self.condition, self.replicate, self.seed = treatment.name, replicate, seed


class RacedReplicate(SingleReplicate):
    """A replicate in a race: the optimizer decides which treatment runs a further replicate.

    It has the seed that this replicate has in every trial.
    """

    __slots__ = ()
