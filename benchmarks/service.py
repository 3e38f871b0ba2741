"""How long clients of the service wait for a suggestion, with and without suggestions made ahead.

Run it with `python benchmarks/service.py schedule` (four minutes) and
`python benchmarks/service.py real` (ten minutes on a quiet machine).

Four clients in threads ask the service in this process, evaluate for about two seconds (they
sleep), and report. What is measured is how long each waits for its suggestion: the answer to
`POST suggestions`.

schedule: with an optimizer whose asks only sleep, so that the machine's load plays no part: 0.05 s,
0.4 s (as an ask of Ax or SMAC takes on a quiet machine) and 1 s.

real: with AxOptimizer and OptunaOptimizer on the Branin function, 60 observations.
"""

from __future__ import annotations

import argparse
import math
import random
import threading
import time
from statistics import mean, median
from typing import Any

from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.service.handler import Handler
from crystallize_opt.service.live import Settings
from crystallize_opt.service.service import Service

CLIENTS = 4
SECONDS = 2.0


def branin(x: float, y: float) -> float:
    bend = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def waits(optimizer: str, budget: int, *, ahead: bool) -> tuple[list[float], float]:
    """Run one experiment; return how long the clients waited, and the best value."""
    handler = Handler(Service(None, Settings(optimizer, ask_ahead=ahead)))
    bounds = {"x": (-5.0, 10.0), "y": (0.0, 15.0)}
    experiment = handler.handle(
        "POST",
        ["experiments"],
        {
            "name": "Branin",
            "parameters": [
                {"name": name, "type": "double", "bounds": {"min": low, "max": high}}
                for name, (low, high) in bounds.items()
            ],
            "metrics": [{"name": "branin", "objective": "minimize"}],
            "parallel_bandwidth": CLIENTS,
            "observation_budget": budget,
            "metadata": {"seed": 0},
        },
    ).body
    path = ["experiments", experiment["id"]]
    found: list[float] = []
    left, turn = [budget], threading.Lock()

    def client(number: int) -> None:
        rng = random.Random(number)
        while True:
            with turn:
                if not left[0]:
                    return
                left[0] -= 1
            began = time.perf_counter()
            suggestion = handler.handle("POST", [*path, "suggestions"], {}).body
            with turn:
                found.append(time.perf_counter() - began)
            time.sleep(SECONDS * rng.uniform(0.75, 1.25))
            value = branin(**suggestion["assignments"])
            data: dict[str, Any] = {"suggestion": suggestion["id"], "value": value}
            handler.handle("POST", [*path, "observations"], data)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    best = handler.handle("GET", [*path, "best_assignments"], {}).body["data"][0]["value"]
    handler.close()
    return found[CLIENTS:], best  # The first suggestion of each has nothing to be ahead of.


def show(what: str, found: list[float], best: float | None = None) -> None:
    ranked = sorted(found)
    late = ranked[int(0.95 * len(ranked))]
    print(
        f"{what:42} mean {mean(found):6.3f} s  median {median(found):6.3f} s  95 % {late:6.3f} s"
        + ("" if best is None else f"  best {best:.3f}")
    )


def schedule() -> None:
    kind: Any = RandomOptimizer
    suggest = kind._suggest
    for seconds in (0.05, 0.4, 1.0):

        def slow(optimizer: Any, seconds: float = seconds) -> Any:
            time.sleep(seconds)
            return suggest(optimizer)

        kind._suggest = slow
        for ahead in (False, True):
            found, _ = waits("RandomOptimizer", 40, ahead=ahead)
            show(f"asks of {seconds} s, {'ahead' if ahead else 'not ahead'}", found)
    kind._suggest = suggest


def real() -> None:
    for optimizer in ("OptunaOptimizer", "AxOptimizer"):
        for ahead in (False, True):
            found, best = waits(optimizer, 60, ahead=ahead)
            show(f"{optimizer}, {'ahead' if ahead else 'not ahead'}", found, best)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["schedule", "real"])
    {"schedule": schedule, "real": real}[parser.parse_args().what]()
