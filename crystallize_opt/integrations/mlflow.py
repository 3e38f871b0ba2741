"""Record a search with MLflow. Needs `crystallize-opt[mlflow]`."""

from __future__ import annotations

import time
from typing import Any

from crystallize_opt.runtime.extras import needs
from crystallize_opt.search.callbacks import (
    Event,
    RunStarted,
    RunStopped,
    TrialCompleted,
    TrialFailed,
    TrialStarted,
)
from crystallize_opt.trials.observation import Observation

with needs("MLflowCallback needs", "mlflow", extra="mlflow"):
    from mlflow import MlflowClient
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID


class MLflowCallback:
    """Creates one MLflow run for the search, and in it a nested run for each trial.

    The callback uses its own client; MLflow's active run and global tracking URI stay unchanged.

    Args:
        experiment: The name of the MLflow experiment, created if it does not exist.
        tracking_uri: Where MLflow keeps its records, `"sqlite:///runs.db"` for example; None for
            MLflow's default.
        run_name: The name of the search's run; None for the optimizer's name.
    """

    def __init__(
        self,
        experiment: str = "crystallize_opt",
        *,
        tracking_uri: str | None = None,
        run_name: str | None = None,
    ) -> None:
        self._client: Any = MlflowClient(tracking_uri=tracking_uri)
        self._experiment = experiment
        self._run_name = run_name
        self._experiment_id = ""
        self._parent = ""
        self._trials: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._begin(event)
        elif isinstance(event, TrialStarted):
            self._run_of(event.treatment)
        elif isinstance(event, (TrialCompleted, TrialFailed)):
            self._end_trial(event.observation)
        elif isinstance(event, RunStopped):
            self._client.set_tag(self._parent, "stop_reason", event.reason)
            if event.best is not None:
                self._client.set_tag(self._parent, "best_trial", event.best.name)
            status = "FINISHED" if event.error is None else "FAILED"
            self._client.set_terminated(self._parent, status)

    def _begin(self, event: RunStarted) -> None:
        found = self._client.get_experiment_by_name(self._experiment)
        self._experiment_id = (
            found.experiment_id if found else self._client.create_experiment(self._experiment)
        )
        run = self._client.create_run(
            self._experiment_id, run_name=self._run_name or event.optimizer
        )
        self._parent, self._trials = run.info.run_id, {}
        self._client.log_param(self._parent, "optimizer", event.optimizer)
        self._client.log_param(self._parent, "num_trials", event.num_trials)
        self._client.log_param(self._parent, "replicates_per_trial", event.replicates_per_trial)
        for objective in event.objectives:
            self._client.log_param(
                self._parent, f"objective.{objective.metric}", objective.direction
            )

    def _run_of(self, treatment: Any) -> str:
        if treatment.name not in self._trials:
            run = self._client.create_run(
                self._experiment_id,
                run_name=treatment.name,
                tags={MLFLOW_PARENT_RUN_ID: self._parent},
                start_time=int(1000 * time.time()),
            )
            self._trials[treatment.name] = run.info.run_id
            for name, value in treatment.params.items():
                self._client.log_param(run.info.run_id, name, value)
        return self._trials[treatment.name]

    def _end_trial(self, observation: Observation) -> None:
        run = self._run_of(observation.treatment)
        for name, value in observation.items():
            self._client.log_metric(run, name, value)
        self._client.set_tag(run, "status", observation.status.value)
        if observation.error is not None:
            self._client.set_tag(run, "error", observation.error)
        self._client.set_terminated(run, "FINISHED" if observation.status.has_value else "FAILED")
        del self._trials[observation.treatment.name]
