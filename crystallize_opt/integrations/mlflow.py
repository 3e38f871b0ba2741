"""Record a search with MLflow. Needs `crystallize-opt[mlflow]`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.runtime.extras import needs
from crystallize_opt.search.callbacks import (
    BaselineCompleted,
    Event,
    RunStarted,
    RunStopped,
    TrialCompleted,
    TrialFailed,
    TrialStarted,
)
from crystallize_opt.trials.best_so_far import BestSoFar
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

with needs("MLflowCallback needs", "mlflow", extra="mlflow"):
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    from crystallize_opt.integrations.mlflow_names import (
        PREFIX,
        as_params,
        as_tags,
        curve_names,
        plain_text,
        sem_name,
    )
    from crystallize_opt.integrations.mlflow_writer import Writer

_EXPERIMENT = "crystallize_opt"
_RUN, _TRIAL = f"{PREFIX}run", f"{PREFIX}trial"
_LONGEST_RUN_NAME = 250
_BEST = "best."
_ENDED = ("FINISHED", "FAILED")


class MLflowCallback:
    """Creates one MLflow run for the search, and in it a nested run for each trial.

    The search's run is nested in the run that is active in MLflow, if there is one, and has the
    metrics of the best trial so far. A stored search that is resumed continues its run, wherever
    that is nested, and the runs of its unfinished trials. The callback uses its own client;
    MLflow's active run and global tracking URI stay unchanged. docs/mlflow.md lists what is
    recorded.

    If MLflow fails, the callback logs one warning and the search continues. What could not be
    recorded is recorded as soon as MLflow works again, at the end of the search at the latest.

    Args:
        experiment: The name of the MLflow experiment, created if it does not exist. None for the
            experiment of the active run; without one for `"crystallize_opt"`. With None, a search
            that is resumed finds its run in any experiment.
        tracking_uri: Where MLflow keeps its records, `"sqlite:///runs.db"` for example; None for
            MLflow's default.
        run_name: The name of the search's run; None for the name of the stored run or of the
            experiment, or else of the optimizer.

    Raises:
        UsageError: The experiment's name is empty or not a text.
    """

    def __init__(
        self,
        experiment: str | None = None,
        *,
        tracking_uri: str | None = None,
        run_name: str | None = None,
    ) -> None:
        if experiment is not None and not (isinstance(experiment, str) and experiment):
            raise UsageError(f"experiment= is the name of an experiment, not {experiment!r}.")
        self._client: Any = MlflowClient(tracking_uri=tracking_uri)
        self._experiment = experiment
        self._run_name = run_name
        # A search within an event loop may call this callback in another thread, and MLflow has an
        # active run for each thread.
        self._active: Any = mlflow.active_run()
        self._writer = Writer(self._client)
        self._to_do, self._log = self._writer.to_do, self._writer.log
        self._forget()

    def _forget(self) -> None:
        """Forget the search before."""
        self._writer.forget()
        self._parent = self._experiment_id = ""
        self._best_tags: set[str] = set()
        self._runs: dict[int, tuple[Treatment, str]] = {}  # Of unfinished trials.
        self._unfinished: dict[str, list[str]] = {}  # Of the search before it was resumed.
        self._ended: Counter[str] = Counter()
        self._seen: list[Observation] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._forget()
            self._best = BestSoFar(event.criterion)
            metrics = [each.metric for each in event.criterion.objectives]
            metrics += [each.metric for each in event.criterion.constraints]
            self._decisive = {*metrics, *(f"{metric}.sem" for metric in metrics)}
            self._to_do.append(partial(self._begin, event))
            if event.baseline is not None:
                self._to_do.append(partial(self._log_baseline, event.baseline))
            for observation in event.resumed:
                self._seen.append(observation)
                self._best.add(observation)
                self._to_do.append(partial(self._add_resumed, observation))
            self._note_best()
        elif self._writer.is_off:
            return
        elif isinstance(event, BaselineCompleted):
            self._to_do.append(partial(self._log_baseline, event.observation))
        elif isinstance(event, TrialStarted):
            self._to_do.append(partial(self._start_trial, event.treatment, time.time()))
        elif isinstance(event, (TrialCompleted, TrialFailed)):
            self._seen.append(event.observation)
            self._to_do.append(partial(self._end_trial, event.observation))
            if self._best.add(event.observation):
                self._note_best()
        elif isinstance(event, RunStopped):
            self._to_do.append(partial(self._end, event))
        else:
            return
        self._writer.work(lambda: self._parent, is_last=isinstance(event, RunStopped))

    def _note_best(self) -> None:
        best = self._best.best
        if best is not None:
            self._to_do.append(partial(self._log_best, best, len(self._seen)))

    # The search's run -----------------------------------------------------------------------------

    def _begin(self, event: RunStarted) -> None:
        settings = {
            "optimizer": event.optimizer,
            "num_trials": event.num_trials,
            "replicates_per_trial": event.replicates_per_trial,
            **{f"objective.{each.metric}": each.direction for each in event.objectives},
            **{
                f"threshold.{each.metric}": each.threshold
                for each in event.objectives
                if each.threshold is not None
            },
        }
        if constraints := event.criterion.constraints:
            settings["constraints"] = "; ".join(each.text for each in constraints)
        if not self._parent:
            found = self._run_before(event)
            if found is not None:
                self._continue(found, settings)
                return
            outer = self._active_run()
            self._experiment_id = self._experiment_for(outer)
            self._parent = self._create_parent(event, outer)
        self._log(self._parent, params=settings)

    def _log_baseline(self, baseline: Observation) -> None:
        self._log(self._parent, {f"baseline.{name}": value for name, value in baseline.items()})

    def _create_parent(self, event: RunStarted, outer: Any) -> str:
        tags = {} if outer is None else {MLFLOW_PARENT_RUN_ID: outer.info.run_id}
        if event.stored_run is not None:
            tags[_RUN] = event.stored_run
        name = plain_text(self._run_name or event.title)[:_LONGEST_RUN_NAME]
        return str(
            self._client.create_run(self._experiment_id, run_name=name, tags=tags).info.run_id
        )

    def _continue(self, found: Any, settings: Mapping[str, object]) -> None:
        """Continue the run of a search that is resumed."""
        run_id, self._experiment_id = found.info.run_id, found.info.experiment_id
        self._client.update_run(run_id, status="RUNNING")
        # A param cannot be changed in MLflow, but a tag can.
        now, _ = as_params(settings)
        before = {**found.data.params, **found.data.tags}
        self._log(run_id, tags={name: now[name] for name in now if before.get(name) != now[name]})
        self._best_tags = {name for name in found.data.tags if name.startswith(_BEST)}
        self._ended.clear()
        self._unfinished.clear()
        for run in self._nested_runs(run_id):
            name = run.data.tags[_TRIAL]
            if run.info.status in _ENDED:
                self._ended[name] += 1
            else:
                self._unfinished.setdefault(name, []).append(run.info.run_id)
        self._parent = run_id

    def _active_run(self) -> Any:
        """Return the run in which the search's run is nested, or None."""
        active = mlflow.active_run() or self._active
        if active is None or mlflow.get_tracking_uri() != self._client.tracking_uri:
            return None
        run = self._client.get_run(active.info.run_id)
        return run if run.info.status == "RUNNING" else None

    def _experiment_for(self, outer: Any) -> str:
        if self._experiment is None and outer is not None:
            return str(outer.info.experiment_id)
        name = self._experiment or _EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # Another process was faster.
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _run_before(self, event: RunStarted) -> Any:
        """Return the run of the stored search that is resumed, or None.

        Without a given experiment, the run may be in any: that of the run that was active then.
        """
        if event.stored_run is None:
            return None
        if self._experiment is None:
            experiments = [each.experiment_id for each in _all(self._client.search_experiments)]
        else:
            experiments = [self._experiment_for(None)]
        condition = f"tags.`{_RUN}` = '{event.stored_run}'"
        return next(_all(self._client.search_runs, experiments, condition), None)

    def _nested_runs(self, parent: str, condition: str = "") -> list[Any]:
        """Return the runs of a search's trials."""
        condition = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'{condition}"
        runs = _all(self._client.search_runs, [self._experiment_id], condition)
        return [run for run in runs if _TRIAL in run.data.tags]

    def _log_best(self, best: Observation, step: int) -> None:
        """Record the best trial so far: metrics, which can have many steps, and tags."""
        params, tags = as_params(best.treatment.params)
        tags |= {f"{_BEST}{name}": value for name, value in params.items()}
        self._log(
            self._parent,
            {name: value for name, value in _metrics_of(best).items() if name in self._decisive},
            tags={**tags, **as_tags("best_trial", best.treatment.name)},
            step=step,
        )
        # The trial before may have other parameters, by conditions.
        for name in sorted(self._best_tags - tags.keys()):
            self._client.delete_tag(self._parent, name)
        self._best_tags = {name for name in tags if name.startswith(_BEST)}

    def _end(self, event: RunStopped) -> None:
        best = self._observation_of(event.best)
        if best is not None and best is not self._best.best:
            self._log_best(best, len(self._seen))
        self._log(self._parent, tags=as_tags("stop_reason", event.reason))
        for run in self._nested_runs(self._parent, " and attributes.status = 'RUNNING'"):
            self._client.set_terminated(run.info.run_id, "KILLED")
        if event.interrupted or not (event.error is None or isinstance(event.error, Exception)):
            status = "KILLED"
        else:
            status = "FINISHED" if event.error is None else "FAILED"
        self._client.set_terminated(self._parent, status)

    def _observation_of(self, treatment: Treatment | None) -> Observation | None:
        """Return the observation of the optimizer's best treatment; a plain one may copy it."""
        if treatment is None:
            return None
        same = [each for each in self._seen if each.treatment is treatment]
        return next(
            (each for each in same or self._seen if each.treatment.name == treatment.name), None
        )

    # The trials' runs -----------------------------------------------------------------------------

    def _start_trial(self, treatment: Treatment, started_at: float | None) -> str:
        """Create the run of a trial, or continue the trial's run from before a resume."""
        name = as_tags(_TRIAL, treatment.name)
        if id(treatment) not in self._runs:
            if self._unfinished.get(name[_TRIAL]):
                run_id = self._unfinished[name[_TRIAL]].pop()
                self._client.update_run(run_id, status="RUNNING")
            else:
                run = self._client.create_run(
                    self._experiment_id,
                    run_name=plain_text(treatment.name)[:_LONGEST_RUN_NAME],
                    tags={MLFLOW_PARENT_RUN_ID: self._parent, **name},
                    start_time=int(1000 * (started_at or time.time())),
                )
                run_id = run.info.run_id
            self._runs[id(treatment)] = (treatment, str(run_id))
        run_id = self._runs[id(treatment)][1]
        self._log(run_id, params=treatment.params)
        return run_id

    def _add_resumed(self, observation: Observation) -> None:
        """Record a trial that the stored run has, unless MLflow has it, too."""
        name = as_tags(_TRIAL, observation.treatment.name)[_TRIAL]
        if self._ended[name]:
            self._ended[name] -= 1
        else:
            self._end_trial(observation)

    def _end_trial(self, observation: Observation) -> None:
        treatment, status = observation.treatment, observation.status
        started_at, duration = observation.started_at, observation.duration
        if id(treatment) in self._runs:
            run = self._runs[id(treatment)][1]
        else:  # The trial, or all but its end, ran before the search was resumed.
            run = self._start_trial(treatment, started_at)
        tags = as_tags("status", status.value)
        if observation.error is not None:
            tags |= as_tags("error", observation.error)
        self._log(run, _metrics_of(observation), tags=tags, curves=curve_names(observation))
        ended_at = None
        if started_at is not None and duration is not None:
            ended_at = int(1000 * (started_at + duration))
        if status is Status.ABANDONED:
            ended = "KILLED"
        else:
            ended = "FINISHED" if status.has_value else "FAILED"
        self._client.set_terminated(run, ended, ended_at)
        del self._runs[id(treatment)]


def _all(search: Callable[..., Any], *arguments: object) -> Iterator[Any]:
    """Yield what a search of MLflow's client finds, from all pages."""
    token = None
    while True:
        page = search(*arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _metrics_of(observation: Observation) -> dict[str, float]:
    """Return the means over the replicates, and their standard errors where there are some."""
    metrics = dict(observation)
    for name, sem in observation.sem.items():
        if sem is not None:
            metrics[sem_name(name, metrics)] = sem
    return metrics
