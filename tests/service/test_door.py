"""A request that takes long holds up none that is answered at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from crystallize_opt.service.routing import Request
from crystallize_opt.service.service import Service
from tests.service.http import EXPERIMENT, Web, web

__all__ = ["web"]


def test_a_request_that_takes_long_holds_up_no_suggestion_and_no_observation(web: Web) -> None:
    number = web("POST", "experiments", EXPERIMENT).json()["id"]
    begun, goes_on = threading.Event(), threading.Event()
    key = "GET", ("experiments", "{}", "best_assignments")

    def slow(_: Service, __: Request) -> Any:
        begun.set()
        assert goes_on.wait(60)
        return {"data": []}

    web.handler._routes[key] = replace(web.handler._routes[key], answer=slow)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(web, "GET", f"experiments/{number}/best_assignments")
        assert begun.wait(60)
        suggestion = web("POST", f"experiments/{number}/suggestions", {})
        told = {"suggestion": suggestion.json()["id"], "value": 1.0}
        observation = web("POST", f"experiments/{number}/observations", told)
        is_waiting = not waiting.done()
        goes_on.set()

        assert suggestion.status_code == observation.status_code == 201
        assert is_waiting
        assert waiting.result(60).status_code == 200


def test_a_wrong_method_is_told_which_ones_there_are(web: Web) -> None:
    number = web("POST", "experiments", EXPERIMENT).json()["id"]

    wrong = web("PATCH", f"experiments/{number}", {})
    unknown = web("GET", f"experiments/{number}/flowers")

    assert (wrong.status_code, unknown.status_code) == (404, 404)
    message = wrong.json()["message"]
    assert message.startswith(
        f"There is no PATCH experiments/{number} here. It takes DELETE and GET"
    )
    assert "It takes" not in unknown.json()["message"]
