"""What `Experiment.run` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TreatmentMetrics:
    """The metrics of the baseline or of one treatment.

    Attributes:
        metrics: Metric name to the list of its values over the replicates, in replicate order.
    """

    metrics: dict[str, list[Any]] = field(default_factory=dict)


@dataclass
class HypothesisResult:
    """What one hypothesis says of each treatment.

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
    """All metrics of a run: of the baseline, of each treatment by name, and the hypotheses."""

    baseline: TreatmentMetrics
    treatments: dict[str, TreatmentMetrics]
    hypotheses: list[HypothesisResult]


@dataclass
class Result:
    """What `Experiment.run` returns.

    Attributes:
        metrics: `metrics.baseline.metrics["m"]` and `metrics.treatments[name].metrics["m"]` are
            lists over the replicates; `metrics.hypotheses` lists the hypotheses' results.
        errors: The exceptions of failed replicates, by `"<treatment>_rep_<replicate>"`; the
            baseline's are under `"baseline_rep_<replicate>"`. Empty when all went well.
    """

    metrics: ExperimentMetrics
    errors: Mapping[str, BaseException] = field(default_factory=dict)

    def get_hypothesis(self, name: str) -> HypothesisResult | None:
        """Return the result of the hypothesis called `name`, or None where there is none."""
        return next((result for result in self.metrics.hypotheses if result.name == name), None)
