"""Pipelines: steps that run one after the other, some of them with alternatives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.pipeline.annotations import Found, alternatives, space_of
from crystallize_opt.pipeline.context import FrozenContext
from crystallize_opt.pipeline.steps import FunctionStep, PipelineStep
from crystallize_opt.runtime.sync import resolve_apart, run_sync
from crystallize_opt.space.choices import Categorical
from crystallize_opt.space.parameter import same_value
from crystallize_opt.space.space import SearchSpace


class Pipeline:
    """A sequence of steps; each step gets the data that the step before returned.

    Args:
        steps: At least one step; a single step need not be in a list.

    Attributes:
        steps: The steps.
        parts: The steps that run: of a `Choice`, all steps of its alternatives.

    Raises:
        TypeError: A step is none, or its class has a `__call__` with further parameters.
        UsageError: There is no step.

    Example:
        >>> from crystallize_opt import FrozenContext, pipeline_step
        >>> @pipeline_step
        ... def add(data, ctx, *, delta=0):
        ...     ctx.metrics.add("total", sum(data) + delta)
        ...     return data
        >>> ctx = FrozenContext({"delta": 4})
        >>> Pipeline([add()]).run([1, 2], ctx), ctx.metrics["total"]
        ([1, 2], (7,))
    """

    def __init__(self, steps: Sequence[PipelineStep] | PipelineStep) -> None:
        self.steps = _steps(steps, "Each step of a Pipeline")
        if not self.steps:
            raise UsageError("A Pipeline needs at least one step.")
        # A step that several alternatives share is set up once.
        self.parts = list({id(part): part for part in _parts(self.steps)}.values())
        self._choices = list(_choices(self.steps))

    def run(self, data: Any, ctx: FrozenContext) -> Any:
        """Run all steps once, without an experiment, and return the last step's data."""
        return run_sync(self.execute(data, ctx))

    async def execute(
        self,
        data: Any,
        ctx: FrozenContext,
        *,
        before_step: Sequence[Callable[[PipelineStep], None]] = (),
        after_step: Sequence[Callable[[PipelineStep, Any, FrozenContext], None]] = (),
    ) -> Any:
        """Run all steps, calling the hooks around each one; of a `Choice`, the chosen ones.

        An exception keeps its type and gets a note that names the step.
        """
        for step in _running(self.steps, ctx) if self._choices else self.steps:
            for hook in before_step:
                hook(step)
            try:
                result = step(data, ctx)
                if hasattr(type(result), "__await__"):  # Else save the call of a coroutine.
                    result = await resolve_apart(result)
                if isinstance(result, tuple) and _has_metrics(result):
                    result, metrics = result
                    for metric, value in metrics.items():
                        ctx.metrics.add(metric, value)
                data = result
            except BaseException as error:
                error.add_note(f"In step {step.name!r}.")
                if isinstance(error, StopIteration):  # A coroutine cannot raise it.
                    raise RuntimeError(
                        f"Step {step.name!r} raised StopIteration. Does it call next() on an "
                        "iterator that has ended?"
                    ) from error
                raise
            for end in after_step:
                end(step, data, ctx)
        return data

    def untreated(self) -> dict[str, Any]:
        """Return the values of parameters that nobody sets: step functions' defaults, and choices.

        A parameter is left out if two functions have different defaults for it.
        """
        found: dict[str, Any] = {each.name: next(iter(each.alternatives)) for each in self._choices}
        unclear: set[str] = set()
        for step in self.parts:
            if isinstance(step, FunctionStep):
                for name, value in step.untreated().items():
                    if not same_value(found.setdefault(name, value), value):
                        unclear.add(name)
        return {name: value for name, value in found.items() if name not in unclear}

    def search_space(self) -> SearchSpace:
        """Collect the search space from the steps' `Annotated[...]` parameters, in step order.

        A parameter that was given when its step was built is fixed, and so not in the space.

        Raises:
            SpaceError: The same name is annotated with two different ranges.
        """
        return space_of(_searchable(self.steps))


