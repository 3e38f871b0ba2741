"""The result of `Experiment.run`, and its collection from replicates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crystallize_opt.errors import HypothesisError, TrialsFailedError
from crystallize_opt.pipeline.fault import Fault
from crystallize_opt.pipeline.hypothesis import Hypothesis
from crystallize_opt.pipeline.replicate import ReplicateRun

BASELINE = "baseline"
"""The condition of the experiment without a treatment."""


@dataclass
class TreatmentMetrics:
    """The metrics of the baseline or of one treatment.

    Attributes:
        metrics: Metric name to the list of its values over the replicates, in replicate order.
    """

    metrics: dict[str, list[Any]] = field(default_factory=dict)


@dataclass
class HypothesisResult:
    """The results of one hypothesis for each treatment.

    Attributes:
        name: The hypothesis' name.
        results: Treatment name to the verifier's result.
        ranking: `{"best": name or None, "ranked": [(name, score), ...]}`.
    """

    name: str
    results: dict[str, Any]
    ranking: dict[str, Any]


@dataclass
class ExperimentMetrics:
    """The metrics of the baseline and of each treatment by name, and the hypotheses' results."""

    baseline: TreatmentMetrics
    treatments: dict[str, TreatmentMetrics]
    hypotheses: list[HypothesisResult]


@dataclass
class Result:
    """The result of `Experiment.run`.

    Attributes:
        metrics: `metrics.baseline.metrics["m"]` and `metrics.treatments[name].metrics["m"]` are
            lists over the replicates; `metrics.hypotheses` lists the hypotheses' results.
        errors: The exceptions of failed replicates, by `"<treatment>_rep_<replicate>"`; those of
            the baseline by `"baseline_rep_<replicate>"`. Empty if every replicate completed.
    """

    metrics: ExperimentMetrics
    errors: Mapping[str, BaseException] = field(default_factory=dict)

    def get_hypothesis(self, name: str) -> HypothesisResult | None:
        """Return the result of the hypothesis with this name, or None if there is none."""
        return next((result for result in self.metrics.hypotheses if result.name == name), None)


class Results:
    """Collects the replicates of a run for its `Result`."""

    def __init__(self) -> None:
        self._metrics: dict[str, dict[str, list[Any]]] = {BASELINE: {}}
        self._errors: dict[str, BaseException] = {}
        self._completed: set[str] = set()

    def add(self, condition: str, run: ReplicateRun) -> None:
        """Add one replicate of a treatment, or of the baseline."""
        metrics = self._metrics.setdefault(condition, {})
        if run.error is not None:
            self._errors[f"{condition}_rep_{run.index}"] = run.error
            return
        self._completed.add(condition)
        for name, values in run.metrics.items():
            metrics.setdefault(name, []).extend(values)

    def refuse_only_failures(self) -> None:
        """Raise if replicates have failed, and none has completed.

        Raises:
            TrialsFailedError: No replicate has completed; its cause is the first one's error.
        """
        if self._errors and not self._completed:
            first = next(iter(self._errors.values()))
            raise TrialsFailedError(
                f"Every replicate failed; the first one with:\n{Fault.of(first).text}"
            ) from first

    def result(self, hypotheses: Iterable[Hypothesis] = ()) -> Result:
        """Return all metrics and errors, and the results of the hypotheses.

        Raises:
            UnknownMetricError: A hypothesis names a metric that was not recorded.
            HypothesisError: A ranker's score is not a number; the error's `result` has the metrics.
        """
        baseline = self._metrics[BASELINE]
        treatments = {name: m for name, m in self._metrics.items() if name != BASELINE}
        checked = []
        for hypothesis in hypotheses:
            # A treatment whose every replicate failed cannot be compared; `errors` shows why.
            comparable = self._completed if BASELINE in self._completed else ()
            outcomes = {
                name: hypothesis.verify(baseline, metrics)
                for name, metrics in treatments.items()
                if name in comparable
            }
            try:
                ranking = hypothesis.rank_treatments(outcomes)
            except HypothesisError as error:
                error.result = self.result()  # What was measured is kept.
                raise
            checked.append(HypothesisResult(hypothesis.name, outcomes, ranking))
        return Result(
            ExperimentMetrics(
                TreatmentMetrics(baseline),
                {name: TreatmentMetrics(metrics) for name, metrics in treatments.items()},
                checked,
            ),
            self._errors,
        )
