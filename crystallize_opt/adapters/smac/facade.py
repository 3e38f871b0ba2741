"""SMAC's facades, made quiet, repeatable and aware of pending trials.

`PRIVATE_NAMES` lists everything used here that is not SMAC's public interface; a test fails if an
upgrade of SMAC has removed one of these names.
"""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from ConfigSpace import Configuration, ConfigurationSpace
from ConfigSpace.util import get_one_exchange_neighbourhood
from smac import HyperparameterOptimizationFacade, Scenario
from smac.acquisition.maximizer import LocalAndSortedRandomSearch, LocalSearch
from smac.facade.abstract_facade import AbstractFacade
from smac.initial_design import AbstractInitialDesign
from smac.intensifier import Intensifier, SuccessiveHalving
from smac.main.config_selector import ConfigSelector
from smac.main.smbo import SMBO
from smac.model.random_forest.random_forest import RandomForest
from smac.runhistory import RunHistory, TrialInfo, TrialKey, TrialValue
from smac.runhistory.encoder.abstract_encoder import AbstractRunHistoryEncoder
from smac.utils.configspace import convert_configurations_to_array

from crystallize_opt.adapters.smac.warm_start import Brackets, shorten_initial_design
from crystallize_opt.errors import UsageError

Component = Mapping[str, Any] | Callable[[Scenario], Any]

COMPONENTS = (
    "model",
    "acquisition_function",
    "acquisition_maximizer",
    "initial_design",
    "random_design",
    "intensifier",
    "multi_objective_algorithm",
    "runhistory_encoder",
    "config_selector",
)
"""The components of a facade. It has a method `get_<name>(scenario, **keywords)` for each."""

PRIVATE_NAMES: tuple[tuple[type, str], ...] = (
    (AbstractFacade, "_get_optimizer"),
    (SMBO, "_initialize_state"),
    (AbstractFacade, "_initial_design"),
    (AbstractFacade, "_model"),
    (AbstractInitialDesign, "_additional_configs"),
    (Intensifier, "_retries"),
    (Intensifier, "_max_config_calls"),
    (Intensifier, "_queue"),
    (RunHistory, "_data"),
    (RunHistory, "_running"),
    (RunHistory, "_running_trials"),
    (RunHistory, "_submitted"),
    (SuccessiveHalving, "_tracker"),
    (SuccessiveHalving, "_budgets_in_stage"),
    (SuccessiveHalving, "_n_configs_in_stage"),
    (AbstractRunHistoryEncoder, "_get_considered_trials"),
    (AbstractRunHistoryEncoder, "_min_y"),
    (AbstractRunHistoryEncoder, "_max_y"),
    (AbstractRunHistoryEncoder, "_percentile"),
    (LocalSearch, "_get_init_points_from_previous_configs"),
    (LocalSearch, "_search"),
    (LocalAndSortedRandomSearch, "_local_search"),
    (RandomForest, "_rf_opts"),
    (RandomForest, "_train"),
    (ConfigSelector, "_previous_entries"),
    (ConfigSelector, "_initial_design_configs"),
)
"""The private names of SMAC that this package uses: those of a class, or of its instances."""

_OF_ONE_BUDGET = "highest_budget"  # A value of `incumbent_selection` of multi-fidelity facades.

HIDDEN = "hidden from the model"
"""Key in `TrialValue.additional_info`: the surrogate model does not learn from the trial."""

# Without this handler, SMAC's warnings reach stderr if nobody has configured logging.
logging.getLogger("smac").addHandler(logging.NullHandler())


class _QuietSMBO(SMBO):
    """Writes no files, and does not ask on the terminal what to do with files of another run."""

    def _initialize_state(self) -> None:
        pass

    def save(self) -> None:
        pass


class _QuietFacade(AbstractFacade):
    def _get_optimizer(self) -> SMBO:
        return _QuietSMBO(
            scenario=self._scenario,
            runner=self._runner,
            runhistory=self._runhistory,
            intensifier=self._intensifier,
            overwrite=True,
        )


class _StableLocalSearch(LocalSearch):
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


class _LeanForest(RandomForest):
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


class _Encoder(AbstractRunHistoryEncoder):
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