class Choice(PipelineStep):
    """A step with alternatives: a categorical parameter says which one runs.

    The search space of the pipeline has that parameter, and the parameters of each alternative
    under the condition that it is chosen. A parameter of several alternatives is one parameter,
    active for each of them; it needs the same range everywhere. To search the parameters of equal
    steps apart, give the steps different prefixes: `PipelineStep.prefixed`.

    Hooks of plugins see the steps of the chosen alternative, not the choice. The steps of all
    alternatives are set up before the first replicate of a run, and torn down after the last.

    Args:
        name: The name of the parameter; its value is the name of an alternative. Where no treatment
            sets it, the first alternative runs.
        **alternatives: At least one. Each is a step, a `Pipeline` or a list of steps, which may
            contain other choices, or None: the data passes unchanged.

    Attributes:
        alternatives: The steps of each alternative.

    Raises:
        TypeError: An alternative is no step, or the name no text.
        UsageError: There is no alternative.

    Example:
        >>> from crystallize_opt import Float, FrozenContext, pipeline_step
        >>> @pipeline_step
        ... def svm(data, ctx, *, C: Float(0.01, 100.0, log=True) = 1.0):
        ...     return f"an SVM with C={C}"
        >>> @pipeline_step
        ... def tree(data, ctx, *, depth: (1, 9) = 3):
        ...     return f"a tree of depth {depth}"
        >>> pipeline = Pipeline([Choice("model", svm=svm(), tree=tree())])
        >>> pipeline.search_space()
        SearchSpace of 3 parameters:
          model  Categorical(['svm', 'tree'], default='svm')
          C      Float(0.01, 100.0, log=True, default=1.0).when(model='svm')
          depth  Integer(1, 9, default=3).when(model='tree')
        >>> pipeline.run(None, FrozenContext({"model": "tree", "depth": 5}))
        'a tree of depth 5'
    """

    def __init__(
        self,
        name: str,
        /,
        **alternatives: PipelineStep | Pipeline | Sequence[PipelineStep] | None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"The name of a Choice is a text, that of a parameter, not {name!r}.")
        if not alternatives:
            raise UsageError(
                f"Choice({name!r}) has no alternatives. Give each one a name: Choice({name!r}, "
                "svm=svm_step(), forest=forest_step())."
            )
        self._name = name
        self.alternatives: Mapping[str, list[PipelineStep]] = {
            key: _steps(given, f"The alternative {key!r} of the choice {name!r}")
            for key, given in alternatives.items()
        }

    @property
    def name(self) -> str:
        return self._name

    def chosen(self, ctx: FrozenContext) -> list[PipelineStep]:
        """Return the steps of the alternative that a context chooses.

        Raises:
            UsageError: There is no such alternative.
        """
        name, names = self._name, list(self.alternatives)
        chosen = ctx.get(name, names[0])
        if chosen not in names:
            raise UsageError(
                f"The choice {name!r} has no alternative {chosen!r}. Its alternatives: "
                f"{', '.join(map(repr, names))}."
            )
        return self.alternatives[chosen]

    async def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        """Run the chosen alternative. A pipeline does not call this, but runs its steps."""
        return await Pipeline([self]).execute(data, ctx)

    def searchable(self) -> Iterator[Found]:
        """Yield the parameter that chooses, and those of the alternatives, under conditions."""
        names = list(self.alternatives)
        yield Found(self._name, self._name, Categorical(names), names[0])
        steps = self.alternatives.items()
        yield from alternatives(self._name, {name: _searchable(own) for name, own in steps})

    def prefixed(self, prefix: str) -> Choice:
        renamed: dict[str, Any] = {
            key: [step.prefixed(prefix) for step in steps]
            for key, steps in self.alternatives.items()
        }
        return Choice(prefix + self._name, **renamed)

    def __repr__(self) -> str:
        shown = {
            key: own[0] if len(own) == 1 else own or None for key, own in self.alternatives.items()
        }
        return (
            f"Choice({self._name!r}, {', '.join(f'{key}={each!r}' for key, each in shown.items())})"
        )


def _steps(given: Any, what: str) -> list[PipelineStep]:
    if given is None:
        return []
    steps = given.steps if isinstance(given, Pipeline) else given
    steps = list(steps) if isinstance(steps, Iterable) else [steps]
    for step in steps:
        if not callable(step) or not isinstance(step, PipelineStep):
            hint = f" Did you mean {step.__name__}()?" if inspect.isfunction(step) else ""
            raise TypeError(f"{what} is a PipelineStep, not {step!r}.{hint}")
        if not isinstance(step, (FunctionStep, Choice)):
            _refuse_named_parameters(type(step))
    return steps


def _refuse_named_parameters(kind: type[PipelineStep]) -> None:
    """Refuse a step's class with parameters that nothing would fill, search or treat."""
    _, *given = inspect.signature(kind.__call__).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [each for each in given if each.kind not in variable]
    beyond = [each for at, each in enumerate(named) if at >= 2 or each.kind not in positional]
    if beyond:
        raise TypeError(
            f"{kind.__name__}.__call__ takes (self, data, ctx); its parameter {beyond[0].name!r} "
            f"would never be filled or searched. Read ctx.get({beyond[0].name!r}) instead, or make "
            "the step from a function, by @pipeline_step."
        )


def _parts(steps: Iterable[PipelineStep]) -> Iterator[PipelineStep]:
    """Yield the steps that may run."""
    for step in steps:
        if isinstance(step, Choice):
            for own in step.alternatives.values():
                yield from _parts(own)
        else:
            yield step


def _choices(steps: Iterable[PipelineStep]) -> Iterator[Choice]:
    """Yield the choices, also those within alternatives."""
    for step in steps:
        if isinstance(step, Choice):
            yield step
            for own in step.alternatives.values():
                yield from _choices(own)


def _running(steps: Iterable[PipelineStep], ctx: FrozenContext) -> Iterator[PipelineStep]:
    """Yield the steps that run in a context; each choice is made when the steps before have run."""
    for step in steps:
        if isinstance(step, Choice):
            yield from _running(step.chosen(ctx), ctx)
        else:
            yield step


def _searchable(steps: Iterable[PipelineStep]) -> Iterator[Found]:
    for step in steps:
        if isinstance(step, (FunctionStep, Choice)):
            yield from step.searchable()


def _has_metrics(result: tuple[Any, ...]) -> bool:
    """Whether the tuple that a step returned is `(data, {metric: value})`."""
    return len(result) == 2 and isinstance(result[1], Mapping)
