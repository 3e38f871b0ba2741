"""A search in a real MLflow store, a SQLite file."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import FrozenContext, Objective, Workers
from crystallize_opt.adapters import GridOptimizer
from crystallize_opt.errors import MissingExtraError
from tests.toy import experiment_of

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload")


def test_each_trial_is_a_run_nested_in_the_search(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    from crystallize_opt.integrations.mlflow import MLflowCallback

    def record(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x < 0:
            raise ValueError("boom")
        return data, {"loss": x}

    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    optimizer = GridOptimizer({"x": [2.0, -1.0, 1.0]}, Objective("loss", "minimize"))
    callback = MLflowCallback("digits", tracking_uri=uri)
    experiment_of(record).optimize(
        optimizer, 3, callbacks=[callback], workers=Workers("threads", 2)
    )

    client: Any = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    search = by_name.pop("GridOptimizer")
    assert search.info.status == "FINISHED"
    assert search.data.tags["stop_reason"] == "3 trials have been run"
    assert search.data.tags["best_trial"] == "trial_2"
    assert search.data.params["objective.loss"] == "minimize"
    parents = {run.data.tags["mlflow.parentRunId"] for run in by_name.values()}
    assert parents == {search.info.run_id}
    assert {
        name: (run.info.status, run.data.params["x"], run.data.metrics.get("loss"))
        for name, run in by_name.items()
    } == {
        "trial_0": ("FINISHED", "2.0", 2.0),
        "trial_1": ("FAILED", "-1.0", None),
        "trial_2": ("FINISHED", "1.0", 1.0),
    }
    assert "ValueError: boom" in by_name["trial_1"].data.tags["error"]


def test_mlflow_that_is_missing_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "crystallize_opt.integrations.mlflow", raising=False)

    with pytest.raises(MissingExtraError, match=re.escape('pip install "crystallize-opt[mlflow]"')):
        importlib.import_module("crystallize_opt.integrations.mlflow")
