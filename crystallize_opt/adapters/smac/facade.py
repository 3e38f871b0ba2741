"""SMAC's facades, made quiet, repeatable and aware of pending trials.

`PRIVATE_NAMES` lists everything used here that is not SMAC's public interface; a test fails if an
upgrade of SMAC has removed one of these names.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ConfigSpace import Configuration, ConfigurationSpace
from smac import HyperparameterOptimizationFacade, Scenario
from smac.acquisition.maximizer import LocalAndSortedRandomSearch, LocalSearch
from smac.facade.abstract_facade import AbstractFacade
from smac.initial_design import AbstractInitialDesign
from smac.intensifier import Intensifier, SuccessiveHalving
from smac.main.config_selector import ConfigSelector
from smac.main.smbo import SMBO
from smac.model.random_forest.random_forest import RandomForest
from smac.runhistory import RunHistory, TrialInfo, TrialKey
from smac.runhistory.encoder.abstract_encoder import AbstractRunHistoryEncoder

from crystallize_opt.adapters.smac.components import (
    Encoder,
    LeanForest,
    QuietFacade,
    StableLocalSearch,
)
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


# Without this handler, SMAC's warnings reach stderr if nobody has configured logging.
logging.getLogger("smac").addHandler(logging.NullHandler())


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
        _derive(components["model"], LeanForest)
    _derive(components["runhistory_encoder"], Encoder)
    components["runhistory_encoder"].knows_pending = not smac_defaults
    components["runhistory_encoder"].races = races
    _never_give_up(components["intensifier"])
    quiet = type(kind.__name__, (QuietFacade, kind), {})
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
        _derive(maximizer, StableLocalSearch)


def _derive(component: Any, kind: type) -> None:
    """Change the component's class to a subclass that mixes `kind` in first."""
    own = type(component)
    component.__class__ = type(own.__name__, (kind, own), {})
