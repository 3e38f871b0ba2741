"""What a client says of a training run, by SigOpt's rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crystallize_opt.service.given import LONGEST_NAME, Given, is_number, metadata_of, shown
from crystallize_opt.service.refusal import bad

STATES = ("active", "completed", "failed")
_LONGEST_LOG = 1124
_LONGEST_SOURCE = 30
_OWN = "SigOpt"  # The source of assignments that the optimizer chose.
NOTHING: Mapping[str, Any] = {
    "name": None,
    "state": "active",
    "assignments": {},
    "assignments_meta": {},
    "assignments_sources": {},
    "datasets": {},
    "favorite": False,
    "logs": {},
    "metadata": None,
    "dev_metadata": None,
    "sys_metadata": None,
    "model": {"type": None},
    "source_code": {"content": None, "hash": None},
    "values": {},
}
"""What a run has that nobody has said anything of."""

KNOWN = {*NOTHING, "deleted"}


def read_run(given: Given, *, merges: bool) -> dict[str, Any]:
    """Return what a client says of a run: the fields that it gave.

    Args:
        given: What the client sent.
        merges: Whether a null in a mapping removes an entry.

    Raises:
        Refusal: It breaks a rule; the message says which one.
    """
    for key in ("name", "state"):
        if key in given.data and key not in given:
            raise bad(f"`{key}` of a run cannot be null.")
    # `project` is not of the run alone: it must be there.
    keys = [key for key in given.data if key in KNOWN]
    found = {key: _field(given, key, merges=merges) for key in keys}
    if any(each["source"] == _OWN for each in found.get("assignments_meta", {}).values()):
        raise bad(f"The source {_OWN!r} in `assignments_meta` stands for the optimizer itself.")
    return found


def _field(given: Given, key: str, *, merges: bool) -> Any:
    if key in _ENTRIES:
        entries = given.mapping(key) or {}
        return {name: _ENTRIES[key](name, entry) for name, entry in entries.items()}
    if key in ("metadata", "dev_metadata", "assignments"):
        values = metadata_of(given, key)
        if key == "assignments":
            values = values or {}
        return _with_nulls(given, key, values, merges=merges)
    if key in ("model", "source_code"):
        return _texts(given, key)
    return _PLAIN[key](given, key)


def _with_nulls(
    given: Given, key: str, values: dict[str, Any] | None, *, merges: bool
) -> dict[str, Any] | None:
    if merges and values is not None:
        return {name: values.get(name) for name in given.data[key]}
    return values


def _texts(given: Given, key: str) -> dict[str, Any]:
    inner = Given(given.mapping(key) or {}, f"`{key}`")
    names = NOTHING[key]
    inner.refuse_unknown(names)
    return {name: inner.text(name) for name in names if name in inner.data}


def _value(name: str, entry: Any) -> dict[str, Any]:
    given = Given(entry, f"the value of {shown(name)}")
    given.refuse_unknown({"value", "value_stddev", "name", "object"})
    given.refuse_missing("value")
    stddev = given.number("value_stddev")
    if stddev is not None and stddev < 0:
        raise given.error("value_stddev", "a number of at least 0")
    return {"name": name, "value": given.number("value"), "value_stddev": stddev}


def _log(name: str, entry: Any) -> dict[str, Any]:
    given = Given(entry, f"the log {shown(name)}")
    given.refuse_unknown({"content"})
    given.refuse_missing("content")
    return {"content": (given.text("content") or "")[:_LONGEST_LOG]}


def _dataset(name: str, entry: Any) -> dict[str, Any]:
    Given(entry, f"the dataset {shown(name)}").refuse_unknown(())
    return {}


def _meta(name: str, entry: Any) -> dict[str, Any]:
    given = Given(entry, f"`assignments_meta` of {shown(name)}")
    given.refuse_unknown({"source"})
    given.refuse_missing("source")
    source = given.text("source") or ""
    if len(source) > _LONGEST_SOURCE:
        raise given.error("source", f"a text of at most {_LONGEST_SOURCE} characters")
    return {"source": source}


def _source(name: str, entry: Any) -> dict[str, Any]:
    given = Given(entry, f"`assignments_sources` of {shown(name)}")
    if len(name) > _LONGEST_SOURCE:
        raise bad(f"A source has a name of at most {_LONGEST_SOURCE} characters: {shown(name)}.")
    given.refuse_unknown({"default_show", "sort"})
    given.refuse_missing("default_show", "sort")
    return {"default_show": given.boolean("default_show"), "sort": given.number("sort")}


_PLAIN: Mapping[str, Callable[[Given, str], Any]] = {
    "name": lambda given, key: given.text(key, longest=LONGEST_NAME),
    "state": lambda given, key: given.choice(key, STATES),
    "favorite": lambda given, key: given.boolean(key) or False,
    "deleted": lambda given, key: given.boolean(key) or False,
    "sys_metadata": lambda given, key: given.mapping(key),
}
_ENTRIES: Mapping[str, Callable[[str, Any], dict[str, Any]]] = {
    "values": _value,
    "logs": _log,
    "datasets": _dataset,
    "assignments_meta": _meta,
    "assignments_sources": _source,
}


def check_meta(data: Mapping[str, Any]) -> None:
    """Check that `assignments_meta` is about assignments.

    Raises:
        Refusal: A name is no assignment.
    """
    for name in data["assignments_meta"]:
        if name not in data["assignments"]:
            raise bad(f"`assignments_meta` names {shown(name)}, which is no assignment of the run.")


def merged(known: Any, new: Any) -> Any:
    """Return two values of a field as one: mappings are merged, and null removes an entry."""
    if not isinstance(new, Mapping):
        return new
    found = dict(known) if isinstance(known, Mapping) else {}
    for key, value in new.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def by_optimizer(data: Mapping[str, Any], assignments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run with the assignments that the optimizer chose."""
    meta = {**data["assignments_meta"], **{name: {"source": _OWN} for name in assignments}}
    sources = {**data["assignments_sources"], _OWN: {"default_show": True, "sort": 1}}
    return {
        **data,
        "assignments": {**data["assignments"], **assignments},
        "assignments_meta": meta,
        "assignments_sources": sources,
    }


