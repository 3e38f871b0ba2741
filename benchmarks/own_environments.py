"""What a suggestion of NePS and HEBO costs: `python benchmarks/own_environments.py ENV`.

ENV is an environment that `python -m crystallize_opt.adapters install` made. 20 trials of Branin
with an integer and a choice; printed is the median time of the other process' CPUs for a suggestion
of the initial design and of the model. It takes a minute.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from statistics import median
from typing import Any

import psutil

from crystallize_opt import Categorical, Float, Integer, Objective, SearchSpace
from crystallize_opt.adapters import HEBOOptimizer, NePSOptimizer

LOSS = Objective("loss", "minimize")
SPACE = SearchSpace(
    {
        "x": Float(-5, 10),
        "lr": Float(1e-5, 1e-1, log=True),
        "n": Integer(1, 9),
        "act": Categorical(["relu", "tanh", "gelu"]),
    }
)
INITIAL = 5


def loss(params: Mapping[str, Any]) -> float:
    """Branin's function, and a penalty for the integer and the choice."""
    x, y = params["x"], 15 * (math.log10(params["lr"]) + 5) / 4
    branin = (y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6) ** 2
    branin += 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10
    return float(branin + abs(params["n"] - 4) + 2 * (params["act"] != "tanh"))


def main(environment: str) -> None:
    """Print a line for the optimizer whose library is there."""
    kind: Any = HEBOOptimizer if "hebo" in environment else NePSOptimizer
    optimizer = kind(SPACE, LOSS, seed=0, python=environment)
    child = psutil.Process(optimizer.pid)

    def of_cpus() -> float:
        times = child.cpu_times()
        return float(times.user + times.system)

    seconds = []
    for _ in range(20):
        before = of_cpus()
        (treatment,) = optimizer.ask()
        seconds.append(of_cpus() - before)
        optimizer.tell({"loss": loss(treatment.params)})
    memory = child.memory_info().rss / 1e6
    best = optimizer.history.best["loss"]
    print(
        f"{kind.__name__}: {1000 * median(seconds[:4]):.0f} ms at first, then "
        f"{median(seconds[INITIAL:]):.2f} s (at most {max(seconds):.2f} s); {memory:.0f} MB; "
        f"best of 20: {best:.2f}"
    )


if __name__ == "__main__":
    main(sys.argv[1])
