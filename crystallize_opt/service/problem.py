"""What an experiment of a client is to an optimizer: a space, objectives, constraints, a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crystallize_opt.adapters.registry import available_optimizers
from crystallize_opt.errors import CrystallizeOptError, MissingExtraError
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.service.given import is_integer
from crystallize_opt.service.refusal import bad
from crystallize_opt.space.choices import Categorical, Ordinal
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import NO_DEFAULT, Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Constraint, Objective

UNNAMED = "value"
"""What a metric without a name is called in a run."""

_ARGUMENT = "optimizer."  # Keys of metadata that begin so are arguments of the optimizer.


@dataclass(frozen=True)
class Problem:
    """What an optimizer needs to know of an experiment.

    Attributes:
        space: The search space.
        objectives: The objectives.
        constraints: The outcome constraints.
        build: Builds the optimizer.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    build: Callable[[], SpaceOptimizer[Any]]


def problem_of(definition: Mapping[str, Any]) -> Problem:
    """Return the problem that an experiment poses.

    Args:
        definition: The experiment, as `read_experiment` returns it; with the server's optimizer,
            which is used unless the metadata name another one.

    Raises:
        Refusal: The space is empty, or the optimizer is unknown or not installed.
    """
    try:
        space = space_of(definition)
        objectives, constraints = goals_of(definition)
    except CrystallizeOptError as error:
        raise bad(str(error)) from error
    kind, arguments = _optimizer_of(definition)

    def build() -> SpaceOptimizer[Any]:
        made: Any = kind().load()
        try:
            built = made(space, [*objectives], constraints=constraints, **arguments)
        except (CrystallizeOptError, TypeError, ValueError) as error:
            raise bad(f"{made.__name__} cannot search this experiment: {error}") from error
        if not isinstance(built, SpaceOptimizer):
            raise bad(f"{made.__name__} is no optimizer over a search space.")
        return built

    return Problem(space, objectives, constraints, build)


def _optimizer_of(definition: Mapping[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Return what loads the optimizer's class, and the optimizer's arguments."""
    metadata = definition["metadata"] or {}
    name = metadata.get("optimizer", definition["optimizer"])
    arguments = {
        key.removeprefix(_ARGUMENT): value
        for key, value in metadata.items()
        if key.startswith(_ARGUMENT)
    }
    if "seed" in metadata:
        seed = metadata["seed"]
        if not is_integer(seed) or not 0 <= seed < 2**32:
            raise bad(f"`seed` in the metadata is a whole number from 0 to 2**32 - 1, not {seed!r}")
        # A run that begins anew does not suggest the points of the earlier one again.
        arguments["seed"] = (seed + definition.get("revision", 0)) % 2**32
    if definition["type"] != "offline":
        # An experiment answers also when each point has been suggested.
        name = "RandomOptimizer" if definition["type"] == "random" else "GridOptimizer"
        arguments = {"duplicates": True} | {k: v for k, v in arguments.items() if k == "seed"}
    known = available_optimizers()
    if name not in known:
        raise bad(f"`optimizer` in the metadata is one of {', '.join(known)}, not {name!r}.")
    if not known[name].installed:
        raise bad(
            f"{known[name].reason or ''} On the server, run: {known[name].install}; or name another"
            " optimizer in the metadata."
        )
    return lambda: known[name], arguments


def check_default(name: str) -> None:
    """Check that the server's default optimizer can be used.

    Raises:
        MissingExtraError: It is not installed.
        UsageError: There is no such optimizer.
    """
    known = available_optimizers()
    if name not in known:
        from crystallize_opt.errors import UsageError

        raise UsageError(f"The optimizer is one of {', '.join(known)}, not {name!r}.")
    if not known[name].installed:
        raise MissingExtraError(
            f"{known[name].reason} Run: {known[name].install}. Or serve another optimizer: "
            "RandomOptimizer needs no library."
        )


def space_of(definition: Mapping[str, Any]) -> SearchSpace:
    """Return the search space: conditionals are categorical parameters that come first."""
    parameters: dict[str, Any] = {
        each["name"]: Categorical(each["values"]) for each in definition["conditionals"]
    }
    for each in definition["parameters"]:
        parameter = _parameter_of(each)
        if each["conditions"]:
            parents = {name: frozenset(values) for name, values in each["conditions"].items()}
            parameter = parameter.when(**parents)
        parameters[each["name"]] = parameter
    constraints = [_constraint_of(each) for each in definition["linear_constraints"]]
    return SearchSpace(parameters, constraints)


def _parameter_of(each: Mapping[str, Any]) -> Parameter:
    default: Any = NO_DEFAULT if each["default_value"] is None else each["default_value"]
    if each["type"] == "categorical":
        names = [value["name"] for value in each["categorical_values"]]
        return Categorical(names, default=default)
    if each["grid"]:
        if default is not NO_DEFAULT and each["type"] == "double":
            default = float(default)
        return Ordinal(each["grid"], default=default)
    low, high = each["bounds"]["min"], each["bounds"]["max"]
    if default is not NO_DEFAULT and not low <= default <= high:
        default = NO_DEFAULT  # It only stands for what older observations lack.
    if each["type"] == "int":
        return Integer(low, high, default=default)
    return Float(low, high, log=each["transformation"] == "log", default=default)


def _constraint_of(each: Mapping[str, Any]) -> LinearConstraint:
    sign = 1 if each["type"] == "less_than" else -1
    weights = {term["name"]: sign * term["weight"] for term in each["terms"]}
    return LinearConstraint(weights, sign * each["threshold"])


def metric_name(metric: Mapping[str, Any]) -> str:
    """Return the name of a metric in a run."""
    return UNNAMED if metric["name"] is None else str(metric["name"])


def goals_of(
    definition: Mapping[str, Any],
) -> tuple[tuple[Objective, ...], tuple[Constraint, ...]]:
    """Return the objectives and the outcome constraints.

    An experiment that has only constraint metrics optimizes the first of them within all bounds.
    """
    metrics = definition["metrics"]
    limited = [each for each in metrics if each["strategy"] == "constraint"]
    optimized = [each for each in metrics if each["strategy"] == "optimize"] or limited[:1]
    thresholds = [each["threshold"] for each in optimized]
    measured = len(optimized) > 1 and None not in thresholds
    objectives = tuple(
        Objective(
            metric_name(each), each["objective"], threshold=each["threshold"] if measured else None
        )
        for each in optimized
    )
    constraints = tuple(
        Constraint(
            metric_name(each), ">=" if each["objective"] == "maximize" else "<=", each["threshold"]
        )
        for each in limited
    )
    return objectives, constraints
