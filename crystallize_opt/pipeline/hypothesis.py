"""Hypotheses: statistical claims about treatments, checked on the metrics of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crystallize_opt.errors import HypothesisError, UnknownMetricError, UsageError
from crystallize_opt.trials.values import as_number, value_and_type

MetricValues = Mapping[str, Sequence[Any]]


def rank_by_p_value(result: Mapping[str, Any]) -> Any:
    """The default ranker: return the `p_value` of a verifier's result, or 1.0 without one."""
    return result.get("p_value", 1.0)


class Hypothesis:
    """Compares each treatment with the baseline, and ranks the treatments.

    Args:
        verifier: Called as `verifier(baseline, treatment)` with two mappings of metric name to the
            values over the replicates; returns a mapping, for example with a `p_value`.
        metrics: The metric or metrics that the verifier gets. With several groups (a list of lists)
            the verifier is called once per group, and there is a list of results. None: all.
        ranker: Maps a verifier's result (with several groups: the list) to a score; the treatment
            with the lowest score is the best. Default: the result's `p_value`.
        name: The name for `Result.get_hypothesis`. Default: the name of the given ranker.

    Raises:
        UsageError: There are several groups of metrics, but no ranker for the list of results.

    Example:
        >>> def lower_mean(baseline, treatment):
        ...     return {"p_value": float(sum(treatment["loss"]) > sum(baseline["loss"]))}
        >>> Hypothesis(lower_mean, "loss").verify({"loss": [3.0]}, {"loss": [1.0]})
        {'p_value': 0.0}
    """

    def __init__(
        self,
        verifier: Callable[[MetricValues, MetricValues], Mapping[str, Any]],
        metrics: str | Sequence[str] | Sequence[Sequence[str]] | None = None,
        ranker: Callable[[Any], float] | None = None,
        name: str | None = None,
    ) -> None:
        if ranker is None and metrics and len(metrics) > 1 and not isinstance(metrics[0], str):
            raise UsageError(
                f"{len(metrics)} groups of metrics give a list of results. Give a ranker= that "
                "computes one score from the list."
            )
        self.verifier = verifier
        self.metrics = metrics
        self.ranker = ranker or rank_by_p_value
        self.name = name or str(getattr(ranker, "__name__", "hypothesis"))

    def __repr__(self) -> str:
        metrics = "all metrics" if self.metrics is None else f"metrics {self.metrics!r}"
        verifier = getattr(self.verifier, "__name__", repr(self.verifier))
        return f"<Hypothesis {self.name!r}: {verifier} of {metrics}>"

    def verify(self, baseline_metrics: MetricValues, treatment_metrics: MetricValues) -> Any:
        """Run the verifier on the selected metrics.

        Returns:
            The verifier's result; for several groups of metrics, a list of results.

        Raises:
            UnknownMetricError: A selected metric is missing on either side.
        """
        results = [
            self.verifier(
                {metric: _values(metric, baseline_metrics, "baseline") for metric in group},
                {metric: _values(metric, treatment_metrics, "treatment") for metric in group},
            )
            for group in self._groups(baseline_metrics)
        ]
        return results[0] if len(results) == 1 else results

    def rank_treatments(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Rank treatments by their verifier results, best first.

        A score that is nan (the p-value of a test on constant values, say) ranks last and is never
        the best.

        Returns:
            `{"best": name or None, "ranked": [(name, score), ...]}`.

        Raises:
            HypothesisError: A score is not a number.
        """
        scores = {name: self._score(name, result) for name, result in results.items()}
        ranked = sorted(scores.items(), key=lambda item: (_is_nan(item[1]), item[1]))
        best = ranked[0][0] if ranked and not _is_nan(ranked[0][1]) else None
        return {"best": best, "ranked": ranked}

    def _score(self, treatment: str, result: Any) -> float:
        try:
            score = self.ranker(result)
        except Exception as error:
            error.add_note(f"In the ranker of the hypothesis {self.name!r}, for {treatment!r}.")
            raise
        number = as_number(score)
        if number is None:
            raise HypothesisError(
                f"Hypothesis {self.name!r}: the score of the treatment {treatment!r} is a number "
                f"(nan ranks last), not {value_and_type(score)}. Give a ranker= that "
                "computes one number from the verifier's result."
            )
        return number

    def _groups(self, recorded: MetricValues) -> list[list[str]]:
        if self.metrics is None:
            return [list(recorded)]
        if isinstance(self.metrics, str):
            return [[self.metrics]]
        if self.metrics and not isinstance(self.metrics[0], str):
            return [list(group) for group in self.metrics]
        return [[str(metric) for metric in self.metrics]]


def _is_nan(score: Any) -> bool:
    return bool(score != score)


def _values(metric: str, recorded: MetricValues, side: str) -> Sequence[Any]:
    try:
        return list(recorded[metric])  # A copy: a verifier may sort it in place.
    except KeyError:
        names = ", ".join(map(repr, recorded)) or "none"
        raise UnknownMetricError(
            f"The {side} has no metric {metric!r}. Recorded: {names}."
        ) from None