def build_facade(
    kind: type[AbstractFacade] | None,
    configspace: ConfigurationSpace,
    metrics: Sequence[str],
    *,
    seed: int,
    n_trials: int,
    n_init: int | None,
    budgets: tuple[float, float] | None,
    options: Mapping[str, Component],
    smac_defaults: bool,
    races: bool = False,
    replicates: int | None = None,
) -> AbstractFacade:
    """Build a facade that is driven by `ask` and `tell`.

    Args:
        kind: The facade's class; None for the facade for hyperparameter optimization.
        configspace: The space to search. Share it with no other facade.
        metrics: The objectives.
        seed: The seed of all random choices.
        n_trials: The planned number of trials, by which SMAC sizes the initial design.
        n_init: The size of the initial design; None: SMAC chooses it.
        budgets: The lowest and the highest budget of a multi-fidelity facade.
        options: The name of a component to keywords of its `get_<name>`, or to a function that
            makes it for a scenario.
        smac_defaults: Whether to keep SMAC's own defaults where this package has others.
        races: Whether SMAC asks for single replicates (`deterministic=False`), more for good ones.
        replicates: How many replicates a configuration has at most (`max_config_calls`).

    Raises:
        UsageError: An option is unknown, or does not fit this kind of facade.
    """
    kind = kind or HyperparameterOptimizationFacade
    if not (isinstance(kind, type) and issubclass(kind, AbstractFacade)):
        raise UsageError(
            f"facade= takes a facade class of SMAC, such as smac.BlackBoxFacade, not {kind!r}."
        )
    scenario = Scenario(
        configspace,
        name="crystallize-opt",
        deterministic=not races,
        objectives=metrics[0] if len(metrics) == 1 else list(metrics),
        seed=seed,
        n_trials=n_trials,
        min_budget=budgets and budgets[0],
        max_budget=budgets and budgets[1],
    )
    chosen = _with_defaults(
        kind,
        options,
        n_init=n_init,
        several_objectives=len(metrics) > 1,
        smac_defaults=smac_defaults,
        replicates=replicates if races else None if smac_defaults else 1,
    )
    components = {name: _component(kind, scenario, name, how) for name, how in chosen.items()}
    _make_repeatable(components["acquisition_maximizer"])
    if isinstance(components["model"], RandomForest):
        _derive(components["model"], _LeanForest)
    _derive(components["runhistory_encoder"], _Encoder)
    components["runhistory_encoder"].knows_pending = not smac_defaults
    components["runhistory_encoder"].races = races
    _never_give_up(components["intensifier"])
    quiet = type(kind.__name__, (_QuietFacade, kind), {})
    # Without logging_level=False it would configure the root logger:
    # https://github.com/automl/SMAC3/issues/948
    facade: AbstractFacade = quiet(scenario, None, logging_level=False, **components)
    if facade.intensifier.uses_budgets and budgets is None:
        raise UsageError(
            f"{kind.__name__} gives trials different budgets. Say which parameter of the space is "
            "the budget: Integer(1, 27, fidelity=True)."
        )
    if races and not isinstance(facade.intensifier, Intensifier):
        raise UsageError(
            f"{kind.__name__} cannot race: it decides by a budget how long a trial runs. Leave out "
            "race=, or use smac.HyperparameterOptimizationFacade, smac.BlackBoxFacade, "
            "smac.AlgorithmConfigurationFacade or smac.RandomFacade."
        )
    selection = facade.intensifier.meta.get("incumbent_selection", _OF_ONE_BUDGET)
    if budgets is not None and len(metrics) > 1 and selection != _OF_ONE_BUDGET:
        raise UsageError(
            f"With several objectives, {kind.__name__} cannot take incumbent_selection="
            f"{selection!r}: SMAC compares the trials of a Pareto front on one budget. Leave it "
            f"out, or use {_OF_ONE_BUDGET!r}; the suggestions are the same."
        )
    shorten_initial_design(facade)
    return facade


def expect_training(facade: AbstractFacade) -> None:
    """Let the next suggestion come from a newly trained model.

    SMAC trains only if the number of trials in the model has changed. The number stays the same
    when a pending trial becomes a finished one.
    """
    facade.intensifier.config_selector._previous_entries = -1  # noqa: SLF001


