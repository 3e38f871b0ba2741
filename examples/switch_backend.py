"""One run, three backends: 20 trials with Optuna, then on with Ax, then with SMAC.

It needs `pip install "crystallize-opt[optuna,ax,smac]"`. Everything is in one file, switch.db, and
every backend knows all trials, its own and those of the others.
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
        raise ValueError("too wide")  # a failed trial moves along, too
    errors = [abs((x - center) / (1 + width)) ** power for x in data]
    ctx.metrics.add("loss", (sum if kind == "sum" else max)(errors) + width / 10)
    return data


def main(path: Path, trials: tuple[int, int, int] = (20, 26, 32)) -> list[Any]:
    """Run the search, and return the three optimizers."""
    experiment = Experiment(points(), Pipeline([fit()]), seed=0, name="switch")
    space, loss = experiment.search_space(), Objective("loss", "minimize")

    optuna = OptunaOptimizer(space, loss, seed=0)
    experiment.optimize(optuna, trials[0], storage=path)

    # Another backend learns what there is, and goes on: the same run, up to so many trials in all.
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