def outcome(definition: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a finished run says of an observation: it failed if a metric is missing."""
    values = [
        {**data["values"][metric["name"]], "name": metric["name"]}
        for metric in definition["metrics"]
        if metric["name"] in data["values"]
    ]
    needed = sum(each["strategy"] != "store" for each in definition["metrics"])
    measured = sum(
        metric["strategy"] != "store" and metric["name"] in data["values"]
        for metric in definition["metrics"]
    )
    if data["state"] == "failed" or measured < needed:
        return {"failed": True}
    return {"values": values}


def of_parameters(definition: Mapping[str, Any], assignments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the assignments of a run that are parameters of the experiment."""
    names = {each["name"] for each in (*definition["parameters"], *definition["conditionals"])}
    return {name: value for name, value in assignments.items() if name in names}


def matches(shown_run: Mapping[str, Any], each: Any) -> bool:
    """Whether a run matches a filter: a field, an operator and a value.

    Raises:
        Refusal: It is no filter.
    """
    given = Given(each, "a filter")
    given.refuse_unknown({"field", "operator", "value"})
    operator = given.choice("operator", ("==", "!=", ">=", ">", "<=", "<", "isnull"))
    value: Any = shown_run
    for part in (given.text("field") or "").split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    wanted = given.data.get("value")
    if operator == "isnull":
        return value is None
    if operator in ("==", "!="):
        equal = value == wanted or (is_number(wanted) and value == str(wanted))
        return bool(equal) == (operator == "==")
    if not is_number(wanted):
        raise bad(f"The operator {operator!r} of a filter compares numbers, not {shown(wanted)}.")
    if not is_number(value):
        return False
    above, below = value > wanted, value < wanted
    return bool({">=": not below, ">": above, "<=": not above, "<": below}[operator or ""])
