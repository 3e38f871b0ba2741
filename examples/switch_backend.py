"""One run, three backends: 20 trials with Optuna, then 6 more with Ax, then 6 more with SMAC.

Install the backends with `pip install "crystallize-opt[optuna,ax,smac]"`. The run is stored in one
file, switch.db, and each backend learns from all trials before it, also those of other backends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from crystallize_opt import (
    Categorical,
    Experiment,
    Float,
    History,
    Integer,
    Objective,
    Pipeline,
    Storage,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import AxOptimizer, OptunaOptimizer, SMACOptimizer


@data_source
def points(ctx: Any) -> list[float]:
    return [-1.0, 0.0, 2.0]


@pipeline_step()
def fit(
    data: list[float],
    ctx: Any,
    *,
    center: Annotated[float, Float(-5, 5)] = 0.0,
    width: Annotated[float, Float(0.01, 10, log=True)] = 1.0,
    power: Annotated[int, Integer(1, 4)] = 2,
    kind: Annotated[str, Categorical(["sum", "max"])] = "sum",
) -> list[float]:
    if width > 3:
        raise ValueError("too wide")  # The next backend also learns from failed trials.
    errors = [abs((x - center) / (1 + width)) ** power for x in data]
    ctx.metrics.add("loss", (sum if kind == "sum" else max)(errors) + width / 10)
    return data


def main(path: Path, trials: tuple[int, int, int] = (20, 26, 32)) -> list[Any]:
    """Run the search, and return the three optimizers."""
    experiment = Experiment(points(), Pipeline([fit()]), seed=0, name="switch")
    space, loss = experiment.search_space(), Objective("loss", "minimize")

    optuna = OptunaOptimizer(space, loss, seed=0)
    experiment.optimize(optuna, trials[0], storage=path)

    # Another backend learns from all stored trials, and continues the run. The number of trials is
    # the run's total.
    ax = AxOptimizer(space, loss, seed=0)
    experiment.optimize(ax, trials[1], storage=Storage(path, resume="attach"))

    smac = SMACOptimizer(space, loss, seed=0)
    best = experiment.optimize(smac, trials[2], storage=Storage(path, resume="attach"))

    print(f"Optuna's study has {len(optuna.study.trials)} trials,")
    print(f"Ax's client {len(ax.client.summarize())},")
    print(f"SMAC's run history {smac.facade.runhistory.finished}.")
    print(f"Best: {dict(best.params)}")
    print(History.load(path))
    return [optuna, ax, smac]


if __name__ == "__main__":
    main(Path("switch.db"))
