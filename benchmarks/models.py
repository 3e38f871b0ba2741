"""What the layer adds to Ax and SMAC where each suggestion trains a model: ratios within one run.

Run it with `python benchmarks/models.py`; it takes about three minutes (`--quick`: one) and prints
the table of docs/overhead.md. The layer and the native loop take turns, trial by trial, and both
suggest the same points, which is checked. The figures are medians of CPU time, and of its ratio
trial by trial, after the initial design. The native loops are set up as docs/ax.md and docs/smac.md
say.
"""

from __future__ import annotations

import argparse
import logging
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from crystallize_opt import Float, Integer, Objective, SpaceOptimizer
from crystallize_opt.adapters import AxOptimizer, SMACOptimizer

LOSS = Objective("loss", "minimize")
INITIAL = 5
SPACE: dict[str, Float | Integer] = {
    "a": Float(0.0, 1.0),
    "b": Float(0.0, 1.0),
    "rate": Float(1e-5, 1.0, log=True),
    "n": Integer(1, 20),
}

Point = Mapping[str, Any]
Trial = Callable[[], Point]


def loss(point: Point) -> float:
    return float(
        (point["a"] - 0.3) ** 2
        + (point["b"] - 0.7) ** 2
        + abs(point["n"] - 5) / 10
        + abs(point["rate"] - 0.1)
    )


def of_layer(optimizer: SpaceOptimizer[Any]) -> Trial:
    def trial() -> Point:
        (treatment,) = optimizer.ask()
        optimizer.tell({"loss": loss(treatment.params)})
        return treatment.params

    return trial


def medians(ours: Trial, native: Trial, trials: int) -> tuple[float, float, float]:
    """Take turns, and return CPU seconds of a trial after the initial design, and their ratio."""
    seconds: dict[Trial, list[float]] = {ours: [], native: []}
    for number in range(trials):
        points = {}
        for trial in (ours, native) if number % 2 else (native, ours):
            start = time.process_time()
            points[trial] = dict(trial())
            seconds[trial].append(time.process_time() - start)
        if points[ours] != points[native]:
            raise SystemExit(f"Not the same suggestions: {points[ours]}, {points[native]}")
    modelled = [seconds[each][INITIAL + 1 :] for each in (ours, native)]
    return *map(median, modelled), median(a / b for a, b in zip(*modelled, strict=True))


def row(what: str, ours: float, native: float, ratio: float, aim: str) -> str:
    return (
        f"| ask + tell, {what} | {1e3 * ours:,.0f} ms | native: {1e3 * native:,.0f} ms | "
        f"{ratio:.3f} | at most {aim} |"
    )


def ax_rows(quick: bool) -> Iterator[str]:
    optimizer = AxOptimizer(SPACE, LOSS, seed=0)
    import torch
    from ax.api.client import Client
    from ax.api.configs import RangeParameterConfig

    # As the layer does: one thread of torch, and no messages.
    torch.set_num_threads(1)
    logging.disable()
    client = Client(random_seed=0)
    client.configure_experiment(
        parameters=[
            RangeParameterConfig(
                name=name,
                bounds=(each.low, each.high),
                parameter_type="int" if isinstance(each, Integer) else "float",
                scaling="log" if each.log else None,
            )
            for name, each in SPACE.items()
        ]
    )
    client.configure_optimization(objective="-loss")
    client.configure_generation_strategy(
        initialization_random_seed=0,
        initialize_with_center=False,
        allow_exceeding_initialization_budget=True,
    )

    def native() -> Point:
        ((index, point),) = client.get_next_trials(1).items()
        client.complete_trial(index, {"loss": loss(point)})
        return point

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = medians(of_layer(optimizer), native, 12 if quick else 30)
    logging.disable(logging.NOTSET)
    yield row("Ax, Gaussian process", *times, "1.05")


def smac_rows(quick: bool) -> Iterator[str]:
    for lean in (True, False):
        optimizer = SMACOptimizer(SPACE, LOSS, seed=0, n_init=INITIAL)
        with tempfile.TemporaryDirectory() as folder:
            native = native_smac(Path(folder), lean=lean)
            times = medians(of_layer(optimizer), native, 15 if quick else 40)
        what = "with this layer's forest" if lean else "with its own forest"
        yield row(f"SMAC {what}, HPO facade", *times, "1.03")


def native_smac(folder: Path, *, lean: bool) -> Trial:
    import ConfigSpace
    from smac import HyperparameterOptimizationFacade, Scenario
    from smac.acquisition.maximizer import LocalAndSortedRandomSearch
    from smac.runhistory import TrialValue

    from crystallize_opt.adapters.smac.components import LeanForest
    from crystallize_opt.adapters.smac.facade import _derive, _make_repeatable

    configspace = ConfigSpace.ConfigurationSpace()
    for name, each in SPACE.items():
        make: Any = ConfigSpace.Integer if isinstance(each, Integer) else ConfigSpace.Float
        configspace.add(make(name, (each.low, each.high), log=each.log))
    scenario = Scenario(
        configspace, deterministic=True, n_trials=100, seed=0, output_directory=folder
    )
    kind = HyperparameterOptimizationFacade
    facade = kind(
        scenario,
        None,
        logging_level=False,
        overwrite=True,
        config_selector=kind.get_config_selector(scenario, retrain_after=1),
        initial_design=kind.get_initial_design(scenario, n_configs=INITIAL, max_ratio=1.0),
    )
    maximizer = facade._acquisition_maximizer
    assert isinstance(maximizer, LocalAndSortedRandomSearch)
    _make_repeatable(maximizer)  # else the order depends on PYTHONHASHSEED
    if lean:
        _derive(facade._model, LeanForest)

    def trial() -> Point:
        info = facade.ask()
        facade.tell(info, TrialValue(cost=loss(info.config)), save=False)
        return dict(info.config)

    return trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer measurements")
    quick = parser.parse_args().quick
    libraries = ", ".join(f"{name} {version(name)}" for name in ("ax-platform", "smac", "torch"))
    print(f"Python {platform.python_version()}, {libraries}, {platform.system()}\n")
    print("| what | crystallize-opt | compared with | ratio | aim |")
    print("| --- | --- | --- | --- | --- |")
    for rows in (smac_rows, ax_rows):
        for each in rows(quick):
            print(each, flush=True)


if __name__ == "__main__":
    main()
