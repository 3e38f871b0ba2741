"""Claims about treatments: which metrics a verifier sees, and how treatments are ranked."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import BasePlugin, Experiment, Hypothesis, Objective, Treatment
from crystallize_opt.errors import HypothesisError, UnknownMetricError, UsageError
from crystallize_opt.pipeline.result import Result
from tests.toy import toy_experiment


class Refuse(BasePlugin):
    def before_run(self, experiment: Experiment) -> None:
        raise AssertionError("something ran")


BASELINE = {"loss": [3.0, 1.0], "time": [5.0]}
TREATMENT = {"loss": [2.0, 0.0], "time": [4.0], "extra": [1.0]}


def show(
    baseline: Mapping[str, Sequence[Any]], treatment: Mapping[str, Sequence[Any]]
) -> Mapping[str, Any]:
    return {"baseline": dict(baseline), "treatment": dict(treatment)}


@pytest.mark.parametrize(
    ("metrics", "groups"),
    [
        ("loss", [["loss"]]),
        (["loss"], [["loss"]]),
        (["loss", "time"], [["loss", "time"]]),
        (("time", "loss"), [["time", "loss"]]),
        (None, [["loss", "time"]]),
        ([["loss", "time"]], [["loss", "time"]]),
        ([["loss"], ["time", "loss"]], [["loss"], ["time", "loss"]]),
    ],
)
def test_a_verifier_sees_the_metrics_it_names(metrics: Any, groups: list[list[str]]) -> None:
    hypothesis = Hypothesis(show, metrics, ranker=len)

    expected = [
        {side: {metric: values[metric] for metric in group} for side, values in sides.items()}
        for sides in [{"baseline": BASELINE, "treatment": TREATMENT}]
        for group in groups
    ]
    verified = hypothesis.verify(BASELINE, TREATMENT)
    assert verified == (expected[0] if len(groups) == 1 else expected)


@pytest.mark.parametrize(
    ("metric", "side", "recorded"),
    [("accuracy", "baseline", "'loss', 'time'"), ("extra", "baseline", "'loss', 'time'")],
)
def test_an_unknown_metric_lists_the_recorded_ones(metric: str, side: str, recorded: str) -> None:
    with pytest.raises(UnknownMetricError, match=f"{side} has no metric '{metric}'.*{recorded}"):
        Hypothesis(show, metric).verify(BASELINE, TREATMENT)


def test_a_verifier_cannot_change_the_metrics() -> None:
    def sort(baseline: Any, treatment: Any) -> Mapping[str, Any]:
        baseline["loss"].sort()
        return {"p_value": 0.5}

    metrics = {"loss": [3.0, 1.0]}
    Hypothesis(sort, "loss").verify(metrics, TREATMENT)

    assert metrics == {"loss": [3.0, 1.0]}


@given(st.dictionaries(st.text(), st.floats(), min_size=1))
def test_the_lowest_score_is_the_best_and_nan_never_is(p_values: dict[str, float]) -> None:
    results = {name: {"p_value": p_value} for name, p_value in p_values.items()}
    ranking = Hypothesis(show).rank_treatments(results)

    numbers = sorted(p for p in p_values.values() if not math.isnan(p))
    scores = [score for _, score in ranking["ranked"]]
    assert scores[: len(numbers)] == numbers
    assert all(map(math.isnan, scores[len(numbers) :]))
    assert sorted(name for name, _ in ranking["ranked"]) == sorted(p_values)
    if numbers:
        assert p_values[ranking["best"]] == numbers[0]
    else:
        assert ranking["best"] is None


def test_equal_scores_stay_in_order() -> None:
    results = {name: {"p_value": 0.5} for name in "cab"}

    assert Hypothesis(show).rank_treatments(results)["best"] == "c"


def test_without_a_p_value_a_treatment_is_last_and_never_the_best() -> None:
    ranking = Hypothesis(show).rank_treatments({"a": {}, "b": {"p_value": 1.0}})

    assert [name for name, _ in ranking["ranked"]] == ["b", "a"]
    assert Hypothesis(show).rank_treatments({"a": {"pvalue": 0.01}})["best"] is None


def test_nothing_to_rank() -> None:
    assert Hypothesis(show).rank_treatments({}) == {"best": None, "ranked": []}


def test_the_name_is_the_rankers_where_none_is_given() -> None:
    def by_effect(result: Any) -> float:
        return 0.0

    assert Hypothesis(show, ranker=by_effect).name == "by_effect"
    assert Hypothesis(show, ranker=by_effect, name="claim").name == "claim"
    assert Hypothesis(show).name == "hypothesis"


def test_several_groups_without_a_ranker_are_refused() -> None:
    with pytest.raises(UsageError, match=r"2 groups of metrics.*Give a ranker="):
        Hypothesis(show, [["loss"], ["time"]])


@pytest.mark.parametrize(
    "score", [np.array([0.1, 0.2]), None, "a", (0.1, 2), pd.NA, pd.Series([0.1]), np.ma.masked]
)
@pytest.mark.parametrize("treatments", ["a", "ab"])
def test_a_score_that_is_no_number_names_the_hypothesis(score: Any, treatments: str) -> None:
    results = {name: {"p_value": score} for name in treatments}
    with pytest.raises(
        HypothesisError, match=r"Hypothesis 'claim': the score of the treatment 'a'"
    ):
        Hypothesis(show, name="claim").rank_treatments(results)


@pytest.mark.parametrize("score", [np.float32(0.5), np.array(0.5), Decimal("0.5"), 0.5])
def test_a_score_becomes_a_plain_float(score: Any) -> None:
    ranking = Hypothesis(show).rank_treatments({"a": {"p_value": score}})

    assert ranking == {"best": "a", "ranked": [("a", 0.5)]}
    assert type(ranking["ranked"][0][1]) is float


def test_an_error_of_a_ranker_names_the_hypothesis() -> None:
    with pytest.raises(HypothesisError, match=r"'claim': its ranker failed .*'a' with KeyError"):
        Hypothesis(show, ranker=lambda result: result["p"], name="claim").rank_treatments({"a": {}})


WRONG: dict[str, Any] = {
    "no mapping": lambda *_: 0.05,
    "no number": lambda *_: {"p_value": None},
    "takes values": lambda baseline, treatment: {"p_value": sum(baseline) - sum(treatment)},
}


@pytest.mark.parametrize("verifier", WRONG.values(), ids=WRONG)
def test_the_metrics_are_kept_when_a_verifier_is_wrong(verifier: Any) -> None:
    experiment = toy_experiment()
    claim = Hypothesis(verifier, "sum", name="claim")
    treatment = Treatment("plus one", {"delta": 1.0})
    with pytest.raises(HypothesisError) as caught:
        experiment.run(treatments=[treatment], hypotheses=[claim], replicates=2)

    assert isinstance(caught.value.result, Result)
    assert caught.value.result.metrics.baseline.metrics == {"sum": [6.0, 6.0]}
    assert caught.value.result.metrics.treatments["plus one"].metrics == {"sum": [9.0, 9.0]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((5,), r"verifier= takes a function of \(baseline, treatment\), not 5"),
        (({"p_value": 1.0},), "verifier= takes a function"),
        (("loss", show), "verifier= takes a function"),
        ((lambda _: {}, "loss"), "verifier= takes a function.*too many"),
        ((show, show), "metrics= takes the name"),
        ((show, 5), "metrics= takes the name"),
        ((show, ["loss", 5]), "metrics= takes the name"),
        ((show, [["loss"], [5]]), "metrics= takes the name"),
        ((show, "loss", "p_value"), "ranker= takes a function"),
        ((show, "loss", lambda: 0.0), "ranker= takes a function.*too many"),
        ((show, "loss", None, 5), "name of a hypothesis is a text"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_runs(arguments: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Hypothesis(*arguments)


@pytest.mark.parametrize("given", [[5], 5, None, show, [show]])
def test_what_is_no_hypothesis_is_refused_before_anything_runs(given: Any) -> None:
    experiment = toy_experiment(plugins=[Refuse()])
    treatment = Treatment("plus one", {"delta": 1.0})
    with pytest.raises(UsageError, match="hypotheses= takes a list"):
        experiment.run(treatments=[treatment], hypotheses=given)
    with pytest.raises(UsageError, match="hypotheses= takes a list"):
        experiment.confirm(treatment, 3, objective=Objective("sum", "minimize"), hypotheses=given)


@pytest.mark.parametrize("given", [Treatment("a"), None, 5, [5]], ids=repr)
def test_what_is_no_list_of_treatments_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="treatments= takes a list of Treatment"):
        toy_experiment(plugins=[Refuse()]).run(treatments=given)
