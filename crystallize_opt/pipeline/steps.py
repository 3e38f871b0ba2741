"""Data sources and steps, which run for every treatment and replicate."""

from __future__ import annotations

import contextlib
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from crystallize_opt.errors import MissingParameterError, SpaceError
from crystallize_opt.pipeline.annotations import Found, annotated_parameter, name_of
from crystallize_opt.pipeline.context import IMMUTABLE, FrozenContext, copier
from crystallize_opt.runtime.shown import cut

_UNSET: Any = object()
MAKES_STEPS = "_makes_steps"
"""The attribute of a function that `pipeline_step` made: it makes steps, and is none."""

Copies = Mapping[str, Callable[[], Any]]
"""For each parameter with a value that a step could change: makes a copy of the value."""


class DataSource(ABC):
    """Provides the input of a pipeline. Subclass it, or decorate a function with `data_source`.

    Attributes:
        version: None, or a text that stands for this source when a stored run is resumed. Without
            it, the code, the attributes and all values that the code uses are compared.
    """

    version: str | None = None

    @abstractmethod
    def fetch(self, ctx: FrozenContext) -> Any:
        """Return the data of one replicate. May be a coroutine function."""


class PipelineStep(ABC):
    """One step of a pipeline. Subclass it, or decorate a function with `pipeline_step`.

    Attributes:
        version: None, or a text that stands for this step when a stored run is resumed. Without
            it, the code, the attributes and all values that the code uses are compared.
    """

    version: str | None = None

    @abstractmethod
    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        """Run the step. May be a coroutine function.

        Returns:
            The data for the next step, or `(data, {metric: value})`.
        """

    def setup(self, ctx: FrozenContext) -> Any:  # noqa: B027  (a hook: empty by default)
        """Prepare the step: called once before the first replicate of a run.

        `ctx` is the experiment's context. May be a coroutine function, as may `teardown`.
        """

    def teardown(self, ctx: FrozenContext) -> Any:  # noqa: B027
        """Clean up: called once after the last replicate of a run, even after an exception."""

    @property
    def name(self) -> str:
        """The name of the step in error messages."""
        return type(self).__name__

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters given when the step was built."""
        return {}

    def prefixed(self, prefix: str) -> PipelineStep:
        """Return this step with parameters of other names, so that it can be used twice.

        Only a step made by `pipeline_step`, and a `Choice` of such steps, has named parameters.

        Args:
            prefix: Added before the name of each parameter that the step does not fix.

        Raises:
            TypeError: The step's class reads the context itself.

        Example:
            >>> from crystallize_opt import Pipeline
            >>> @pipeline_step
            ... def scale(data, ctx, *, factor: (0.5, 2.0) = 1.0):
            ...     return data * factor
            >>> Pipeline([scale(), scale().prefixed("second_")]).search_space().names
            ('factor', 'second_factor')
        """
        raise TypeError(
            f"{type(self).__name__} reads the context itself, so its parameters cannot be renamed. "
            "Make the step from a function with named parameters, by @pipeline_step."
        )


@dataclass(frozen=True)
class NamedParameters:
    """The parameters of a function that are filled by name.

    Each takes the value given when the step was built, else the context's, else the function's
    default. Values are copied as those of a `FrozenContext`, so that no replicate changes a value
    for another one.
    """

    function: Callable[..., Any]
    names: tuple[str, ...]
    defaults: Mapping[str, Any]
    takes_context: bool
    can_be_given: bool = True

    @property
    def name(self) -> str:
        """The name of the function; that of its class if it has none, as a `functools.partial`."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    @classmethod
    def of(cls, function: Callable[..., Any], *, first: Sequence[str]) -> NamedParameters:
        """Read a signature whose leading positional parameters are `first`, such as data and ctx.

        The last of `first`, the context, may be left out.
        """
        positional: list[inspect.Parameter] = []
        named: list[inspect.Parameter] = []
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(
                    f"{name_of(function)}() has a parameter {parameter}, which cannot be "
                    "filled from the context. Name each parameter."
                )
            leading = (
                parameter.kind is not parameter.KEYWORD_ONLY
                and parameter.default is parameter.empty
                and len(positional) < len(first)
            )
            if parameter.kind is parameter.POSITIONAL_ONLY and (named or not leading):
                raise TypeError(
                    f"{name_of(function)}() takes {parameter.name!r} by position only, but it is "
                    "filled by name. Remove the '/' after it."
                )
            (positional if leading and not named else named).append(parameter)
        if len(positional) < len(first) - 1:
            raise TypeError(
                f"{name_of(function)}() must take ({', '.join(first)}, *, named parameters)."
            )
        return cls(
            function,
            tuple(p.name for p in named),
            {p.name: p.default for p in named if p.default is not p.empty},
            len(positional) == len(first),
        )

    def check_given(self, given: Mapping[str, Any]) -> None:
        if unknown := [name for name in given if name not in self.names]:
            raise TypeError(
                f"{self.name}() has no parameter {unknown[0]!r}. "
                f"Its named parameters: {', '.join(map(repr, self.names)) or 'none'}."
            )

    def copies(self, given: Mapping[str, Any]) -> Copies:
        """Return how to copy the values, given or default, that a step could change.

        A value that cannot be copied, such as a lock, a module or an open file, is shared.
        """
        copies = {}
        for name, value in {**self.defaults, **given}.items():
            if type(value) not in IMMUTABLE:
                copied = copier(is_choice=self._has_range(name))
                with contextlib.suppress(Exception):  # What `deepcopy` raises is up to the value.
                    if copied(value) is not value:
                        copies[name] = functools.partial(copied, value)
        return copies

    def _has_range(self, name: str) -> bool:
        try:
            return annotated_parameter(self.function, name) is not None
        except SpaceError:  # `search_space` raises it: the step may run without a search.
            return False

    def fill(
        self, given: Mapping[str, Any], copies: Copies, ctx: FrozenContext, prefix: str = ""
    ) -> dict[str, Any]:
        filled = {}
        for name in self.names:
            if name in given:
                filled[name] = copies[name]() if name in copies else given[name]
            elif (value := ctx.get(prefix + name, _UNSET)) is not _UNSET:
                filled[name] = value
            elif name in self.defaults:
                filled[name] = copies[name]() if name in copies else self.defaults[name]
            else:
                when_built = f"when building the step ({self.name}({name}=...)), "
                raise MissingParameterError(
                    f"Step {self.name!r} needs the parameter {prefix + name!r}: give it "
                    f"{when_built if self.can_be_given else ''}in a treatment or the experiment's "
                    "initial_ctx, or as the function's default."
                )
        return filled


