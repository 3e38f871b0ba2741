"""What a batch of six suggestions of Ax takes, asked for at once and one by one.

Run it with `python benchmarks/batches.py`; it takes a minute. The least CPU time of five runs, with
one thread, so that other programs on the machine play little part. The space has four floats, and
six trials are known: five of Sobol, and the first of the model.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from ax.api.client import Client
from ax.api.configs import RangeParameterConfig

from crystallize_opt import Objective
from crystallize_opt.adapters import AxOptimizer

SPACE = {f"x{i}": (0.0, 1.0) for i in range(4)}
SIX = 6
TIMES = 5


def loss(params: Any) -> float:
    return float(sum((value - 0.4) ** 2 for value in params.values()))


def ours() -> Any:
    optimizer = AxOptimizer(SPACE, Objective("loss", "minimize"), seed=0)
    for _ in range(SIX):
        (treatment,) = optimizer.ask()
        optimizer.tell({"loss": loss(treatment.params)})
    return optimizer


def native() -> Client:
    client = Client(random_seed=0)
    client.configure_experiment(
        [RangeParameterConfig(name=n, bounds=b, parameter_type="float") for n, b in SPACE.items()]
    )
    client.configure_optimization("-loss")
    client.configure_generation_strategy(
        initialization_random_seed=0,
        initialize_with_center=False,
        allow_exceeding_initialization_budget=True,
    )
    for _ in range(SIX):
        for index, params in client.get_next_trials(1).items():
            client.complete_trial(index, {"loss": loss(params)})
    return client


def seconds(make: Callable[[], Any], ask: Callable[[Any], Any]) -> float:
    made = make()
    begin = time.process_time()
    ask(made)
    return time.process_time() - begin


WAYS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "Ax, at once": (native, lambda client: client.get_next_trials(SIX)),
    "Ax, one by one": (native, lambda client: [client.get_next_trials(1) for _ in range(SIX)]),
    "AxOptimizer, at once": (ours, lambda optimizer: optimizer.ask(SIX)),
    "AxOptimizer, one by one": (ours, lambda optimizer: [optimizer.ask() for _ in range(SIX)]),
}


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable()
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(TIMES):
        for name, (make, ask) in WAYS.items():
            taken[name].append(seconds(make, ask))
    print("| six suggestions | CPU time |\n| --- | --- |")
    for name, each in taken.items():
        print(f"| {name} | {min(each):.1f} s |", flush=True)


if __name__ == "__main__":
    main()
