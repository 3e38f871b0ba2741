"""What may be changed of an experiment after it was created, by SigOpt's rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crystallize_opt.service.definition import (
    Definition,
    check_threshold,
    read_budget,
    read_metadata,
)
from crystallize_opt.service.given import LONGEST_NAME, Given, shown
from crystallize_opt.service.parameters import is_value, read_parameter
from crystallize_opt.service.refusal import bad

_FIXED = {
    "num_solutions": "The number of solutions",
    "conditionals": "Conditionals",
    "linear_constraints": "Linear constraints",
    "tasks": "Tasks",
    "type": "The type",
    "runs_only": "Whether the experiment takes runs only",
}
_KNOWN = {
    *("name", "project", "state", "metadata", "metrics", "parameters", "observation_budget"),
    *("budget", "parallel_bandwidth", "no_optimize"),
}
_LEARNED = ("parameters", "metrics", "conditionals", "linear_constraints", "type")


def read_changes(definition: Definition, data: Any) -> Definition:
    """Return what a client changes: the new values of some fields.

    Raises:
        Refusal: It breaks a rule; the message says which one.
    """
    given = Given(data, "the experiment")
    for key, what in _FIXED.items():
        if key in given.data:
            raise bad(f"{what} of an experiment cannot be changed. Create another experiment.")
    given.refuse_unknown(_KNOWN)
    given.boolean("no_optimize")
    found: Definition = {}
    if "name" in given.data:
        given.refuse_missing("name")
        found["name"] = given.text("name", longest=LONGEST_NAME)
    if "metadata" in given.data:
        found["metadata"] = read_metadata(given)
    if "parallel_bandwidth" in given.data:
        found["parallel_bandwidth"] = given.integer("parallel_bandwidth", low=1)
    if "budget" in given.data or "observation_budget" in given.data:
        found["budget"] = _budget(definition, given)
    if "metrics" in given.data:
        found["metrics"] = _metrics(definition, given)
    if "parameters" in given.data:
        found["parameters"] = _parameters(definition, given)
    return found


def is_learned(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a change concerns what the optimizer has been built for."""
    if any(before[key] != after[key] for key in _LEARNED):
        return True
    return _of_optimizer(before) != _of_optimizer(after)


def _of_optimizer(definition: Mapping[str, Any]) -> dict[str, Any]:
    metadata = definition["metadata"] or {}
    return {key: metadata[key] for key in metadata if key.startswith("optimizer") or key == "seed"}


def _budget(definition: Definition, given: Given) -> int | None:
    optimized = [each for each in definition["metrics"] if each["strategy"] == "optimize"]
    for is_so, what in (
        (definition["type"] == "grid", "of the type 'grid'"),
        (len(optimized) > 1, "with more than one optimized metric"),
        ((definition["num_solutions"] or 1) > 1, "with more than one solution"),
    ):
        if is_so:
            raise bad(f"The budget of an experiment {what} cannot be changed.")
    return read_budget(given)


def _metrics(definition: Definition, given: Given) -> list[dict[str, Any]]:
    """Return the metrics with other thresholds; nothing else of them can be changed."""
    known = definition["metrics"]
    metrics = given.array("metrics")
    if metrics is None or len(metrics) != len(known):
        raise bad(f"`metrics` lists all {len(known)} metrics of the experiment.")
    found = {each["name"]: dict(each) for each in known}
    named = set()
    for data in metrics:
        metric = Given({"name": data} if isinstance(data, str) else data, "a metric")
        metric.refuse_unknown({"name", "objective", "strategy", "threshold", "object"})
        name = metric.text("name") if "name" in metric or len(known) > 1 else known[0]["name"]
        if name not in found:
            raise bad(f"There is no metric {shown(name)}: names of metrics cannot be changed.")
        named.add(name)
        for key in ("objective", "strategy"):
            if key in metric.data and metric.data[key] != found[name][key]:
                raise bad(f"`{key}` of the metric {name!r} cannot be changed.")
        if "threshold" in metric.data:
            found[name]["threshold"] = metric.number("threshold")
    if len(named) < len(found):
        raise bad("`metrics` lists a metric twice.")
    optimized = sum(each["strategy"] == "optimize" for each in known)
    for each in found.values():
        check_threshold(each, optimized)
    return [*found.values()]


def _parameters(definition: Definition, given: Given) -> list[dict[str, Any]]:
    """Return the parameters: those that are left out are gone, new ones need a default."""
    if definition["type"] == "grid":
        raise bad("Parameters of an experiment of the type 'grid' cannot be changed.")
    if definition["linear_constraints"]:
        raise bad("Parameters of an experiment with linear constraints cannot be changed.")
    known = {each["name"]: each for each in definition["parameters"]}
    found: dict[str, dict[str, Any]] = {}
    for data in given.array("parameters") or ():
        parameter = Given(data, "a parameter")
        name = parameter.text("name", longest=LONGEST_NAME)
        if name is None:
            raise bad("`name` of a parameter is missing.")
        if name in found:
            raise bad(f"The name {shown(name)} is twice in `parameters`.")
        if name in known:
            found[name] = _changed(known[name], parameter)
        else:
            found[name] = read_parameter(data, is_grid=False)
            if found[name]["conditions"]:
                raise bad(f"The new parameter {name!r} cannot have conditions.")
            if found[name]["default_value"] is None:
                raise bad(
                    f"The new parameter {name!r} needs a `default_value`: the one that earlier "
                    "observations had."
                )
        _check_default(found[name])
    if not found:
        raise bad("`parameters` needs at least one parameter.")
    return [*found.values()]


def _changed(known: Mapping[str, Any], given: Given) -> dict[str, Any]:
    """Return a parameter with the fields that a client gave."""
    name = known["name"]
    conditions = given.data.get("conditions")
    if conditions and conditions != known["conditions"]:
        raise bad(f"`conditions` of the parameter {name!r} cannot be changed.")
    for key in ("type", "transformation"):
        if given.data.get(key) not in (None, known[key]):
            raise bad(f"`{key}` of the parameter {name!r} cannot be changed.")
    before = {key: value for key, value in known.items() if value is not None}
    del before["conditions"]
    if before.get("grid"):
        del before["bounds"]
    if given.data.get("grid"):
        before.pop("bounds", None)
    elif given.data.get("bounds"):
        before.pop("grid", None)
    changed = {**before, **given.data}
    if changed.get("grid"):  # The client sends back both, as it got them.
        changed.pop("bounds", None)
    changed.pop("conditions", None)
    return read_parameter(changed, is_grid=False) | {"conditions": known["conditions"]}


def _check_default(parameter: Mapping[str, Any]) -> None:
    default = parameter["default_value"]
    if default is None:
        return
    bounds = parameter["bounds"]
    inside = bounds is None or bounds["min"] <= default <= bounds["max"]
    if not (is_value(parameter, default) and inside):
        raise bad(
            f"`default_value` of {parameter['name']!r} must be one of its values, not {default!r}."
        )
