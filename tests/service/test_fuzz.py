"""Whatever is sent is answered: no request makes the service fail, or hang."""

from __future__ import annotations

import os
import string
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.http import EXPERIMENT, Web

REQUESTS = int(os.environ.get("CRYSTALLIZE_OPT_FUZZ", "120"))
"""How many requests are sent; the large run has 100,000."""

TEXTS = st.sampled_from(
    ["", "1", "2", "77", "-1", "x", "score", "night", "true", "é", "\x00", "🙂"]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    st.text(max_size=8),
)
KEYS = st.sampled_from(
    [
        *("name", "type", "parameters", "metrics", "bounds", "min", "max", "grid", "prior", "mean"),
        *("scale", "conditions", "conditionals", "values", "value", "value_stddev", "failed"),
        *("suggestion", "assignments", "x", "kind", "score", "metadata", "observations", "state"),
        *("linear_constraints", "terms", "weight", "threshold", "objective", "strategy", "limit"),
        *("observation_budget", "budget", "parallel_bandwidth", "num_solutions", "seed", "task"),
        *("before", "after", "sort", "ascending", "search", "id", "project", "client", "optimizer"),
        *("categorical_values", "transformation", "default_value", "runs", "filters", "fields"),
        *("permissions", "lease_length", "experiment", "deleted", "logs", "model", "tasks"),
    ]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
IDS = st.sampled_from(["1", "2", "3", "0", "-1", "self", "x", "night", "%00", "9" * 30, "é"])
VALID: dict[str, Any] = {
    "experiments": EXPERIMENT,
    "observations": {"assignments": {"x": 0.5}, "values": [{"name": "score", "value": 1.0}]},
    "suggestions": {"assignments": {"x": 0.25}},
    "queued_suggestions": {"assignments": {"x": 0.75}},
    "batch": {"observations": [{"assignments": {"x": 0.5}, "failed": True}]},
    "projects": {"id": "night", "name": "Night"},
    "training_runs": {"name": "run", "values": {"score": {"value": 1.0}}, "state": "completed"},
    "checkpoints": {"values": [{"name": "score", "value": 1.0}]},
    "tokens": {"permissions": "read"},
}


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    """Return a service in memory with an experiment, and no limit of requests."""
    made = Web(None, rate=1e9)
    made("POST", "experiments", EXPERIMENT)
    made("POST", "clients/1/projects", VALID["projects"])
    yield made
    made.handler.close()


@st.composite
def changed(draw: st.DrawFn, valid: Any) -> Any:
    """Return valid data with one part replaced, left out or added."""
    if isinstance(valid, dict) and valid and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(valid)))
        return {**valid, key: draw(changed(valid[key]))}
    if isinstance(valid, list) and valid and draw(st.integers(0, 3)):
        return [draw(changed(valid[0])), *valid[1:]]
    if isinstance(valid, dict) and draw(st.booleans()):
        return {**valid, draw(KEYS): draw(JSON)}
    return draw(JSON)


def bodies(last: str) -> st.SearchStrategy[Any]:
    valid = VALID.get(last, {})
    return st.one_of(st.just(valid), changed(valid), JSON)


@pytest.mark.filterwarnings("ignore")
def test_no_request_makes_the_service_fail(web: Web) -> None:
    # A request that withdraws its own token would be the last one.
    routes = [each for each in web.handler.routes if each.pattern != ("tokens", "{}")]
    routes.sort(key=lambda each: (each.method, each.pattern))

    @settings(
        max_examples=REQUESTS,
        deadline=None,
        database=None,
        suppress_health_check=[*HealthCheck],
    )
    @given(st.data())
    def send(data: st.DataObject) -> None:
        route = data.draw(st.sampled_from(routes))
        parts = [data.draw(IDS) if part == "{}" else part for part in route.pattern]
        more: dict[str, Any] = {}
        if route.method in ("GET", "DELETE"):
            query = data.draw(st.dictionaries(KEYS, TEXTS | st.text(max_size=6), max_size=3))
            more["params"] = query
        else:
            more["json"] = data.draw(bodies([p for p in route.pattern if p != "{}"][-1]))
        path = f"/v1/{'/'.join(parts)}"
        response = web.raw(route.method, path, auth=(web.token, ""), **more)

        assert response.status_code < 500 or response.status_code in (501, 503), (
            f"{route.method} {path} {more}: {response.status_code} {response.text}"
        )
        assert response.status_code not in (401, 403, 429) or "token" not in response.text
        if response.status_code >= 400:
            assert response.json()["message"]
        elif "state" in response.text:  # Deleted or not, the experiment takes further requests.
            web("PUT", "experiments/1", {"state": "active"})

    send()


@pytest.mark.filterwarnings("ignore")
def test_no_bytes_make_the_service_fail(web: Web) -> None:
    @settings(max_examples=max(50, REQUESTS // 10), deadline=None, database=None)
    @given(
        st.sampled_from(["GET", "POST", "PUT", "DELETE", "MERGE", "PATCH", "OPTIONS", "HEAD"]),
        st.text(string.printable.replace("\\", ""), max_size=20),
        st.binary(max_size=40),
        st.text(string.ascii_letters + string.digits + " =:/", max_size=20),
    )
    def send(method: str, path: str, body: bytes, authorization: str) -> None:
        path = "".join(each for each in path if each.isalnum() or each in "/._-%{}")
        for headers in ({"Authorization": authorization}, {"Authorization": f"Bearer {web.token}"}):
            for start in ("/v1/", "/experiment/1/", "/"):
                response = web.raw(method, f"{start}{path}", content=body, headers=headers)
                assert response.status_code < 500 or response.status_code == 501, response.text

    send()


def test_a_run_moves_to_another_project(web: Web) -> None:
    path = "clients/1/projects/night/training_runs"
    number = web("POST", path, VALID["training_runs"]).json()["id"]
    moved = web("PUT", f"training_runs/{number}", {"project": "night", "name": "moved"})

    assert moved.json()["name"] == "moved"
    assert web("PUT", f"training_runs/{number}", {"project": "day"}).status_code == 400
