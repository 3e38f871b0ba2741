"""The description of the API: of every route, and true."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest

from tests.service.http import EXPERIMENT, Web, error_of, web

__all__ = ["web"]


def test_every_route_is_described_and_nothing_else(web: Web) -> None:
    described = web.raw("GET", "/openapi.json").json()
    found = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path.removeprefix("/v1/")))
        for path, methods in described["paths"].items()
        for method in methods
    }

    routes = {(each.method, "/".join(each.pattern)) for each in web.handler.routes}
    assert found == {each for each in routes if each[0] != "MERGE"}
    names = [own["operationId"] for each in described["paths"].values() for own in each.values()]
    assert len({*names}) == len(names)
    for methods in described["paths"].values():
        for own in methods.values():
            assert own["summary"].endswith("."), own


def test_references_lead_somewhere_and_ids_are_declared(web: Web) -> None:
    described = web.raw("GET", "/openapi.json").json()

    for name in re.findall(r"#/components/schemas/(\w+)", str(described)):
        assert name in described["components"]["schemas"]
    for path, methods in described["paths"].items():
        for own in methods.values():
            ids = [each["name"] for each in own["parameters"] if each["in"] == "path"]
            assert ids == re.findall(r"\{(\w+)\}", path)


@pytest.mark.parametrize("name", ["Experiment", "Suggestion", "Observation", "Page", "Error"])
def test_what_is_answered_is_as_described(web: Web, name: str) -> None:
    described = web.raw("GET", "/openapi.json").json()
    experiment = web("POST", "experiments", EXPERIMENT).json()
    path = f"experiments/{experiment['id']}"
    suggestion = web("POST", f"{path}/suggestions", {}).json()
    data = {"suggestion": suggestion["id"], "values": [{"name": "score", "value": 1.0}]}
    answers: dict[str, Any] = {
        "Experiment": experiment,
        "Suggestion": suggestion,
        "Observation": web("POST", f"{path}/observations", data).json(),
        "Page": web("GET", "experiments").json(),
        "Error": web("GET", "experiments/77").json(),
    }
    schema = {**described["components"]["schemas"][name], "components": described["components"]}

    jsonschema.validate(_with_nulls(answers[name]), schema)


_POINT = {"assignments": {"x": 0.5}}
_VALUES = [{"name": "score", "value": 1.0}]
_VALID: dict[str, Any] = {
    "POST experiments": EXPERIMENT,
    "POST clients/{}/experiments": EXPERIMENT,
    "POST experiments/{}/suggestions": _POINT,
    "POST experiments/{}/queued_suggestions": _POINT,
    "POST experiments/{}/observations": {**_POINT, "values": _VALUES},
    "POST experiments/{}/observations/batch": {"observations": []},
    "POST clients/{}/projects": {"id": "other", "name": "Other"},
    "POST clients/{}/projects/{}/aiexperiments": {
        key: value for key, value in EXPERIMENT.items() if key != "observation_budget"
    },
    "POST clients/{}/projects/{}/training_runs/batch": {"runs": []},
}
_NEW = {"training_runs": {"name": "run"}, "checkpoints": {"values": _VALUES}}


def test_a_field_that_is_not_known_is_refused_by_every_route_that_changes_something(
    web: Web,
) -> None:
    """What deletes one thing and nothing else has no fields."""
    runs = {**EXPERIMENT, "runs_only": True, "project": "night"}
    web("POST", "clients/1/projects", {"id": "night", "name": "Night"})
    for made in (EXPERIMENT, runs):
        assert web("POST", "experiments", made).status_code == 201
    assert web("POST", "experiments/1/suggestions", {}).status_code == 201
    assert web("POST", "experiments/1/observations", {"suggestion": "1", "failed": True})
    assert web("POST", "experiments/2/training_runs", {"name": "run"}).status_code == 201
    deletes = {("experiments", "{}"), ("aiexperiments", "{}")}  # Options say what goes with it.
    routes = [
        each
        for each in web.handler.routes
        if each.method in ("POST", "PUT", "MERGE")
        or (each.method == "DELETE" and (each.pattern[-1] != "{}" or each.pattern in deletes))
    ]
    routes.sort(key=lambda each: each.method == "DELETE")

    for route in routes:
        pattern = "/".join(route.pattern)
        of_runs = "training_runs" in pattern or pattern.startswith("aiexperiments")
        path = pattern.replace("projects/{}", "projects/night")
        path = path.replace("training_runs/{}", "training_runs/1")
        path = path.replace("clients/{}", "clients/1").replace("suggestions/{}", "suggestions/1")
        path = path.replace("observations/{}", "observations/1")
        path = path.replace("{}", "2" if of_runs else "1")
        valid = _VALID.get(f"{route.method} {pattern}", _NEW.get(route.pattern[-1], {}))
        typo = {"assigments": "typo"}
        if route.method == "DELETE":
            message = error_of(web("DELETE", f"{path}?assigments=typo"), 400)
            assert web("DELETE", path).status_code == 200
        else:
            message = error_of(web(route.method, path, {**valid, **typo}), 400)
            assert web(route.method, path, valid).status_code < 300, (route.method, pattern)

        assert message.startswith("Unknown: `assigments` in "), (route.method, pattern)


def _with_nulls(answer: Any) -> Any:
    """Leave out what is null: it counts as left out."""
    if isinstance(answer, dict):
        return {key: _with_nulls(item) for key, item in answer.items() if item is not None}
    return [_with_nulls(item) for item in answer] if isinstance(answer, list) else answer
