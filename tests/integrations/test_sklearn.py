"""scikit-learn's search with any optimizer: scikit-learn's own checks, and who suggests."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from joblib import parallel_backend
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from crystallize_opt import Categorical, Float, Integer, Objective, SearchSpace, Status
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import UsageError
from crystallize_opt.integrations import OptimizerSearchCV

X, Y = make_classification(80, 5, random_state=0)
SPACE = SearchSpace({"C": Float(0.01, 100.0, log=True)})


def search(**changes: Any) -> Any:
    given: dict[str, Any] = {"estimator": LogisticRegression(), "space": SPACE, "n_trials": 4}
    return OptimizerSearchCV(**given | {"cv": 3, "random_state": 0} | changes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # scikit-learn's checks warn on purpose.
@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [
        OptimizerSearchCV(LogisticRegression(), {"C": (0.1, 1.0)}, n_trials=2, random_state=0),
        OptimizerSearchCV(
            LogisticRegression(),
            {"C": (0.1, 1.0)},
            optimizer=OptunaOptimizer,
            n_trials=2,
            random_state=0,
        ),
    ]
)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("optimizer", [RandomOptimizer, OptunaOptimizer])
def test_the_candidates_are_those_of_the_optimizer(optimizer: Any) -> None:
    found = search(optimizer=optimizer).fit(X, Y)

    ours = optimizer(SPACE, Objective("score", "maximize"), seed=found.optimizer_.seed)
    for params, score in zip(
        found.cv_results_["params"], found.cv_results_["mean_test_score"], strict=True
    ):
        (treatment,) = ours.ask()
        assert dict(treatment.params) == params
        value = cross_val_score(LogisticRegression(**params), X, Y, cv=3).mean()
        assert score == pytest.approx(value)
        ours.tell({"score": float(score)})
    assert found.best_params_ == ours.history.best_params
    assert found.history_.best["score"] == found.best_score_
    assert [each.sem for each in found.history_] == [{}] * 4


def test_the_results_are_those_of_a_randomized_search() -> None:
    ours = search(return_train_score=True).fit(X, Y)
    theirs = RandomizedSearchCV(
        LogisticRegression(),
        {"C": [each["C"] for each in ours.cv_results_["params"]]},
        n_iter=4,
        cv=3,
        random_state=0,
        return_train_score=True,
    ).fit(X, Y)

    assert ours.cv_results_.keys() == theirs.cv_results_.keys()
    assert sorted(ours.cv_results_["mean_test_score"]) == pytest.approx(
        sorted(theirs.cv_results_["mean_test_score"])
    )
    assert ours.best_score_ == pytest.approx(theirs.best_score_)
    assert ours.predict(X).tolist() == theirs.predict(X).tolist()
    assert (ours.n_splits_, ours.classes_.tolist()) == (3, [0, 1])


def test_jobs_get_several_candidates_at_once() -> None:
    sizes: list[int] = []

    class Watched(RandomOptimizer):
        def ask(self, n: int = 1, **given: Any) -> Any:
            sizes.append(n)
            return super().ask(n, **given)

    with parallel_backend("threading"):  # Processes would take seconds to start.
        search(optimizer=Watched, cv=2, n_jobs=4, n_trials=5).fit(X, Y)
    assert sizes == [2, 2, 1]


def test_a_pipeline_with_a_choice_of_models() -> None:
    pipeline = Pipeline([("scale", StandardScaler()), ("model", SVC())])
    svm, forest = SVC(), RandomForestClassifier(random_state=0)
    space = SearchSpace(
        {
            "scale": Categorical([StandardScaler(), "passthrough"]),
            "model": Categorical([svm, forest]),
            "model__C": Float(0.1, 10.0, log=True).when(model=svm),
            "model__n_estimators": Integer(5, 10).when(model=forest),
        }
    )
    found = search(estimator=pipeline, space=space, n_trials=8, optimizer=OptunaOptimizer).fit(X, Y)

    kinds = {type(params["model"]) for params in found.cv_results_["params"]}
    assert kinds == {SVC, RandomForestClassifier}
    for params in found.cv_results_["params"]:
        assert ("model__C" in params) == isinstance(params["model"], SVC)
    assert found.score(X, Y) > 0.7


@pytest.mark.parametrize(
    ("scoring", "refit", "metric"),
    [
        (["accuracy", "roc_auc"], "roc_auc", "roc_auc"),
        (["accuracy", "roc_auc"], False, "accuracy"),
        ({"loss": "neg_log_loss"}, "loss", "loss"),
        ("roc_auc", True, "score"),
        (None, lambda _: 0, "score"),
    ],
)
def test_several_scores(scoring: Any, refit: Any, metric: str) -> None:
    found = search(scoring=scoring, refit=refit).fit(X, Y)

    assert found.optimizer_.objective == Objective(metric, "maximize")
    assert [each[metric] for each in found.history_] == pytest.approx(
        found.cv_results_[f"mean_test_{metric}"].tolist()
    )


def two(estimator: Any, X: Any, y: Any) -> dict[str, float]:  # noqa: N803
    return {"flat": 0.5, "score": estimator.score(X, y)}


def one(estimator: Any, X: Any, y: Any) -> float:  # noqa: N803
    return float(estimator.score(X, y))


TWO = ["accuracy", "roc_auc"]


@pytest.mark.parametrize(
    ("scoring", "refit", "metric", "column"),
    [
        (None, "accuracy", "score", "score"),
        ("accuracy", "accuracy", "score", "score"),
        (one, False, "score", "score"),
        (one, "accuracy", "accuracy", "score"),
        (two, False, "score", "flat"),
        (two, lambda _: 1, "score", "flat"),
        (two, "score", "score", "score"),
        (two, "flat", "flat", "flat"),
        (TWO, lambda _: 1, "accuracy", "accuracy"),
        ({"score": "accuracy", "auc": "roc_auc"}, "auc", "auc", "auc"),
        ({"score": "accuracy"}, False, "score", "score"),
    ],
)
def test_the_score_that_is_maximized_whatever_scikit_learn_takes(
    scoring: Any, refit: Any, metric: str, column: str
) -> None:
    ours = search(scoring=scoring, refit=refit).fit(X, Y)

    grid = {"C": [each["C"] for each in ours.cv_results_["params"]]}
    theirs = GridSearchCV(ours.estimator, grid, scoring=scoring, refit=refit, cv=3).fit(X, Y)
    means = f"mean_test_{column}"
    assert ours.optimizer_.objective == Objective(metric, "maximize")
    told = [each[metric] for each in ours.history_]
    assert told == ours.cv_results_[means].tolist() == theirs.cv_results_[means].tolist()
    for attribute in ("best_index_", "best_score_", "best_params_", "multimetric_"):
        assert getattr(ours, attribute, None) == getattr(theirs, attribute, None)


@pytest.mark.parametrize("refit", [True, "accuracy"])
def test_several_scores_and_a_refit_that_names_none_get_scikit_learns_error_at_once(
    refit: Any,
) -> None:
    calls: list[Any] = []

    def counted(*given: Any) -> dict[str, float]:
        calls.append(given)
        return two(*given)

    for scoring, fits in ((counted, 3), (["roc_auc", "f1"], 0)):
        calls.clear()
        with pytest.raises(ValueError, match="refit must be set to a scorer key"):
            search(scoring=scoring, refit=refit).fit(X, Y)
        assert len(calls) == fits  # of one candidate, or none


class Picky(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that cannot be fitted with a large parameter."""

    def __init__(self, C: float = 1.0) -> None:  # noqa: N803
        self.C = C

    def fit(self, X: Any, y: Any) -> Picky:  # noqa: N803
        if self.C > 1.0:
            raise ValueError("too large")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        return np.zeros(len(X), dtype=int)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_a_candidate_that_fails_is_a_failed_trial() -> None:
    found = search(estimator=Picky(), n_trials=10, optimizer=OptunaOptimizer).fit(X, Y)

    assert len(found.history_) == 10
    for each in found.history_:
        failed = each.params["C"] > 1.0
        assert each.status is (Status.FAILED if failed else Status.COMPLETED)
    table = zip(found.cv_results_["params"], found.cv_results_["mean_test_score"], strict=True)
    trials = [each.params["C"] for each in found.history_]
    last = max(number for number, C in enumerate(trials) if C <= 1.0)
    assert {params["C"]: bool(np.isnan(score)) for params, score in table} == {
        C: C > 1.0 for C in trials[: last + 1]
    }
    with pytest.raises(ValueError, match=r"All the \d+ fits failed"):
        search(estimator=Picky(), space={"C": (2.0, 3.0)}).fit(X, Y)
    with pytest.raises(ValueError, match="too large"):
        search(estimator=Picky(), n_trials=10, error_score="raise").fit(X, Y)


def test_a_finite_space_ends_the_search() -> None:
    grid = functools.partial(GridOptimizer, levels={"C": 3})
    assert len(search(optimizer=grid, n_trials=50).fit(X, Y).cv_results_["params"]) == 3


def test_a_search_can_be_cloned_and_repeated() -> None:
    first = search(optimizer=OptunaOptimizer)
    second = clone(first)

    assert second.get_params()["space"].to_dict() == SPACE.to_dict()
    assert first.fit(X, Y).cv_results_["params"] == second.fit(X, Y).cv_results_["params"]


def test_wrong_arguments_are_refused_by_fit() -> None:
    for wrong in (0, 1.5, "many"):
        with pytest.raises(UsageError, match="n_trials"):
            search(n_trials=wrong).fit(X, Y)
    for no_class in ("optuna", RandomOptimizer(SPACE, Objective("loss", "minimize"))):
        with pytest.raises(UsageError, match="optimizer= is a class such as OptunaOptimizer"):
            search(optimizer=no_class).fit(X, Y)
