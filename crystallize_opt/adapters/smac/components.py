"""Components of SMAC, made quiet and repeatable."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from ConfigSpace import Configuration
from ConfigSpace.util import get_one_exchange_neighbourhood
from smac.acquisition.maximizer import LocalSearch
from smac.facade.abstract_facade import AbstractFacade
from smac.main.smbo import SMBO
from smac.model.random_forest.random_forest import RandomForest
from smac.runhistory import TrialKey, TrialValue
from smac.runhistory.encoder.abstract_encoder import AbstractRunHistoryEncoder
from smac.utils.configspace import convert_configurations_to_array

HIDDEN = "hidden from the model"
"""Key in `TrialValue.additional_info`: the surrogate model does not learn from the trial."""


class QuietSMBO(SMBO):
    """Writes no files, and does not ask on the terminal what to do with files of another run."""

    def _initialize_state(self) -> None:
        pass

    def save(self) -> None:
        pass


class QuietFacade(AbstractFacade):
    """Builds its optimizer as a `QuietSMBO`."""

    def _get_optimizer(self) -> SMBO:
        return QuietSMBO(
            scenario=self._scenario,
            runner=self._runner,
            runhistory=self._runhistory,
            intensifier=self._intensifier,
            overwrite=True,
        )


class StableLocalSearch(LocalSearch):
    """Local search that starts in the same order in every process.

    SMAC takes the start points from a set, whose order depends on PYTHONHASHSEED:
    https://github.com/automl/SMAC3/pull/1244
    """

    def _get_init_points_from_previous_configs(self, *args: Any, **kwargs: Any) -> Any:
        points = super()._get_init_points_from_previous_configs(*args, **kwargs)
        return sorted(points, key=lambda point: point.get_array().tobytes())

    def _search(self, start_points: list[Configuration]) -> list[tuple[float, Configuration]]:
        if not self._configspace.forbidden_clauses:
            return super()._search(start_points)
        alone = not any(map(_has_neighbour, start_points))
        with _without_runtime_warnings() if alone else nullcontext():
            found = super()._search(start_points)
        # On plateaus, local search also visits neighbours that are forbidden, because a child
        # became active: leave them out.
        return [(value, point) for value, point in found if _is_allowed(point)]


@contextmanager
def _without_runtime_warnings() -> Iterator[None]:
    """Suppress warnings that local search causes if no point has a neighbour (a mean of nothing).

    Use it for a moment only, because other threads may change the warnings filters, too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _has_neighbour(point: Configuration) -> bool:
    return next(get_one_exchange_neighbourhood(point, seed=0), None) is not None


def _is_allowed(point: Configuration) -> bool:
    vector = point.get_array()
    clauses = point.config_space.forbidden_clauses
    return not any(clause.is_forbidden_vector(vector) for clause in clauses)


class LeanForest(RandomForest):
    """The same forest as SMAC's, trained in a fraction of the time.

    SMAC allocates memory for a million leaves in each of the ten trees, and trains them in threads;
    both take longer than the training itself. A tree has no more leaves than rows.
    """

    def _train(self, X: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> Any:  # noqa: N803
        most: Any = self._rf_opts["max_leaf_nodes"]
        self._rf_opts |= {"n_jobs": 1, "max_leaf_nodes": most and min(most, max(len(X), 2))}
        try:
            return super()._train(X, y)
        finally:
            self._rf_opts["max_leaf_nodes"] = most


class Encoder(AbstractRunHistoryEncoder):
    """Hides trials from which the model must not learn; adds pending ones if it `knows_pending`.

    It also scales costs of any size: see `_scaled_from_zero`.

    SMAC's surrogate model knows of finished trials only, so it suggests nearly the same point again
    while a trial is pending. This encoder gives pending trials the average cost ("constant liar"):
    https://github.com/automl/SMAC3/issues/1131
    """

    knows_pending = True
    races = False

    def _get_considered_trials(
        self, budget_subset: list[Any] | None = None
    ) -> dict[TrialKey, TrialValue]:
        trials = super()._get_considered_trials(budget_subset)
        return {
            key: value for key, value in trials.items() if not value.additional_info.get(HIDDEN)
        }

    def transform(
        self, budget_subset: list[Any] | None = None
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        vectors, costs = super().transform(budget_subset)
        pending = self.runhistory.get_running_configs() if self.knows_pending else []
        if pending and self.races:
            # In a race, another replicate of a known configuration may be pending.
            known = {key.config_id for key in self._get_considered_trials(budget_subset)}
            pending = [each for each in pending if each.config_id not in known]
        if len(costs) and pending:
            lie = np.full((len(pending), 1), costs.mean())
            vectors = np.vstack([vectors, convert_configurations_to_array(pending)])
            costs = np.concatenate([costs, lie])
        return vectors, costs

    def transform_response_values(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with np.errstate(all="ignore"):
            scaled = super().transform_response_values(values)  # type: ignore[safe-super]
            return scaled if np.isfinite(scaled).all() else self._scaled_from_zero(values)

    def _scaled_from_zero(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Scale costs after subtracting the least one, which changes no other digit.

        SMAC takes the logarithm of each cost's distance to the least cost minus 1e-10. If costs are
        large, rounding loses the 1e-10, and the logarithm of the least cost is infinite.
        """
        known = self._min_y, self._percentile, self._max_y
        least = self._min_y
        self._min_y, self._percentile, self._max_y = (cost - least for cost in known)
        try:
            return super().transform_response_values(values - least)  # type: ignore[safe-super]
        finally:
            self._min_y, self._percentile, self._max_y = known
