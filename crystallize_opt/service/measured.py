"""What a client says of an observation, by SigOpt's rules; and how far an experiment is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.service.given import Given, metadata_of, shown
from crystallize_opt.service.parameters import expected, is_value
from crystallize_opt.service.problem import goals_of
from crystallize_opt.service.refusal import bad
from crystallize_opt.service.served_run import observation_of
from crystallize_opt.service.store import ACTIVE, Record, Store
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment

_KNOWN = {
    *("suggestion", "assignments", "values", "value", "value_stddev", "failed", "metadata"),
    *("task", "no_optimize"),
}


def read_observation(definition: Mapping[str, Any], given: Given) -> dict[str, Any]:
    """Return what a client says of a new observation, besides its assignments.

    Raises:
        Refusal: It breaks a rule; the message says which one.
    """
    _check_fields(given)
    failed = given.boolean("failed") or False
    if ("suggestion" in given) == ("assignments" in given):
        raise bad(f"Give exactly one of `suggestion` and `assignments` of {given.what}.")
    values = read_values(definition, given)
    if failed and values:
        raise bad("An observation that failed has no `values`. Leave them out, or `failed`.")
    if not failed and not values:
        raise bad("`values` of the observation is missing. If it failed, say `failed`: true.")
    if values:
        _refuse_missing(definition, values)
    return {"values": values, "failed": failed, "metadata": metadata_of(given)}


def _check_fields(given: Given) -> None:
    given.refuse_unknown(_KNOWN)
    if "task" in given:
        raise bad("`task` is for experiments with tasks, which this service does not support.")
    given.boolean("no_optimize")


def read_values(definition: Mapping[str, Any], given: Given) -> list[dict[str, Any]]:
    """Return the values of an observation; `value` stands for the value of the only metric."""
    data = given.array("values")
    if given.number("value") is not None:
        if data:
            raise bad("Give `value` or `values`, not both.")
        data = [{"value": given.number("value"), "value_stddev": given.number("value_stddev")}]
    elif "value_stddev" in given:
        raise bad("`value_stddev` belongs to an entry of `values`.")
    order = [each["name"] for each in definition["metrics"]]
    found = [_read_value(definition, each) for each in data or ()]
    return sorted(found, key=lambda each: order.index(each["name"]))


def _read_value(definition: Mapping[str, Any], data: Any) -> dict[str, Any]:
    given = Given(data, "an entry of `values`")
    given.refuse_unknown({"name", "value", "value_stddev", "object"})
    given.refuse_missing("value")
    names = [each["name"] for each in definition["metrics"]]
    name = given.text("name") or None
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        raise bad(f"There is no metric {shown(name)}. The metrics are: {shown(names)[1:-1]}.")
    stddev = given.number("value_stddev")
    if stddev is not None and stddev < 0:
        raise given.error("value_stddev", "a number of at least 0")
    value = given.number("value")
    return {
        "name": name,
        "value": None if value is None else float(value),
        "value_stddev": None if stddev is None else float(stddev),
    }


def _refuse_missing(definition: Mapping[str, Any], values: Sequence[Mapping[str, Any]]) -> None:
    """Check that each metric that is optimized or constrained has one value."""
    names = [each["name"] for each in values]
    for metric in definition["metrics"]:
        count = names.count(metric["name"])
        if count > 1 or (count == 0 and metric["strategy"] != "store"):
            what = "is missing in" if count == 0 else "is twice in"
            raise bad(f"The metric {metric['name']!r} {what} `values` of the observation.")


def read_assignments(definition: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """Return the assignments that a client chose itself. Numbers may be out of their bounds.

    Raises:
        Refusal: One is missing, unknown or of the wrong type; or a linear constraint is violated.
    """
    given = Given(data, "`assignments`")
    found: dict[str, Any] = {}
    for conditional in definition["conditionals"]:
        name = conditional["name"]
        given.refuse_missing(name)
        found[name] = given.choice(name, conditional["values"])
    for parameter in definition["parameters"]:
        name = parameter["name"]
        is_active = all(found[on] in some for on, some in parameter["conditions"].items())
        if not is_active:
            if name in given:
                raise bad(f"{name!r} has no value where its conditions do not hold: leave it out.")
            continue
        given.refuse_missing(name)
        if not is_value(parameter, given.data[name]):
            raise given.error(name, expected(parameter))
        value = given.data[name]
        found[name] = float(value) if parameter["type"] == "double" else value
    given.refuse_unknown(
        {each["name"] for each in (*definition["parameters"], *definition["conditionals"])}
    )
    for constraint in definition["linear_constraints"]:
        total = sum(term["weight"] * found[term["name"]] for term in constraint["terms"])
        sign = 1 if constraint["type"] == "less_than" else -1
        if sign * total > sign * constraint["threshold"] + 1e-9 * abs(constraint["threshold"]):
            raise bad(
                f"`assignments` violate a linear constraint: the sum, {total!r}, is not "
                f"{constraint['type'].replace('_', ' ')} {constraint['threshold']!r}."
            )
    return found


# How far an experiment is ------------------------------------------------------------------------


def criterion_of(definition: Mapping[str, Any]) -> Criterion:
    """Return the rule that decides which observation is the best."""
    objectives, constraints = goals_of(definition)
    return Criterion(objectives, constraints)


def measured(criterion: Criterion, record: Record) -> Observation:
    """Return the record of an observation as an `Observation`, named by its number."""
    treatment = Treatment(str(record.id), record.data["assignments"])
    return observation_of(record, treatment).checked(criterion.metrics)


def progressed(definition: Mapping[str, Any], new: Record, store: Store) -> dict[str, Any]:
    """Return the progress of an experiment after one more observation."""
    progress = definition["progress"]
    best = progress["best"]
    known = None if best is None else store.get("observation", best)
    criterion = criterion_of(definition)
    found = criterion.best(measured(criterion, each) for each in (known, new) if each is not None)
    return {
        "count": progress["count"] + 1,
        "first": progress["first"] or new.id,
        "last": new.id,
        "best": None if found is None else int(found.treatment.name),
    }


def progress_of(definition: Mapping[str, Any], number: int, store: Store) -> dict[str, Any]:
    """Return the progress of an experiment, from all of its observations."""
    records = store.page("observation", number, states=(ACTIVE,))
    criterion = criterion_of(definition)
    best = criterion.best(measured(criterion, each) for each in records)
    return {
        "count": len(records),
        "first": records[0].id if records else None,
        "last": records[-1].id if records else None,
        "best": None if best is None else int(best.treatment.name),
    }


def new_observation(
    said: Mapping[str, Any],
    assignments: Mapping[str, Any],
    suggestion: Record | None,
    *,
    is_first: bool = False,
) -> dict[str, Any]:
    """Return the data of a new record.

    Args:
        said: What the client said of it.
        assignments: The assignments.
        suggestion: The suggestion that was evaluated.
        is_first: Whether it is the first observation of that suggestion: the outcome of its trial.
    """
    of, now = None if suggestion is None else suggestion.data, time.time()
    return {
        **said,
        "assignments": dict(assignments),
        "suggestion": None if suggestion is None else suggestion.id,
        "trial": of["trial"] if of is not None and is_first else None,
        "revision": of["revision"] if of is not None and is_first else None,
        "began": None if of is None else of["created"],
        "created": now,
        "ended": now,
    }


def changed_observation(
    definition: Mapping[str, Any], before: Record, given: Given, suggestion: Record | None
) -> Record:
    """Return an observation with what a client changes of it.

    Raises:
        Refusal: It breaks a rule; the message says which one.
    """
    _check_fields(given)
    # An edit changes when it was created, as SigOpt has it, and not how long the trial took.
    found = {"ended": before.data["created"], **before.data, "created": time.time()}
    if "metadata" in given.data:
        found["metadata"] = metadata_of(given)
    _change_outcome(definition, found, given)
    if "suggestion" in given and "assignments" in given:
        raise bad("Give one of `suggestion` and `assignments` of the observation.")
    if "suggestion" in given.data and suggestion is None and "assignments" not in given:
        raise bad("An observation without a suggestion needs `assignments`.")
    if suggestion is not None:
        found |= {"suggestion": suggestion.id, "assignments": suggestion.data["assignments"]}
        found["began"] = suggestion.data["created"]
    elif "assignments" in given:
        if found["suggestion"] is not None and "suggestion" not in given.data:
            raise bad("The observation has a `suggestion`: set it to null to give `assignments`.")
        found["assignments"] = read_assignments(definition, given.data["assignments"])
        found["suggestion"] = found["began"] = None
    return before._replace(data=found)


def _change_outcome(definition: Mapping[str, Any], found: dict[str, Any], given: Given) -> None:
    failed = given.boolean("failed")
    has_values = "values" in given.data or "value" in given.data
    values = read_values(definition, given) if has_values else found["values"]
    if failed is None:
        failed = found["failed"] and not values
    if failed and values:
        raise bad("An observation that failed has no `values`: set them to null as well.")
    if not failed and not values:
        raise bad("An observation that did not fail needs `values`.")
    if values:
        _refuse_missing(definition, values)
    found |= {"failed": failed, "values": values}
