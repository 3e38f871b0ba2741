"""The description of the API for programs: OpenAPI 3.1, made from the routes themselves."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.runtime.extras import versions_of
from crystallize_opt.service.definition import TYPES
from crystallize_opt.service.routing import Route

_LISTED = {
    "limit": ("integer", "how many objects"),
    "before": ("string", "a marker of another page"),
    "after": ("string", "a marker of another page"),
    "sort": ("string", "by what"),
    "ascending": ("boolean", "false by default: the newest first"),
}


def description_of(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the description of an API.

    Args:
        routes: All routes.

    Example:
        >>> from crystallize_opt.service.handler import Handler
        >>> from crystallize_opt.service.service import Service
        >>> handler = Handler(Service(None))
        >>> "/v1/experiments/{experiment}/suggestions" in description_of(handler.routes)["paths"]
        True
        >>> handler.close()
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.method == "MERGE":  # OpenAPI knows the methods of HTTP only.
            continue
        parts, names = _named(route.pattern)
        of_path = paths.setdefault("/".join(("/v1", *parts)), {})
        of_path[route.method.lower()] = _operation(route, names)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "crystallize-opt: an optimizer behind HTTP",
            "version": versions_of(())["crystallize-opt"] or "",
            "description": "SigOpt's API: suggestions of any optimizer, and observations.",
        },
        "security": [{"token": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The token is the user name; the password is empty.",
                },
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": _SCHEMAS,
        },
    }


def _named(pattern: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the path with names for its ids, and these names."""
    parts, names = [], []
    for index, part in enumerate(pattern):
        if part == "{}":
            name = pattern[index - 1].removesuffix("s").removeprefix("ai")
            names.append(name)
            part = f"{{{name}}}"
        parts.append(part)
    return parts, names


def _operation(route: Route, names: Sequence[str]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    is_list = route.method == "GET" and route.pattern[-1] not in ("{}", *_SINGLE)
    if is_list:
        parameters += [
            {"name": name, "in": "query", "description": text, "schema": {"type": kind}}
            for name, (kind, text) in _LISTED.items()
        ]
    refused = {"description": "It is refused.", "content": _json(_of("Error"))}
    found: dict[str, Any] = {
        "operationId": "_".join(
            (route.method.lower(), *(each.strip("{}") or "id" for each in route.pattern))
        ),
        "summary": (inspect.getdoc(route.answer) or "").split("\n")[0],
        "parameters": parameters,
        "responses": {
            str(route.status): {
                "description": "It is done.",
                "content": _json(_answer_of(route, is_list=is_list)),
            },
            "default": refused,
        },
    }
    if route.method in ("POST", "PUT"):
        body = _of(_BODIES[route.pattern[-1]]) if _is_known(route) else {"type": "object"}
        found["requestBody"] = {"content": _json(body)}
    return found


def _is_known(route: Route) -> bool:
    return route.method == "POST" and route.pattern[-1] in _BODIES


def _answer_of(route: Route, *, is_list: bool) -> dict[str, Any]:
    if is_list:
        return _of("Page")
    kind = route.pattern[-2] if route.pattern[-1] == "{}" else route.pattern[-1]
    return _of(_OBJECTS[kind]) if kind in _OBJECTS and route.method != "DELETE" else _ANY


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _of(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*required], "properties": properties}


def _array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_ANY: dict[str, Any] = {"type": "object"}
_TEXT, _NUMBER, _WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}
_SINGLE = ("importances", "stopping_criteria")
_BODIES = {
    "experiments": "NewExperiment",
    "aiexperiments": "NewExperiment",
    "suggestions": "NewSuggestion",
    "queued_suggestions": "NewQueuedSuggestion",
    "observations": "NewObservation",
    "tokens": "NewToken",
}
_OBJECTS = {
    "experiments": "Experiment",
    "suggestions": "Suggestion",
    "observations": "Observation",
}
_PARAMETER = _object(
    ["name", "type"],
    name=_TEXT,
    type={"enum": ["double", "int", "categorical"]},
    bounds=_object(["min", "max"], min=_NUMBER, max=_NUMBER),
    grid=_array(_NUMBER),
    categorical_values=_array({}),
    transformation={"enum": ["none", "log"]},
    default_value={},
    prior=_ANY,
    conditions=_ANY,
)
_METRIC = _object(
    name=_TEXT,
    objective={"enum": ["maximize", "minimize"], "default": "maximize"},
    strategy={"enum": ["optimize", "store", "constraint"], "default": "optimize"},
    threshold=_NUMBER,
)
_VALUE = _object(["value"], name=_TEXT, value=_NUMBER, value_stddev=_NUMBER)
_EXPERIMENT: dict[str, Any] = {
    "name": _TEXT,
    "type": {"enum": [*TYPES], "default": "offline"},
    "parameters": _array(_of("Parameter")),
    "metrics": _array(_of("Metric")),
    "conditionals": _array(_object(["name", "values"], name=_TEXT, values=_array(_TEXT))),
    "linear_constraints": _array(
        _object(
            ["type", "terms", "threshold"],
            type={"enum": ["less_than", "greater_than"]},
            terms=_array(_object(["name", "weight"], name=_TEXT, weight=_NUMBER)),
            threshold=_NUMBER,
        )
    ),
    "observation_budget": {"type": ["integer", "null"]},
    "parallel_bandwidth": {"type": ["integer", "null"]},
    "num_solutions": {"type": ["integer", "null"]},
    "metadata": {
        "type": ["object", "null"],
        "description": "`optimizer`, `seed` and `optimizer.NAME` choose and set the optimizer.",
    },
}
_SCHEMAS: dict[str, Any] = {
    "Parameter": _PARAMETER,
    "Metric": _METRIC,
    "Value": _VALUE,
    "NewExperiment": _object(["name", "parameters"], **_EXPERIMENT),
    "Experiment": _object(
        ["id", "state", "progress"],
        **_EXPERIMENT,
        id=_TEXT,
        state={"enum": ["active", "deleted"]},
        created=_WHOLE,
        updated=_WHOLE,
        progress=_object(observation_count=_WHOLE),
    ),
    "NewSuggestion": _object(assignments=_ANY, metadata=_ANY),
    "NewQueuedSuggestion": _object(["assignments"], assignments=_ANY),
    "Suggestion": _object(
        ["id", "assignments", "state"],
        id=_TEXT,
        experiment=_TEXT,
        assignments=_ANY,
        state={"enum": ["open", "closed"]},
        created=_WHOLE,
    ),
    "NewObservation": _object(
        suggestion=_TEXT,
        assignments=_ANY,
        values=_array(_of("Value")),
        failed={"type": "boolean"},
        metadata=_ANY,
    ),
    "Observation": _object(
        ["id", "assignments", "values", "failed"],
        id=_TEXT,
        experiment=_TEXT,
        suggestion={"type": ["string", "null"]},
        assignments=_ANY,
        values=_array(_of("Value")),
        failed={"type": "boolean"},
        created=_WHOLE,
    ),
    "NewToken": _object(
        client=_WHOLE,
        experiment=_WHOLE,
        permissions={"enum": ["read", "write"]},
        lease_length={"type": "integer", "description": "seconds"},
        lasts_forever={"type": "boolean"},
    ),
    "Page": _object(
        ["data", "count", "paging"],
        data=_array(_ANY),
        count=_WHOLE,
        paging=_object(before={"type": ["string", "null"]}, after={"type": ["string", "null"]}),
    ),
    "Error": _object(["message"], message=_TEXT),
}
