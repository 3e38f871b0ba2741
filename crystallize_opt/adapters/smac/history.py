"""Reads a SMAC run directory into a `History`. SMAC is not needed, because the files are JSON."""

from __future__ import annotations

import importlib.util
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from crystallize_opt.errors import StorageError
from crystallize_opt.history.foreign import Notes, point_of
from crystallize_opt.history.history import History
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

# The numbers of `smac.runhistory.StatusType` -> statuses; 0, a running trial, is left out.
_STATUSES = {
    1: Status.COMPLETED,
    2: Status.FAILED,
    3: Status.TIMED_OUT,
    4: Status.OUT_OF_MEMORY,
    8: Status.ABANDONED,
}


Pairs = frozenset[tuple[str | None, int | None]]
"""Instances and seeds that a trial ran on."""


def history_from_smac(directory: str | os.PathLike[str]) -> History:
    """Read a SMAC run directory: `<output_directory>/<name>/<seed>`.

    A configuration that SMAC ran with several seeds or instances becomes one trial with several
    replicates. One that it ran with several budgets becomes a trial for each budget, with the
    metric `budget`. As in SMAC, means over different runs are not compared: constraints restrict
    the best trial to the highest budget and to the runs that the best-tested trials share (metric
    `shared runs`). All objectives are minimized. `notes` lists what the history leaves out, such as
    a space that `SearchSpace` cannot express. The directory is only read.

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
        trials = _trials(history["data"])
        configs = history["configs"]
        notes = Notes()
        space = _space(folder / "configspace.json", notes)
        constraints, shared = _comparable(trials, notes)
        observations, pending = [], []
        for (config, budget), runs in trials.items():
            name = f"smac_{config}" if budget is None else f"smac_{config} budget {budget!r}"
            treatment = Treatment(name, point_of(space, configs[str(config)]))
            finished = [run for run in runs if run["status"] != 0]
            if len(finished) < len(runs):
                pending.append(treatment)
            if finished:
                further = {} if budget is None else {"budget": float(budget)}
                if shared:
                    further[_SHARED] = float(len(shared & _pairs(finished)))
                replicates = [
                    _replicate(index, run, names, further, notes)
                    for index, run in enumerate(finished)
                ]
                observations.append(Observation.of_replicates(treatment, replicates))
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise StorageError(f"{str(folder)!r} does not hold a run of SMAC: {error!r}.") from error
    if scenario.get("instance_features"):
        notes.add("The features of the instances are left out.")
    return History(
        observations,
        [Objective(name, "minimize") for name in names],
        constraints,
        space=space,
        pending=pending,
        name=scenario.get("name"),
        notes=notes.of_points(space, observations),
    )


_SHARED = "shared runs"


def _trials(data: list[dict[str, Any]]) -> dict[tuple[Any, Any], list[dict[str, Any]]]:
    trials: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for run in data:
        trials.setdefault((run["config_id"], run["budget"]), []).append(run)
    return trials


def _pairs(runs: list[dict[str, Any]]) -> Pairs:
    return frozenset((run["instance"], run["seed"]) for run in runs)


def _comparable(
    trials: dict[tuple[Any, Any], list[dict[str, Any]]], notes: Notes
) -> tuple[list[Constraint], Pairs]:
    """Return constraints that only comparable trials satisfy, and the runs that these share.

    The runs are empty if all trials ran alike.
    """
    completed = {
        key: _pairs(runs) for key, runs in trials.items() if all(run["status"] == 1 for run in runs)
    }
    constraints = []
    budgets = {budget for _, budget in completed}
    if len(budgets) > 1:
        highest = max(budgets)
        constraints.append(Constraint("budget", ">=", float(highest)))
        completed = {key: pairs for key, pairs in completed.items() if key[1] == highest}
        notes.add(f"Only trials of the highest budget, {highest!r}, may be the best.")
    counts = Counter(completed.values())
    if len(counts) < 2:
        return constraints, frozenset()
    shared = max(counts, key=lambda pairs: (len(pairs), counts[pairs]))
    constraints.append(Constraint(_SHARED, ">=", float(len(shared))))
    notes.add(
        "Trials ran on different instances or seeds, so that their means are not comparable: only "
        f"trials with the same {len(shared)} runs may be the best (metric {_SHARED!r})."
    )
    return constraints, shared


def _replicate(
    index: int, run: dict[str, Any], names: list[str], further: dict[str, float], notes: Notes
) -> Replicate:
    status = _STATUSES.get(run["status"], Status.FAILED)
    info = run.get("additional_info") or {}
    metrics = {key: float(value) for key, value in info.items() if type(value) in (int, float)}
    for key in info.keys() - metrics.keys() - {"error", "traceback"}:
        notes.add(f"The additional information {key!r} is left out, because it is not a number.")
    if status is Status.COMPLETED:
        costs = run["cost"] if isinstance(run["cost"], list) else [run["cost"]]
        for name, cost in zip(names, map(float, costs), strict=True):
            metrics[name] = cost
            if run["instance"] is not None:
                metrics[f"{name}[{run['instance']}]"] = cost
    text = f"SMAC says {status}" if status is not Status.COMPLETED else None
    return Replicate(
        index,
        run["seed"],
        {**metrics, **further},
        status,
        str(info["error"]) if "error" in info else text,
        info.get("traceback"),
        run["starttime"] or None,
        run["time"],
    )


def _space(path: Path, notes: Notes) -> SearchSpace | None:
    if importlib.util.find_spec("ConfigSpace") is None or not path.exists():
        notes.add(f"The history has no space: that needs ConfigSpace and the file {path.name!r}.")
        return None
    from ConfigSpace import ConfigurationSpace

    from crystallize_opt.adapters.configspace import from_configspace

    try:
        return from_configspace(ConfigurationSpace.from_json(path))
    except (LookupError, TypeError, ValueError) as error:  # ConfigSpace cannot read all it writes.
        notes.add(f"The history has no space: {error}")
        return None
