"""SigOpt's optimization loop on one's own machine: the client is SigOpt's, the optimizer any.

Kill it at any moment and start it again: it goes on where it was. `pip install sigopt`, then run:

    python examples/sigopt_loop.py

With a server (`crystallize-opt serve service.db`) replace the connection by `Connection()`, and set
SIGOPT_API_URL and SIGOPT_API_TOKEN.
"""

from __future__ import annotations

import math
from typing import Any

from sigopt import Connection

from crystallize_opt.service import Driver

NAME = "Branin"


def branin(assignments: Any) -> float:
    x, y = assignments["x"], assignments["y"]
    if x > 9.5:
        raise ValueError("The simulation did not converge.")
    curve = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return float(curve**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


def experiment_of(conn: Any) -> Any:
    """Return the experiment, which an earlier start may have created."""
    for known in conn.experiments().fetch().iterate_pages():
        if known.name == NAME:
            return known
    return conn.experiments().create(
        name=NAME,
        parameters=[
            {"name": "x", "type": "double", "bounds": {"min": -5.0, "max": 10.0}},
            {"name": "y", "type": "double", "bounds": {"min": 0.0, "max": 15.0}},
        ],
        metrics=[{"name": "value", "objective": "minimize"}],
        observation_budget=30,
        metadata={"optimizer": "OptunaOptimizer", "seed": 0},
    )


def main(storage: str = "service.db") -> None:
    conn = Connection(driver=Driver, storage=storage)
    experiment = experiment_of(conn)
    while experiment.progress.observation_count < experiment.observation_budget:
        suggestion = conn.experiments(experiment.id).suggestions().create()
        try:
            outcome: dict[str, Any] = {
                "values": [{"name": "value", "value": branin(suggestion.assignments)}]
            }
        except ValueError:
            outcome = {"failed": True}
        conn.experiments(experiment.id).observations().create(suggestion=suggestion.id, **outcome)
        experiment = conn.experiments(experiment.id).fetch()
    best = next(conn.experiments(experiment.id).best_assignments().fetch().iterate_pages())
    print(f"{experiment.progress.observation_count} observations")
    print(f"The best value is {best.value:.3f} at {dict(best.assignments)}")
    conn.impl.driver.close()


if __name__ == "__main__":
    main()
