"""Hypotheses: statistical claims about treatments, checked on the metrics of a run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from crystallize_opt.errors import HypothesisError, UnknownMetricError, UsageError
from crystallize_opt.trials.values import as_number, value_and_type

MetricValues = Mapping[str, Sequence[Any]]


def rank_by_p_value(result: Mapping[str, Any]) -> Any:
    """The default ranker: return the `p_value` of a verifier's result; nan, the last, without."""
    return result.get("p_value", math.nan)


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
        UsageError: There are several groups of metrics, but no ranker for the list of results; or
            an argument is of the wrong kind.

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
        _check_function("verifier", verifier, 2, "(baseline, treatment)")
        if ranker is not None:
            _check_function("ranker", ranker, 1, "(result)")
        _check_metrics(metrics)
        if name is not None and not isinstance(name, str):
            raise UsageError(f"The name of a hypothesis is a text, not {value_and_type(name)}.")
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
            HypothesisError: The verifier failed, or returned no mapping.
        """
        results = [
            self._verified(
                {metric: _values(metric, baseline_metrics, "baseline") for metric in group},
                {metric: _values(metric, treatment_metrics, "treatment") for metric in group},
            )
            for group in self._groups(baseline_metrics)
        ]
        return results[0] if len(results) == 1 else results

    def _verified(self, baseline: MetricValues, treatment: MetricValues) -> Mapping[str, Any]:
        try:
            result = self.verifier(baseline, treatment)
        except Exception as error:
            raise HypothesisError(
                f"Hypothesis {self.name!r}: its verifier failed with "
                f"{type(error).__name__}: {error}. It is called with two mappings of metric to "
                "values; a test of SciPy takes the values: test(baseline['loss'], "
                "treatment['loss'])."
            ) from error
        if not isinstance(result, Mapping):
            raise HypothesisError(
                f"Hypothesis {self.name!r}: a verifier returns a mapping, such as "
                f"{{'p_value': 0.05}}, not {value_and_type(result)}."
            )
        return result

    def rank_treatments(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Rank treatments by their verifier results, best first.

        A score that is nan (the p-value of a test on constant values, say) ranks last and is never
        the best.

        Returns:
            `{"best": name or None, "ranked": [(name, score), ...]}`.

        Raises:
            HypothesisError: A score is not a number, or the ranker failed.
        """
        scores = {name: self._score(name, result) for name, result in results.items()}
        ranked = sorted(scores.items(), key=lambda item: (_is_nan(item[1]), item[1]))
        best = ranked[0][0] if ranked and not _is_nan(ranked[0][1]) else None
        return {"best": best, "ranked": ranked}

    def _score(self, treatment: str, result: Any) -> float:
        try:
            score = self.ranker(result)
        except Exception as error:
            raise HypothesisError(
                f"Hypothesis {self.name!r}: its ranker failed for the treatment {treatment!r} with "
                f"{type(error).__name__}: {error}. It is called with the verifier's result, "
                f"{value_and_type(result)}."
            ) from error
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


def as_hypotheses(given: Any) -> tuple[Hypothesis, ...]:
    """Return hypotheses as a tuple.

    Raises:
        UsageError: They are no list, or one of them is not a `Hypothesis`.
    """
    hypotheses = tuple(given) if isinstance(given, Iterable) else (given,)
    for each in hypotheses:
        if not isinstance(each, Hypothesis):
            raise UsageError(
                f"hypotheses= takes a list, [Hypothesis(verifier, 'loss')], not {each!r}."
            )
    return hypotheses


def _check_function(argument: str, given: Any, count: int, arguments: str) -> None:
    """Refuse what cannot be called with so many arguments."""
    if callable(given):
        try:
            inspect.signature(given).bind(*[None] * count)
        except TypeError as error:
            reason = f" ({error})"
        except ValueError:  # A function in C that does not tell its arguments.
            return
        else:
            return
    else:
        reason = ""
    raise UsageError(f"{argument}= takes a function of {arguments}, not {given!r}{reason}.")


def _check_metrics(metrics: Any) -> None:
    groups = [] if metrics is None else [metrics]
    if not isinstance(metrics, str) and isinstance(metrics, Sequence):
        groups = [[each] if isinstance(each, str) else each for each in metrics]
    for group in groups:
        is_list = isinstance(group, Sequence) and all(isinstance(each, str) for each in group)
        if not is_list:
            raise UsageError(
                "metrics= takes the name of a metric, a list of names, or a list of such lists, "
                f"not {metrics!r}."
            )


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
