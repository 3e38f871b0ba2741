"""The description of the API: of every route, and true."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest

from tests.service.http import EXPERIMENT, Web, web

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


def _with_nulls(answer: Any) -> Any:
    """Leave out what is null: it counts as left out."""
    if isinstance(answer, dict):
        return {key: _with_nulls(item) for key, item in answer.items() if item is not None}
    return [_with_nulls(item) for item in answer] if isinstance(answer, list) else answer
