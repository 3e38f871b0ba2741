"""What a client says of an experiment, by SigOpt's rules: its parameters, metrics and budget.

`read_experiment` returns plain data in the form that the wire has, with every default filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crystallize_opt.service.given import LONGEST_NAME, Given, is_number, metadata_of, shown
from crystallize_opt.service.parameters import read_conditionals, read_constraint, read_parameters
from crystallize_opt.service.refusal import bad

Definition = dict[str, Any]

TYPES = ("offline", "random", "grid")
_OBJECTIVES = ("maximize", "minimize")
_STRATEGIES = ("optimize", "store", "constraint")
_MOST_METRICS, _MOST_OPTIMIZED, _MOST_CONSTRAINTS = 50, 2, 4
_KNOWN = {
    *("name", "type", "project", "metadata", "metrics", "parameters", "conditionals"),
    *("linear_constraints", "observation_budget", "budget", "parallel_bandwidth", "num_solutions"),
    *("tasks", "runs_only", "training_monitor"),
}


def read_experiment(data: Any, what: str = "the experiment") -> Definition:
    """Return the definition of a new experiment.

    Raises:
        Refusal: It breaks a rule; the message says which one.
    """
    given = Given(data, what)
    given.refuse_unknown(_KNOWN)
    given.refuse_missing("name")
    if given.array("tasks"):
        raise bad(
            "`tasks` are not supported: this service does not search over cheaper versions of an "
            "evaluation. Leave them out; for such a search use optimize() with a parameter that "
            "has fidelity=True."
        )
    if "training_monitor" in given:
        raise bad("`training_monitor` is not supported. Leave it out.")
    kind = given.choice("type", TYPES) or "offline"
    conditionals = read_conditionals(given)
    parameters = read_parameters(given, conditionals, is_grid=kind == "grid")
    metrics = read_metrics(given)
    found: Definition = {
        "name": given.text("name", longest=LONGEST_NAME),
        "type": kind,
        "project": given.text("project"),
        "metadata": read_metadata(given),
        "parameters": parameters,
        "conditionals": conditionals,
        "linear_constraints": given.each(
            "linear_constraints", lambda each: read_constraint(each, parameters)
        ),
        "metrics": metrics,
        "budget": read_budget(given),
        "parallel_bandwidth": given.integer("parallel_bandwidth", low=1),
        "num_solutions": given.integer("num_solutions", low=1),
        "runs_only": given.boolean("runs_only") or False,
    }
    _check_together(found)
    return found


def read_metadata(given: Given) -> dict[str, Any] | None:
    """Return the metadata of an experiment.

    Raises:
        Refusal: They are none, or `ttl` is no time.
    """
    metadata = metadata_of(given)
    ttl_of(metadata, None)
    return metadata


def ttl_of(metadata: Mapping[str, Any] | None, otherwise: float | None) -> float | None:
    """Return after how many seconds an open suggestion expires.

    Args:
        metadata: The metadata of the experiment.
        otherwise: The time of an experiment whose metadata do not say.

    Raises:
        Refusal: The metadata say what is no time.
    """
    if metadata is None or "ttl" not in metadata:
        return otherwise
    ttl: float = metadata["ttl"]
    if not is_number(ttl) or ttl <= 0:
        raise bad(f"`ttl` in the metadata is a number of seconds above 0, not {ttl!r}.")
    return ttl


def read_budget(given: Given) -> int | None:
    """Return the budget, which has two names.

    Raises:
        Refusal: It is negative, or no whole number; or both names are given.
    """
    if "budget" in given and "observation_budget" in given:
        raise bad("Give `budget` or `observation_budget`, not both.")
    key = "budget" if "budget" in given else "observation_budget"
    return given.integer(key, low=1)


def _check_together(found: Definition) -> None:
    """Refuse what does not go together, and find the budget of a grid."""
    optimized = [each for each in found["metrics"] if each["strategy"] == "optimize"]
    limited = [each for each in found["metrics"] if each["strategy"] == "constraint"]
    several = (found["num_solutions"] or 1) > 1
    if found["type"] == "grid":
        _set_budget_of_grid(found)
    elif found["budget"] is None:
        for is_so, what in (
            (len(optimized) > 1, "more than one optimized metric"),
            (limited, "constraint metrics"),
            (several, "more than one solution"),
        ):
            if is_so:
                raise bad(f"`observation_budget` is required for an experiment with {what}.")
    if several:
        if found["conditionals"]:
            raise bad("An experiment with `conditionals` has one solution: leave `num_solutions`.")
        if len(optimized) != 1:
            raise bad("An experiment with several solutions has exactly one optimized metric.")
        if found["num_solutions"] > found["budget"]:
            raise bad("`observation_budget` must be at least `num_solutions`.")


def _set_budget_of_grid(found: Definition) -> None:
    if found["conditionals"]:
        raise bad("An experiment of type 'grid' takes no `conditionals`.")
    size = 1
    for each in found["parameters"]:
        size *= len(each["categorical_values"] or each["grid"])
    if found["budget"] not in (None, size):
        raise bad(f"The grid has {size} points, so its budget is {size}, not {found['budget']}.")
    found["budget"] = size


def read_metrics(given: Given) -> list[dict[str, Any]]:
    """Return the metrics; without any, there is one without a name, to be maximized."""
    if given.data.get("metrics") is None:
        return [{"name": None, "objective": "maximize", "strategy": "optimize", "threshold": None}]
    metrics = given.each("metrics", _read_metric)
    if not 1 <= len(metrics) <= _MOST_METRICS:
        raise bad(f"`metrics` holds 1 to {_MOST_METRICS} metrics, not {len(metrics)}.")
    names = [each["name"] for each in metrics]
    if len(metrics) > 1 and None in names:
        raise bad("Each of several `metrics` needs a `name`.")
    for name in names:
        if names.count(name) > 1:
            raise bad(f"Two `metrics` have the name {shown(name)}.")
    optimized = [each for each in metrics if each["strategy"] == "optimize"]
    limited = [each for each in metrics if each["strategy"] == "constraint"]
    if not optimized and not limited:
        raise bad("`metrics` needs one with the strategy 'optimize' or 'constraint'.")
    for some, most, what in (
        (optimized, _MOST_OPTIMIZED, "optimize"),
        (limited, _MOST_CONSTRAINTS, "constraint"),
    ):
        if len(some) > most:
            raise bad(f"At most {most} `metrics` have the strategy {what!r}, not {len(some)}.")
    for each in metrics:
        check_threshold(each, len(optimized))
    return metrics


def _read_metric(data: Any) -> dict[str, Any]:
    if isinstance(data, str):
        data = {"name": data}
    given = Given(data, "a metric")
    given.refuse_unknown({"name", "objective", "strategy", "threshold", "object"})
    for key in ("objective", "strategy"):
        if key in given.data and key not in given:
            raise bad(f"`{key}` of a metric is a text, if it is given, not null.")
    return {
        "name": given.text("name", longest=LONGEST_NAME),
        "objective": given.choice("objective", _OBJECTIVES) or "maximize",
        "strategy": given.choice("strategy", _STRATEGIES) or "optimize",
        "threshold": given.number("threshold"),
    }


def check_threshold(metric: dict[str, Any], optimized: int) -> None:
    """Refuse a threshold where it means nothing, and a bound that is missing.

    Args:
        metric: The metric.
        optimized: How many metrics are optimized.
    """
    name, has_threshold = metric["name"], metric["threshold"] is not None
    if metric["strategy"] == "constraint" and not has_threshold:
        raise bad(f"The constraint metric {name!r} needs a `threshold`.")
    if metric["strategy"] == "store" and has_threshold:
        raise bad(f"The stored metric {name!r} takes no `threshold`.")
    if metric["strategy"] == "optimize" and has_threshold and optimized == 1:
        raise bad(
            f"The only optimized metric, {name!r}, takes no `threshold`. For a bound give it the "
            "strategy 'constraint'."
        )
