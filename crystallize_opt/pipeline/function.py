"""A plain function as the only step of an experiment."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from crystallize_opt.pipeline.context import FrozenContext
from crystallize_opt.pipeline.steps import (
    MAKES_STEPS,
    FunctionStep,
    NamedParameters,
    PipelineStep,
    data_source,
)
from crystallize_opt.trials.objective import metric_name
from crystallize_opt.trials.values import as_number, value_and_type

_CONTEXT = "ctx"
"""The name of the parameter that gets the context."""


@data_source
def no_data() -> None:
    """Provide nothing: the function gets all that it needs by its parameters."""
    return


class PlainFunction(FunctionStep):
    """The step that calls a function with named parameters, and records what it returns.

    Args:
        function: Takes parameters by name, among them the context if it has a parameter `ctx`.
            Returns a number, or a mapping of metrics. May be a coroutine function.
        metric: The metric that a returned number is; by default, the function's name.
        prefix: See `PipelineStep.prefixed`.
    """

    def __init__(
        self, function: Callable[..., Any], metric: str | None = None, prefix: str = ""
    ) -> None:
        _check_function(function)
        parameters = NamedParameters.of(function, first=())
        self._wants_context = _CONTEXT in parameters.names
        names = tuple(name for name in parameters.names if name != _CONTEXT)
        parameters = dataclasses.replace(parameters, names=names, can_be_given=False)
        super().__init__(parameters, {}, type(self), prefix)
        self._metric = self.name if metric is None else metric_name(metric)

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        filled = self._filled(ctx)
        if self._wants_context:
            filled[_CONTEXT] = ctx
        returned = self._parameters.function(**filled)
        if inspect.isawaitable(returned):
            return self._measured_later(returned)
        return returned, self._measured(returned)

    async def _measured_later(self, returned: Awaitable[Any]) -> tuple[Any, Mapping[str, Any]]:
        value = await returned
        return value, self._measured(value)

    def _measured(self, returned: Any) -> Mapping[str, Any]:
        if isinstance(returned, Mapping):
            return returned
        if as_number(returned) is None:
            raise TypeError(
                f"{self.name}() returned {value_and_type(returned)}. An experiment's function "
                f"returns a number, which is the metric {self._metric!r}, or a mapping such as "
                f"{{'loss': 0.5, 'seconds': 2.0}}."
            )
        return {self._metric: returned}

    def prefixed(self, prefix: str) -> PlainFunction:
        return PlainFunction(self._parameters.function, self._metric, prefix + self.prefix)

    def __reduce__(self) -> tuple[Any, ...]:
        return PlainFunction, (self._parameters.function, self._metric, self.prefix)


def _check_function(given: Any) -> None:
    """Refuse what is no function of parameters."""
    if isinstance(given, PipelineStep) or hasattr(given, MAKES_STEPS):
        step = f"{given.__name__}()" if hasattr(given, MAKES_STEPS) else repr(given)
        raise TypeError(
            f"Experiment.of() takes a function of parameters; {step} is a step, which gets data. "
            f"Give it a data source: Experiment(source(), Pipeline([{step}]))."
        )
    if not callable(given):
        raise TypeError(f"Experiment.of() takes a function of parameters, not {given!r}.")
    try:
        inspect.signature(given)
    except ValueError:
        raise TypeError(
            f"{given!r} does not tell the names of its parameters. Call it in a function of your "
            "own, whose parameters have names."
        ) from None
