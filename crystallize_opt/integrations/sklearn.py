"""scikit-learn's hyper-parameter search with any optimizer of this package."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from crystallize_opt.adapters.random import RandomOptimizer
from crystallize_opt.errors import SpaceExhausted, UsageError
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.runtime.checks import whole_number
from crystallize_opt.runtime.extras import needs
from crystallize_opt.space.space import SearchSpace, as_space
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

with needs("OptimizerSearchCV needs", "sklearn", "joblib", "numpy", extra="sklearn"):
    import numpy as np
    from joblib import effective_n_jobs
    from sklearn.model_selection._search import BaseSearchCV
    from sklearn.utils import check_random_state

_ALL_FAILED = "fits failed."
_MEAN = "mean_test_"

Evaluate = Callable[[Iterable[Mapping[str, Any]]], Mapping[str, Any]]
"""Cross-validates candidates, and returns the results of all candidates so far."""


class OptimizerSearchCV(BaseSearchCV):  # type: ignore[misc]
    """A search over the parameters of an estimator, by cross-validation, with any optimizer.

    Everything but the choice of candidates is scikit-learn's: see
    `sklearn.model_selection.RandomizedSearchCV` for `scoring`, `n_jobs`, `refit`, `cv`, `verbose`,
    `pre_dispatch`, `error_score`, `return_train_score` and the attributes after `fit`. A candidate
    that cannot be fitted, or whose score is nan, is a failed trial. (If it fails after the last one
    that succeeds, it is in `history_`, but not in `cv_results_`.)

    The optimizer maximizes the mean test score; of several scores, that of `refit`, or the first.
    (If a function as `scoring` returns several and `refit` names none, the first is "score" in
    `history_`.) The optimizer is not told the scatter of the folds, because all candidates have the
    same folds.

    Args:
        estimator: The estimator.
        space: A `SearchSpace`, or the mapping that builds one; its parameters are those of
            `estimator.set_params`, such as "svc__C". Conditions and constraints between parameters
            hold.
        optimizer: An optimizer class, or a function that is called as one: `optimizer(space,
            objective, seed=...)`.
        n_trials: How many candidates to try. Fewer if a finite space is exhausted.
        scoring: As for `RandomizedSearchCV`.
        n_jobs: As for `RandomizedSearchCV`. With more jobs than folds, the optimizer is asked for
            several candidates at once, so that all jobs are busy.
        refit: As for `RandomizedSearchCV`; with several scores, the name of one, a function, or
            False.
        cv: As for `RandomizedSearchCV`.
        verbose: As for `RandomizedSearchCV`.
        pre_dispatch: As for `RandomizedSearchCV`.
        random_state: The optimizer's seed is drawn from it.
        error_score: As for `RandomizedSearchCV`.
        return_train_score: As for `RandomizedSearchCV`.

    Attributes:
        optimizer_: The optimizer after `fit`.
        history_: Its trials: pictures, tables, reports.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from crystallize_opt import Float
        >>> X, y = load_iris(return_X_y=True)
        >>> space = {"C": Float(0.001, 100.0, log=True)}
        >>> model = LogisticRegression(max_iter=1000)
        >>> search = OptimizerSearchCV(model, space, n_trials=5, random_state=0).fit(X, y)
        >>> bool(search.best_score_ > 0.9), len(search.history_)
        (True, 5)
    """

    def __init__(
        self,
        estimator: Any,
        space: SearchSpace | Mapping[str, Any],
        *,
        optimizer: Callable[..., SpaceOptimizer[Any]] = RandomOptimizer,
        n_trials: int = 50,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
    ) -> None:
        self.space = space
        self.optimizer = optimizer
        self.n_trials = n_trials
        self.random_state = random_state
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )

    def _run_search(self, evaluate_candidates: Evaluate) -> None:
        """Ask for candidates, evaluate them, tell: `BaseSearchCV.fit` calls this method."""
        trials = whole_number("n_trials", self.n_trials)
        if not callable(self.optimizer):
            raise UsageError(
                "optimizer= is a class such as OptunaOptimizer, or a function that is called as "
                f"one, not {self.optimizer!r}."
            )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        metric = self._metric()
        optimizer = self.optimizer(as_space(self.space), Objective(metric, "maximize"), seed=seed)
        jobs = effective_n_jobs(self.n_jobs)
        # With more jobs than folds, one candidate would leave jobs idle.
        at_once = max(1, jobs // self.n_splits_)
        done, failed = 0, list[Treatment]()
        error: ValueError | None = None
        while done < trials:
            try:
                treatments = optimizer.ask(min(at_once, trials - done))
            except SpaceExhausted:
                if not done:
                    raise
                break
            done += len(treatments)
            batch = [*treatments, *failed]
            try:
                results = evaluate_candidates([dict(each.params) for each in batch])
            except ValueError as caught:
                # scikit-learn takes a call in which no fit succeeds for a mistake, but here a call
                # may have one candidate only. Such candidates go into the next call once more,
                # because a call that raises leaves nothing in `cv_results_`.
                if _ALL_FAILED not in str(caught):
                    raise
                error, failed = caught, batch
                for each in treatments:
                    text = str(caught).strip().splitlines()[-1]
                    optimizer.tell(Observation(each, status=Status.FAILED, error=text))
                continue
            failed, known = [], results[self._maximized(results)][-len(batch) :]
            for treatment, score in zip(treatments, known, strict=False):
                optimizer.tell(Observation(treatment, {metric: float(score)}))
        if error is not None and len(failed) == done:
            raise error
        self.optimizer_, self.history_ = optimizer, optimizer.history

    def _metric(self) -> str:
        """Return what the optimizer calls the score, before a function as `scoring` has any."""
        several = isinstance(self.scoring, Collection) and not isinstance(self.scoring, str)
        if isinstance(self.refit, str) and (several or callable(self.scoring)):
            return self.refit
        return str(next(iter(self.scoring))) if several else "score"

    def _maximized(self, results: Mapping[str, Any]) -> str:
        """Return the key of the mean score to maximize: of several, that of `refit`, or the first.

        Raises:
            ValueError: There are several scores, and `refit` neither names one nor is a function or
                False.
        """
        names = [key.removeprefix(_MEAN) for key in results if key.startswith(_MEAN)]
        if names != ["score"]:
            # scikit-learn itself checks the scores of a function after the last candidate only.
            self._check_refit_for_multimetric(names)
        return _MEAN + (self.refit if self.refit in names else names[0])