class FunctionStep(PipelineStep):
    """A step made from a function by `pipeline_step`."""

    def __init__(
        self,
        parameters: NamedParameters,
        given: Mapping[str, Any],
        factory: Callable[..., PipelineStep],
        prefix: str = "",
    ) -> None:
        parameters.check_given(given)
        self._parameters = parameters
        self._given = dict(given)
        self._copies = parameters.copies(given)
        self._factory = factory
        self.prefix = prefix

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        parameters = self._parameters
        filled = self._filled(ctx) if parameters.names else {}
        if parameters.takes_context:
            return parameters.function(data, ctx, **filled)
        return parameters.function(data, **filled)

    def _filled(self, ctx: FrozenContext) -> dict[str, Any]:
        return self._parameters.fill(self._given, self._copies, ctx, self.prefix)

    @property
    def name(self) -> str:
        return self._parameters.name

    @property
    def params(self) -> Mapping[str, Any]:
        return dict(self._given)

    def prefixed(self, prefix: str) -> PipelineStep:
        if not isinstance(prefix, str):
            raise TypeError(f"A prefix is a text such as 'svm_', not {prefix!r}.")
        step = FunctionStep(self._parameters, self._given, self._factory, prefix + self.prefix)
        step.version = self.version
        return step

    def untreated(self) -> dict[str, Any]:
        """Return the function's defaults of the parameters that are not given in the step."""
        defaults = self._parameters.defaults.items()
        return {self.prefix + name: each for name, each in defaults if name not in self._given}

    def searchable(self) -> Iterator[Found]:
        """Yield the parameters that have a range and are not given in the step."""
        function = self._parameters.function
        for name in self._parameters.names:
            if name not in self._given:
                parameter = annotated_parameter(function, name)
                if parameter is not None:
                    default = self._parameters.defaults.get(name, inspect.Parameter.empty)
                    yield Found(self.name, self.prefix + name, parameter, default)

    def __reduce__(self) -> tuple[Any, ...]:
        # The function cannot be pickled by name, because its name now refers to the factory.
        return _rebuild_step, (self._factory, self._given, self.prefix)

    def __repr__(self) -> str:
        prefixed = f".prefixed({self.prefix!r})" if self.prefix else ""
        return f"{_called(self.name, self._given)}{prefixed}"


