"""What an optimizer and its process say to each other: plain data, one message a line.

User objects stay in this process. A choice is an index, as in a stored run, and in the space of the
other process a text stands for each object that has no exact form as plain data.
"""

from __future__ import annotations

import builtins
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from crystallize_opt import errors
from crystallize_opt.errors import RemoteError, UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.plain_data import StoredObject, decode, described, encode
from crystallize_opt.space.as_dict import PARAMETERS
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.parameter import Condition, Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.records import write_observation
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.values import as_number

# Spaces ------------------------------------------------------------------------------------------


def portable(space: SearchSpace) -> SearchSpace:
    """Return a space in which a text stands for each object without an exact form."""
    values = {name: _portable_values(name, parameter) for name, parameter in space.items()}
    if all(each is None for each in values.values()):
        return space

    def converted(name: str, value: Any) -> Any:
        replaced = values[name]
        if replaced is None:
            return value
        parameter: Any = space[name]
        return replaced[0 if isinstance(parameter, Constant) else parameter.index(value)]

    parameters: dict[str, Parameter] = {}
    for name, parameter in space.items():
        changes: dict[str, Any] = {
            "conditions": tuple(
                Condition(each.parent, tuple(converted(each.parent, v) for v in each.values))
                for each in parameter.conditions
            )
        }
        if (replaced := values[name]) is not None and isinstance(parameter, Constant):
            changes["value"] = replaced[0]
        elif replaced is not None:
            changes["choices"] = replaced
            if parameter.has_default:
                changes["default"] = converted(name, parameter.default)
        parameters[name] = dataclasses.replace(parameter, **changes)  # type: ignore[type-var]
    return SearchSpace(parameters, space.constraints)


def _portable_values(name: str, parameter: Parameter) -> list[Any] | None:
    """Return what stands for the choices of a parameter; None if they can stand for themselves."""
    given: Sequence[Any] = ()
    if isinstance(parameter, (Categorical, Ordinal)):
        given = parameter.choices
    elif isinstance(parameter, Constant):
        given = (parameter.value,)
    replaced = []
    for number, value in enumerate(given):
        unknown: list[Any] = []
        encode(value, other=unknown.append)
        text = f"{name}[{number}]: {described(value)}" if unknown else ""
        replaced.append(StoredObject(text) if unknown else value)
    return replaced if any(type(each) is StoredObject for each in replaced) else None


# Observations ------------------------------------------------------------------------------------


def sent(observation: Observation, needed: Sequence[str], *, curves: bool) -> dict[str, Any]:
    """Return an observation as plain data: what an optimizer learns from.

    Args:
        observation: The observation.
        needed: The metrics of objectives and constraints.
        curves: Whether the optimizer learns from learning curves.
    """

    def few(given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: given[name] for name in needed if name in given}

    def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
        found = {name: as_number(value) for name, value in few(metrics).items()}
        return {name: value for name, value in found.items() if value is not None}

    def reduced(replicate: Replicate) -> Replicate:
        kept = few(replicate.curves) if curves else {}
        return dataclasses.replace(
            replicate, metrics=numbers(replicate.metrics), curves=kept, traceback=None
        )

    if (
        observation.status is not Status.COMPLETED
        or observation.replicates
        or len(observation.metrics) > len(needed)
    ):
        metrics = numbers(observation.metrics)
        observation = dataclasses.replace(
            observation,
            metrics=metrics,
            sem={name: error for name, error in observation.sem.items() if name in metrics},
            replicates=tuple(map(reduced, observation.replicates)),
            traceback=None,
        )
    return write_observation(observation)


# Capabilities ------------------------------------------------------------------------------------


def write_capabilities(capabilities: Capabilities) -> dict[str, Any]:
    """Return capabilities as plain data."""
    fields = {f.name: getattr(capabilities, f.name) for f in dataclasses.fields(capabilities)}
    return {**fields, "parameters": [kind.__name__ for kind in capabilities.parameters]}


def read_capabilities(data: Mapping[str, Any]) -> Capabilities:
    """Return the capabilities that `write_capabilities` wrote."""
    kinds = tuple(PARAMETERS[name] for name in data["parameters"])
    return Capabilities(**{**data, "parameters": kinds})


# Classes, functions and options ------------------------------------------------------------------


def reference(value: Any) -> str:
    """Return where a class or function can be imported from: `"module:name"`.

    Raises:
        UsageError: It cannot be imported.
    """
    if isinstance(value, str):
        module, colon, name = value.partition(":")
        if colon and module and name:
            return value
        raise UsageError(f"{value!r} is not of the form 'module:name'.")
    home, path = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(home, str) or not isinstance(path, str):
        raise UsageError(f"{value!r} is neither a class nor a function, nor a text 'module:name'.")
    if home == "__main__" or "<" in path:
        raise UsageError(
            f"{path!r} cannot be imported in another process: put it into a module, at its top "
            "level, and import it from there."
        )
    return f"{home}:{path}"


def imported(where: str) -> Any:
    """Return the class or function of a reference."""
    module, _, path = where.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def root_of(where: str) -> str | None:
    """Return the folder from which a module was imported here; None for the package's own."""
    module = where.partition(":")[0]
    file = getattr(sys.modules.get(module), "__file__", None)
    if module.startswith("crystallize_opt.") or file is None:
        return None
    path = Path(file)
    levels = module.count(".") + (path.stem == "__init__")
    return str(path.parents[levels])


def write_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an optimizer as plain data; classes and functions are references.

    Raises:
        UsageError: One has no exact form as plain data.
    """
    return {name: _write_option(name, value) for name, value in options.items()}


def _write_option(name: str, value: Any) -> dict[str, Any]:
    if isinstance(getattr(value, "__qualname__", None), str):
        return {"reference": reference(value)}

    def refuse(part: Any) -> Any:
        raise UsageError(
            f"{name}={value!r} cannot be sent to another process, because {part!r} has no exact "
            "form as plain data (a pickle would run code). Write a function of a module that "
            "builds the whole optimizer, and give that function instead of the class: "
            "RemoteOptimizer(my_module.make, space, objective, ...)."
        )

    return {"value": encode(value, other=refuse)}


def read_options(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that `write_options` wrote."""
    return {
        name: imported(each["reference"]) if "reference" in each else decode(each["value"])
        for name, each in data.items()
    }


# Errors ------------------------------------------------------------------------------------------


def write_error(error: BaseException, trace: str) -> list[str]:
    """Return an error as plain data: module and name of its class, its text, and the traceback."""
    kind = type(error)
    only = error.args[0] if len(error.args) == 1 else None
    text = only if isinstance(only, str) else str(error)
    return [kind.__module__, kind.__qualname__, text, trace]


def read_error(data: Sequence[str], where: str) -> Exception:
    """Return an error as it was raised there; a `RemoteError` if its class is not known here.

    Args:
        data: What `write_error` wrote.
        where: Says which process raised the error.
    """
    module, name, text, trace = data
    known: Any = {"crystallize_opt.errors": errors, "builtins": builtins}.get(module)
    kind: Callable[[str], Exception] | None = getattr(known, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            error = kind(text)
        except TypeError:  # Such as UnicodeDecodeError, which has more arguments.
            error = None
        if error is not None:
            if module == "builtins":
                error.add_note(f"{where}:\n{trace}")
            return error
    error = RemoteError(f"{where}: {module}.{name}: {text}")
    error.add_note(trace)
    return error
