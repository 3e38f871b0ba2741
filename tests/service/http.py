"""The application as a web server would call it, without a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from crystallize_opt.service.access import EVERYTHING, Access
from crystallize_opt.service.app import application
from crystallize_opt.service.handler import Handler
from crystallize_opt.service.live import Settings
from crystallize_opt.service.service import Service
from crystallize_opt.service.tokens import make_token

EXPERIMENT: dict[str, Any] = {
    "name": "night",
    "parameters": [{"name": "x", "type": "double", "bounds": {"min": 0, "max": 1}}],
    "metrics": [{"name": "score"}],
    "observation_budget": 20,
}


class Web:
    """The service, and what clients with different tokens get from it."""

    def __init__(self, path: Path | None, **options: Any) -> None:
        self.handler = Handler(Service(path, Settings("RandomOptimizer")))
        app = application(self.handler, **options)
        self.client = TestClient(app, "http://127.0.0.1", raise_server_exceptions=False)
        self.token = self.make()

    def make(self, access: Access = EVERYTHING, **options: Any) -> str:
        """Return a new token."""
        return make_token(self.handler.service.store, access, **options)[0]

    def __call__(
        self, method: str, path: str, data: Any = None, token: str | None = None, **more: Any
    ) -> Any:
        """Send a request to the API."""
        auth = (self.token if token is None else token, "")
        return self.client.request(method, f"/v1/{path}", auth=auth, json=data, **more)

    def raw(self, method: str, path: str, **more: Any) -> Any:
        """Send a request as it is."""
        return self.client.request(method, path, follow_redirects=False, **more)

    def form(self, path: str, data: dict[str, str], **more: Any) -> Any:
        """Send a form of a page."""
        return self.raw("POST", path, data=data, auth=(self.token, ""), **more)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """Return a service with a file."""
    made = Web(tmp_path / "service.db")
    yield made
    made.handler.close()


def error_of(response: Any, status: int) -> str:
    """Return the message of a refusal, which has this status."""
    assert response.status_code == status, response.text
    return str(json.loads(response.text)["message"])
