"""The result of `Experiment.run`, and its collection from replicates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crystallize_opt.errors import HypothesisError, TrialsFailedError
from crystallize_opt.pipeline.fault import Fault
from crystallize_opt.pipeline.hypothesis import Hypothesis
from crystallize_opt.pipeline.replicate import ReplicateRun
from crystallize_opt.runtime.shown import html_table, number, text_table
from crystallize_opt.trials.values import as_number, mean_of

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


@dataclass(repr=False)
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

    def __repr__(self) -> str:
        conditions = len(self.metrics.treatments)
        parts = ["baseline"]
        if conditions:
            parts.append(f"{conditions} treatment{'s' * (conditions > 1)}")
        names = dict.fromkeys(name for _, metrics in self._conditions() for name in metrics)
        parts.append(f"metrics {', '.join(names) or 'none'}")
        if hypotheses := self.metrics.hypotheses:
            parts.append(f"hypotheses {', '.join(each.name for each in hypotheses)}")
        if self.errors:
            parts.append(f"{len(self.errors)} replicates failed")
        return f"<Result: {'; '.join(parts)}>"

    def __str__(self) -> str:
        return text_table(repr(self)[1:-1], *self._table())

    def _repr_html_(self) -> str:
        """Show the means of all metrics, and the hypotheses' results, in a notebook."""
        return html_table(repr(self)[1:-1], *self._table())

    def _conditions(self) -> list[tuple[str, dict[str, list[Any]]]]:
        metrics = self.metrics
        treatments = [(name, each.metrics) for name, each in metrics.treatments.items()]
        return [(BASELINE, metrics.baseline.metrics), *treatments]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Return the names of the columns, and a row for each condition."""
        names = list(dict.fromkeys(name for _, metrics in self._conditions() for name in metrics))
        rows = [
            [
                condition,
                *(_mean_and_deviation(metrics.get(name, [])) for name in names),
                *(str(each.results.get(condition, "")) for each in self.metrics.hypotheses),
            ]
            for condition, metrics in self._conditions()
        ]
        return ["", *names, *(each.name for each in self.metrics.hypotheses)], rows

    def get_hypothesis(self, name: str) -> HypothesisResult | None:
        """Return the result of the hypothesis with this name, or None if there is none."""
        return next((result for result in self.metrics.hypotheses if result.name == name), None)


def _mean_and_deviation(values: Sequence[Any]) -> str:
    """Return `mean ± standard deviation (n)`, or what else the values are."""
    numbers = [each for value in values if (each := as_number(value)) is not None]
    if not values or len(numbers) < len(values):
        return f"{len(values)} values" if values else ""
    mean = number(mean_of(numbers))
    if len(numbers) < 2:
        return mean
    from statistics import stdev  # Its import takes long, and only tables need it.

    return f"{mean} ± {stdev(numbers):.2g} (n={len(numbers)})"


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
            self._errors[f"{condition}_rep_{run.record.index}"] = run.error
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
            HypothesisError: A verifier or ranker failed; the error's `result` has the metrics.
        """
        baseline = self._metrics[BASELINE]
        treatments = {name: m for name, m in self._metrics.items() if name != BASELINE}
        checked = []
        for hypothesis in hypotheses:
            # A treatment whose every replicate failed cannot be compared; `errors` shows why.
            comparable = self._completed if BASELINE in self._completed else ()
            try:
                outcomes = {
                    name: hypothesis.verify(baseline, metrics)
                    for name, metrics in treatments.items()
                    if name in comparable
                }
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