def target_seeds(facade: AbstractFacade) -> list[int]:
    """Return SMAC's seeds: one for all trials, or in a race one for each replicate.

    SMAC never compares trials with different seeds.
    https://github.com/automl/SMAC3/issues/1149
    """
    intensifier = facade.intensifier
    intensifier.__post_init__()  # The first `ask` does this; doing it twice does no harm.
    keys = intensifier.get_instance_seed_keys_of_interest()
    return [key.seed for key in keys if key.seed is not None]


def withdraw(facade: AbstractFacade, trial: TrialInfo) -> None:
    """Forget that a trial is running, so that SMAC may ask for it again.

    Otherwise SMAC would ask for no further replicate of the configuration, ever.
    """
    history: Any = facade.runhistory
    config: Any = trial.config
    key = TrialKey(config.config_id, trial.instance, trial.seed, trial.budget)
    if trial in history._running_trials:  # noqa: SLF001
        history._running_trials.remove(trial)  # noqa: SLF001
        del history._data[key]  # noqa: SLF001
        history._running -= 1  # noqa: SLF001
        history._submitted -= 1  # noqa: SLF001


def queue(facade: AbstractFacade, configuration: Configuration) -> None:
    """Let a configuration that SMAC did not choose compete for further replicates."""
    facade.intensifier._queue.append((configuration, 1))  # type: ignore[attr-defined]  # noqa: SLF001


def _with_defaults(
    kind: type[AbstractFacade],
    options: Mapping[str, Component],
    *,
    n_init: int | None,
    several_objectives: bool,
    smac_defaults: bool,
    replicates: int | None,
) -> dict[str, Component]:
    """Add this package's defaults, and the components that it changes."""
    chosen: dict[str, Component] = {
        "model": {},
        "acquisition_maximizer": {},
        "runhistory_encoder": {},
        "intensifier": {},
        **options,
    }
    if several_objectives:
        # With budgets, SMAC otherwise fails as soon as trials of two budgets are incumbents.
        _prefer(kind, chosen, "intensifier", incumbent_selection=_OF_ONE_BUDGET)
    if not smac_defaults:
        _prefer(kind, chosen, "config_selector", retrain_after=1)
    if replicates is not None:
        # Without a race, all trials have the same seed, so a configuration is called only once.
        # With this limit SMAC keeps a shorter queue, and makes the same suggestions.
        _prefer(kind, chosen, "intensifier", max_config_calls=replicates)
    if n_init is not None and not _prefer(
        kind, chosen, "initial_design", n_configs=n_init, max_ratio=1.0
    ):
        raise UsageError(
            f"n_init= cannot be combined with {kind.__name__} or the given initial design, whose "
            "size is fixed."
        )
    return chosen


def _prefer(
    kind: type[AbstractFacade], chosen: dict[str, Component], name: str, **keywords: Any
) -> bool:
    """Add keywords that the user did not give for a component; return whether it takes them."""
    given = chosen.get(name, {})
    accepted = inspect.signature(getattr(kind, f"get_{name}")).parameters
    if callable(given) or not keywords.keys() <= accepted.keys():
        return False
    chosen[name] = {**keywords, **given}
    return True


def _component(kind: type[AbstractFacade], scenario: Scenario, name: str, how: Component) -> Any:
    if name not in COMPONENTS:
        raise UsageError(
            f"A facade has no component {name!r}. facade_options takes: {', '.join(COMPONENTS)}."
        )
    return how(scenario) if callable(how) else getattr(kind, f"get_{name}")(scenario, **how)


def _never_give_up(intensifier: Any) -> None:
    """Let the intensifier suggest points however many trials it knows.

    SMAC ends the search when 17 known trials in a row need no further run, which happens if many
    trials are attached or told at once. With one seed for all trials, none needs a further run.
    """
    if isinstance(intensifier, Intensifier):
        intensifier._retries = math.inf  # type: ignore[assignment]  # noqa: SLF001
    if isinstance(intensifier, SuccessiveHalving):
        _derive(intensifier, Brackets)


def _make_repeatable(maximizer: Any) -> None:
    if isinstance(maximizer, LocalAndSortedRandomSearch):
        maximizer = maximizer._local_search  # noqa: SLF001
    if isinstance(maximizer, LocalSearch):
        _derive(maximizer, _StableLocalSearch)


def _derive(component: Any, kind: type) -> None:
    """Change the component's class to a subclass that mixes `kind` in first."""
    own = type(component)
    component.__class__ = type(own.__name__, (kind, own), {})
