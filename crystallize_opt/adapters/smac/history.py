"""Reads a SMAC run directory into a `History`. SMAC is not needed, because the files are JSON."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from crystallize_opt.errors import StorageError
from crystallize_opt.history.history import History
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.observation import Observation, Replicate, Status
from crystallize_opt.trials.treatment import Treatment

# The numbers of `smac.runhistory.StatusType` -> statuses; 0, a running trial, is left out.
_STATUSES = {
    1: Status.COMPLETED,
    2: Status.FAILED,
    3: Status.TIMED_OUT,
    4: Status.OUT_OF_MEMORY,
    8: Status.ABANDONED,
}


def history_from_smac(directory: str | os.PathLike[str]) -> History:
    """Read a SMAC run directory: `<output_directory>/<name>/<seed>`.

    A configuration that SMAC ran with several seeds becomes one trial with several replicates. One
    that it ran with several budgets becomes a trial for each budget, with the metric `budget`. All
    objectives are minimized, as in SMAC. The space is read if ConfigSpace is installed.

    Args:
        directory: The directory that holds `runhistory.json` and `scenario.json`.

    Raises:
        StorageError: The directory does not contain a SMAC run.
    """
    folder = Path(directory)
    try:
        scenario = json.loads((folder / "scenario.json").read_text(encoding="utf-8"))
        history = json.loads((folder / "runhistory.json").read_text(encoding="utf-8"))
        objectives = scenario["objectives"]
        names = [objectives] if isinstance(objectives, str) else list(objectives)
        space = _space(folder / "configspace.json")
        trials = _trials(history["data"])
        configs = history["configs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{str(folder)!r} does not hold a run of SMAC's: {error!r}.") from error
    observations, pending = [], []
    for (config, budget), runs in trials.items():
        name = f"smac_{config}" if budget is None else f"smac_{config} budget {budget!r}"
        params = configs[str(config)]
        treatment = Treatment(name, params if space is None else space.validate(params))
        if any(run["status"] == 0 for run in runs):
            pending.append(treatment)
        finished = [run for run in runs if run["status"] != 0]
        if finished:
            replicates = [
                _replicate(index, run, names, budget) for index, run in enumerate(finished)
            ]
            observations.append(Observation.of_replicates(treatment, replicates).checked(names))
    return History(
        observations,
        [Objective(name, "minimize") for name in names],
        space=space,
        pending=pending,
        name=scenario.get("name"),
    )


def _trials(data: list[dict[str, Any]]) -> dict[tuple[Any, Any], list[dict[str, Any]]]:
    trials: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for run in data:
        trials.setdefault((run["config_id"], run["budget"]), []).append(run)
    return trials


def _replicate(
    index: int, run: dict[str, Any], names: list[str], budget: float | None
) -> Replicate:
    status = _STATUSES.get(run["status"], Status.FAILED)
    metrics: dict[str, float] = {}
    if status is Status.COMPLETED:
        costs = run["cost"] if isinstance(run["cost"], list) else [run["cost"]]
        metrics.update(zip(names, map(float, costs), strict=True))
    if budget is not None:
        metrics["budget"] = float(budget)
    text = f"SMAC says {status}" if status is not Status.COMPLETED else None
    info = run.get("additional_info") or {}
    return Replicate(
        index,
        run["seed"],
        metrics,
        status,
        str(info["error"]) if "error" in info else text,
        info.get("traceback"),
        run["starttime"] or None,
        run["time"],
    )


def _space(path: Path) -> SearchSpace | None:
    if importlib.util.find_spec("ConfigSpace") is None or not path.exists():
        return None
    from ConfigSpace import ConfigurationSpace

    from crystallize_opt.adapters.configspace import from_configspace

    return from_configspace(ConfigurationSpace.from_json(path))
