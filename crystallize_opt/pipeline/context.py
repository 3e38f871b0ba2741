"""The context of a replicate, in which steps read parameters and record metrics."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import ContextMutationError, UnknownMetricError
from crystallize_opt.runtime.shown import listed
from crystallize_opt.trials.curves import Curves, Listener, checked_step, refuse_repeated_step
from crystallize_opt.trials.objective import metric_name
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.trials.values import checked_value

if TYPE_CHECKING:
    from pathlib import Path

    from crystallize_opt.pipeline.checkpoint import Checkpoint
    from crystallize_opt.trials.placed import TrialFolders

logger = logging.getLogger("crystallize_opt")

IMMUTABLE = frozenset({bool, int, float, complex, str, bytes, type(None), object})
"""The types whose values are handed to steps without a copy."""


class Metrics:
    """The metrics of one replicate: for each name, the recorded values in order.

    Example:
        >>> metrics = Metrics()
        >>> metrics.add("loss", 0.5)
        >>> metrics["loss"]
        (0.5,)
    """

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, list[Any]] = {}

    def add(self, name: str, value: Any) -> None:
        """Record one value of the metric `name`. A metric may be recorded several times.

        Raises:
            UsageError: The name is not a text.
        """
        if type(name) is not str:
            name = metric_name(name)
        self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> tuple[Any, ...]:
        try:
            return tuple(self._values[name])
        except KeyError:
            recorded = ", ".join(map(repr, self._values)) or "none"
            raise UnknownMetricError(
                f"No metric {name!r} has been recorded. Recorded: {recorded}."
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def as_dict(self) -> Mapping[str, tuple[Any, ...]]:
        """Return a read-only copy: metric name to the values recorded so far."""
        values = self._values
        return MappingProxyType(dict(zip(values, map(tuple, values.values()), strict=True)))

    def __repr__(self) -> str:
        return f"Metrics({dict(self.as_dict())!r})"


class FrozenContext:
    """The parameters of one replicate. A key can be set only once.

    Mutable values are copied (`copy.deepcopy`) when they are read. So a step that fits an estimator
    or sorts a list from the context does not change it for another step, replicate or treatment.
    An object that a treatment gives, such as a choice of the search space, is not copied: it is the
    caller's own, so `model is AUTO` holds. (Only its lists, tuples, dicts and sets are copied.)
    Copy such an object in the step before you change it, with `copy.deepcopy` or `sklearn.clone`.

    Args:
        initial: The first keys and values.

    Attributes:
        asked_for: Every key that was asked for so far, whether it was set or not.
        metrics: Where steps record metrics: `ctx.metrics.add("loss", 0.3)`.
        logger: The package's logger.
        folders: Where the checkpoints of the trial are; None: `checkpoint` is a temporary folder.
        listener: Hears the points that `report` records; None if nobody does.

    Example:
        >>> ctx = FrozenContext({"learning_rate": 0.1})
        >>> ctx["learning_rate"], ctx.get("momentum", 0.9)
        (0.1, 0.9)
        >>> ctx["learning_rate"] = 0.2
        Traceback (most recent call last):
        ...
        crystallize_opt.errors.ContextMutationError: Cannot mutate existing key: 'learning_rate'...
    """

    __slots__ = (
        *("_checkpoint", "_curves", "_data", "_treated"),
        *("asked_for", "folders", "listener", "metrics"),
    )

    def __init__(self, initial: Mapping[str, Any] | None = None) -> None:
        self._data = copy.deepcopy(dict(initial or {}))
        self._treated = slice(0)  # The keys that a treatment set, in the order of the keys.
        self.asked_for: set[str] = set()
        self.metrics = Metrics()
        self.folders: TrialFolders | None = None
        self._checkpoint: Checkpoint | None = None
        self._curves: dict[str, dict[int, float]] = {}
        self.listener: Listener | None = None

    def child(self, **extra: Any) -> FrozenContext:
        """Return a new context with the same keys, `extra` added, and no metrics yet."""
        self.asked_for.update(self._data)  # Whoever gets the new context may read every key.
        context = FrozenContext.__new__(FrozenContext)
        context._data = {**self._data, **extra}  # noqa: SLF001
        context._treated = self._treated  # noqa: SLF001
        context.asked_for = set()
        context.metrics = Metrics()
        context.folders = None
        context._checkpoint = None  # noqa: SLF001
        context._curves = {}  # noqa: SLF001
        context.listener = None
        return context

    @property
    def logger(self) -> logging.Logger:
        return logger

    def add(self, key: str, value: Any) -> None:
        """Set a new key.

        Raises:
            ContextMutationError: The key is already set.
        """
        if key in self._data:
            raise ContextMutationError(
                f"Cannot mutate existing key: {key!r}. A context key can be set only once; "
                f"already set: {', '.join(map(repr, self._data))}."
            )
        self._data[key] = value

    __setitem__ = add

    @property
    def checkpoint(self) -> Path:
        """A folder in which the next trial of the same configuration finds what this one leaves.

        If the optimizer raises a fidelity (`Integer(1, 27, fidelity=True)`), a trial with 27 epochs
        begins with the files that the trial with 9 epochs of the same parameters, and the same
        replicate, has left here. The files of a trial count only if it completes, so a trial that
        fails or is killed begins again with the same files as before. Without a fidelity, and in
        `run`, `apply` and `confirm`, the folder is empty and is removed after the replicate.

        Raises:
            CheckpointError: The trial runs on a machine that does not have the folder.

        Example:
            >>> FrozenContext().checkpoint.joinpath("weights.pt").exists()
            False
        """
        if self._checkpoint is None:
            from crystallize_opt.pipeline.checkpoint import Checkpoint  # It imports pathlib.

            self._checkpoint = Checkpoint(self.folders, self._data.get("replicate", 0))
        return self._checkpoint.path()

    def close(self) -> None:
        """Remove the folder of the checkpoint if nothing continues from it."""
        if self._checkpoint is not None:
            self._checkpoint.close()

    def report(self, metric: str, value: Any, step: int) -> bool:
        """Record an intermediate value of a metric: a point of the replicate's learning curve.

        The curves of a replicate are in `replicate.curves`, in the stored run and in
        `history.curves()`. They are no results: record the final value with `ctx.metrics.add`.

        An optimizer that ends hopeless trials early (`OptunaOptimizer(pruner=...)`,
        `AxOptimizer(early_stopping=...)`) hears of the objective's curve in the first replicate of
        a trial. Whether the trial ends is up to the step.

        Args:
            metric: The metric's name.
            value: A number. nan and infinite values are recorded, too.
            step: For example the epoch: a whole number, at least 0. Report each step once.

        Returns:
            Whether the optimizer would end the trial here. If so, `raise Pruned`.

        Raises:
            UsageError: The step is not a whole number, or was reported before; or the value is not
                a number.

        Example:
            >>> ctx = FrozenContext()
            >>> for epoch, loss in enumerate([0.9, 0.5]):
            ...     if ctx.report("loss", loss, step=epoch):
            ...         raise Pruned
            >>> ctx.curves
            {'loss': ((0, 0.9), (1, 0.5))}
        """
        if type(metric) is not str:
            metric = metric_name(metric)
        step = checked_step(metric, step)
        number = value if type(value) is float else checked_value(metric, value)
        curve = self._curves.get(metric)
        if curve is None:
            curve = self._curves.setdefault(metric, {})
        if step in curve:
            raise refuse_repeated_step(metric, step)
        curve[step] = number
        listener = self.listener
        if listener is None or not listener.hears(metric, self._data.get("replicate")):
            return False
        return listener.report(step, number)

    @property
    def curves(self) -> Curves:
        """The points recorded so far by `report`: metric to its steps and values."""
        curves = self._curves
        return {m: tuple(curve.items()) for m, curve in curves.items()} if curves else {}

    def treat(self, treatment: Treatment) -> None:
        """Apply a treatment.

        Raises:
            ContextMutationError: The treatment sets a key that is already set.
        """
        before = len(self._data)
        treatment.apply(self)
        self._treated = slice(before, len(self._data))

    def __getitem__(self, key: str) -> Any:
        self.asked_for.add(key)
        value = self._data[key]
        return value if type(value) in IMMUTABLE else self._copied(key, value)

    def _copied(self, key: str, value: Any) -> Any:
        return copier(is_choice=key in list(self._data)[self._treated])(value)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default` if it is not set."""
        self.asked_for.add(key)
        value = self._data.get(key, default)
        if type(value) in IMMUTABLE:
            return value
        return self._copied(key, value) if key in self._data else default

    def __contains__(self, key: object) -> bool:
        self.asked_for.add(key)  # type: ignore[arg-type]
        return key in self._data

    def __iter__(self) -> Iterator[str]:
        self.asked_for.update(self._data)
        return iter(self._data)

    def as_dict(self) -> Mapping[str, Any]:
        """Return a read-only copy of all keys and values."""
        return MappingProxyType({key: self[key] for key in self._data})

    def __reduce_ex__(self, protocol: Any) -> Any:
        self.asked_for.update(self._data)  # Whoever gets the copy may read every key.
        if self.folders is not None:
            _ = self.checkpoint  # The copy has the same folder, which must not be made twice.
        reduced: Any = super().__reduce_ex__(protocol)
        # A copy reports to nobody: it may be in another process, or live longer than the trial.
        reduced[2][1]["listener"] = None
        return reduced

    def __dir__(self) -> list[str]:
        return listed(self, ("asked_for", "child", "close", "folders", "listener", "treat"))

    def __repr__(self) -> str:
        return f"FrozenContext({self._data!r})"


def copier(*, is_choice: bool) -> Callable[[Any], Any]:
    """Return the function that copies a value for the step that reads it.

    Args:
        is_choice: Whether the value may be a choice of the search space: a treatment gives it, or
            it belongs to a parameter with a range.
    """
    return _with_own_containers if is_choice else copy.deepcopy


def _with_own_containers(value: Any) -> Any:
    """Copy the lists, tuples, dicts and sets of a value, but not the objects in them."""
    kind = type(value)
    if kind is list or kind is tuple:
        return kind(map(_with_own_containers, value))
    if kind is dict:
        return {key: _with_own_containers(each) for key, each in value.items()}
    return value.copy() if kind is set or kind is bytearray else value