class _FunctionSource(DataSource):
    """A data source made from a function by `data_source`."""

    def __init__(
        self,
        parameters: NamedParameters,
        given: Mapping[str, Any],
        factory: Callable[..., DataSource],
    ) -> None:
        parameters.check_given(given)
        self._parameters = parameters
        self._given = dict(given)
        self._copies = parameters.copies(given)
        self._factory = factory

    def fetch(self, ctx: FrozenContext) -> Any:
        parameters = self._parameters
        filled = parameters.fill(self._given, self._copies, ctx) if parameters.names else {}
        if parameters.takes_context:
            return parameters.function(ctx, **filled)
        return parameters.function(**filled)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._factory, self._given)

    def __repr__(self) -> str:
        return _called(self._parameters.name, self._given)


def _called(name: str, given: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={cut(repr(value))}' for key, value in given.items())})"


def _rebuild(factory: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    return factory(**given)


def _rebuild_step(
    factory: Callable[..., PipelineStep], given: Mapping[str, Any], prefix: str
) -> PipelineStep:
    step = factory(**given)
    return step.prefixed(prefix) if prefix else step


@overload
def data_source(function: Callable[..., Any], /) -> Callable[..., DataSource]: ...
@overload
def data_source(
    *, version: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., DataSource]]: ...
def data_source(
    function: Callable[..., Any] | None = None, /, *, version: str | None = None
) -> Any:
    """Turn a function `fetch(ctx, *, named parameters)` into a factory of data sources.

    Args:
        function: The function; left out in `@data_source(version="1")`.
        version: See `DataSource`.

    Example:
        >>> @data_source
        ... def numbers(ctx, *, count=3):
        ...     return list(range(count))
        >>> numbers(count=2).fetch(FrozenContext())
        [0, 1]
    """
    if function is None:
        return functools.partial(_source_factory, version=version)
    return _source_factory(function, version=version)


def _source_factory(function: Callable[..., Any], version: str | None) -> Callable[..., DataSource]:
    parameters = NamedParameters.of(function, first=("ctx",))

    @functools.wraps(function)
    def factory(**given: Any) -> DataSource:
        source = _FunctionSource(parameters, given, factory)
        source.version = version
        return source

    return factory


@overload
def pipeline_step(function: Callable[..., Any], /) -> Callable[..., PipelineStep]: ...
@overload
def pipeline_step(
    *, version: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., PipelineStep]]: ...
def pipeline_step(
    function: Callable[..., Any] | None = None, /, *, version: str | None = None
) -> Any:
    """Turn a function `step(data, ctx, *, named parameters)` into a factory of pipeline steps.

    A named parameter takes the value given to the factory, else the context's (so a treatment can
    set it), else the function's default. Annotate the parameter with a range to search it. Mutable
    values are copied for each call, as `FrozenContext` says; of those that are given or a default,
    an object that cannot be copied (a lock, an open file) is shared.

    Args:
        function: The function; left out in `@pipeline_step()`, which is the same, and in
            `@pipeline_step(version="1")`.
        version: See `PipelineStep`.

    Example:
        >>> from typing import Annotated
        >>> from crystallize_opt import Float, Pipeline
        >>> @pipeline_step()
        ... def scale(data, ctx, *, factor: Annotated[float, Float(0.1, 10.0, log=True)] = 1.0):
        ...     return [factor * x for x in data]
        >>> scale()([1.0, 2.0], FrozenContext({"factor": 3.0}))
        [3.0, 6.0]
        >>> Pipeline([scale()]).search_space().names
        ('factor',)
    """
    if function is None:
        return functools.partial(_step_factory, version=version)
    return _step_factory(function, version=version)


def _step_factory(function: Callable[..., Any], version: str | None) -> Callable[..., PipelineStep]:
    parameters = NamedParameters.of(function, first=("data", "ctx"))

    @functools.wraps(function)
    def factory(**given: Any) -> PipelineStep:
        step = FunctionStep(parameters, given, factory)
        step.version = version
        return step

    setattr(factory, MAKES_STEPS, True)
    return factory
