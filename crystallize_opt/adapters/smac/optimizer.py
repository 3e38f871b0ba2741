"""SMAC's facades, driven by `facade.ask` and `facade.tell`.

For a seed, the suggestions are bit for bit those of a loop written by hand over the same facade
(with `smac_defaults=True`, over a facade with SMAC's defaults). The differences from such a loop
are:

- SMAC writes no files, asks nothing on the terminal, and configures no logger.
- Local search starts in the same order in every process. SMAC takes its start points from a set, so
  its suggestions depend on PYTHONHASHSEED: https://github.com/automl/SMAC3/pull/1244
- The model is trained before every suggestion, not before every eighth, and assumes that pending
  trials will be average, so it suggests other points (`smac_defaults=True` turns both off).
- The random forest allocates as many leaves as it can need, not a million for each tree, and uses
  no threads. The forest is the same, but a suggestion takes a fifth of the time.
- Choices and grids (`step`) are stored as their index, a constant as 0, and floats that need more
  than ConfigSpace's 13 decimals as their position in the range.
- Linear constraints are forbidden clauses, ConfigSpace's own if it has one (`"a <= b"`).
  Suggestions of local search that violate them, which happens on plateaus, are discarded.
- Where fewer than a twentieth of all points satisfy the linear constraints, SMAC searches positions
  in the region that is left (`crystallize_opt.space.positions`) instead.
- A child also has the conditions of its parents, because ConfigSpace would suggest children of
  inactive parents. It has no condition on a parent with one value, because SMAC's initial design
  would fail. A parameter that can never be active is left out.
- SMAC takes finite costs only: https://github.com/automl/SMAC3/pull/1312. A failed trial is
  reported as CRASHED with the worst cost so far plus a tenth of the range, and again whenever those
  change. While no trial has completed, the model does not see it. Costs beyond 1e100 are reported
  as 1e100.
- An abandoned trial is also reported as CRASHED, but the model never sees it.
- Attached points take the place of the last points of the initial design. Several trials of one
  point are reported as the mean of those that completed.
- SMAC gives up a finite space when 16 draws in a row were suggested before:
  https://github.com/automl/SMAC3/issues/1160. The remaining points then come in random order.
- A trial has one seed (`deterministic=True`): SMAC gets the mean over the replicates. With
  `race=True` it is SMAC that decides which configuration runs a further replicate; replicate r has
  SMAC's r-th seed for SMAC, and the experiment's seed of replicate r in the steps. A replicate that
  was abandoned may be asked for again. Enqueued points compete for replicates as SMAC's own do.
- After an exception inside `ask`, SMAC would suggest nothing more. The next `ask` first repeats the
  search on a new facade, which takes as long as the search did.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import UnsupportedSpaceError, UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.optimizers.unique import Dropped
from crystallize_opt.runtime.checks import whole_number
from crystallize_opt.runtime.quiet_import import quiet_import
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.space import SearchSpace, as_space
from crystallize_opt.trials.objective import Constraint, Objective, as_objectives
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    from smac import Scenario
    from smac.facade.abstract_facade import AbstractFacade

    from crystallize_opt.adapters.smac.run import Trial

# SMAC is imported when the first optimizer is built, because the import takes seconds.
for _library in ("smac", "ConfigSpace"):
    if importlib.util.find_spec(_library) is None:
        raise ModuleNotFoundError(f"No module named {_library!r}", name=_library)

importing_smac = partial(quiet_import, "SMAC", "smac", undo_logging=True)
"""A context manager for an import of SMAC, dask and the libraries they import."""

_LARGEST_COST = 1e100  # SMAC's models square costs, which must not overflow.


class SMACOptimizer(SpaceOptimizer["Trial"]):
    """SMAC behind the common interface: Bayesian optimization with random forests by default.

    Args:
        space: A `SearchSpace`, or the mapping that builds one.
        objective: One objective, or several: SMAC then minimizes the mean of their costs, each
            scaled to its range.
        constraints: Outcome constraints. SMAC does not learn from them.
        seed: The seed of all random choices.
        facade: The class of one of SMAC's facades. Default:
            `smac.HyperparameterOptimizationFacade`. A space with a fidelity, such as
            `Integer(1, 27, fidelity=True)`, needs `smac.MultiFidelityFacade` or
            `smac.HyperbandFacade`: the fidelity is SMAC's budget.
        n_trials: How many trials you plan. SMAC chooses the size of its initial design by it (at
            most a quarter); the search does not end after this many trials.
        n_init: The size of the initial design, instead of SMAC's choice; attached points count.
        facade_options: Options for components of the facade: the component's name to the keywords
            of the facade's `get_<name>` (`{"acquisition_maximizer": {"challengers": 1000}}`), or to
            a function that makes the component for a `smac.Scenario`.
        race: True: SMAC races configurations. Each suggestion is one replicate of one (a
            `RacedReplicate`), each configuration one trial whose replicates grow; poor ones get no
            more. `replicates_per_trial` of a search is how many a trial has at most (SMAC's
            `max_config_calls`), and its `num_trials` counts replicates. The best is, of the trials
            with the most replicates, that with the best mean. A number does the same, and is that
            maximum, for a loop of your own. The facade must be one without budgets.
        smac_defaults: Whether to keep SMAC's own defaults: train the model before every eighth
            suggestion only, and ignore pending trials.

    Attributes:
        facade: The SMAC facade. After an interrupted `ask`, a new one replaces it.

    Raises:
        UnsupportedSpaceError: SMAC cannot search the space.
        UsageError: An option does not fit the facade.

    Example:
        >>> space = {"x": (-10.0, 10.0), "kind": ["a", "b"]}
        >>> optimizer = SMACOptimizer(space, Objective("loss", "minimize"), seed=0)
        >>> for _ in range(3):
        ...     (treatment,) = optimizer.ask()
        ...     optimizer.tell({"loss": treatment.params["x"] ** 2})
        >>> optimizer.facade.runhistory.finished
        3
    """

    can_be_copied = False
    libraries = ("smac", "ConfigSpace", "numpy", "scipy", "scikit-learn")
    capabilities = Capabilities(attached=True, unique_points=True)

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
        facade: type[AbstractFacade] | None = None,
        n_trials: int = 100,
        n_init: int | None = None,
        facade_options: Mapping[str, Mapping[str, Any] | Callable[[Scenario], Any]] | None = None,
        race: bool | int = False,
        smac_defaults: bool = False,
    ) -> None:
        space = as_space(space)
        self.races = self.duplicates = race is not False
        if self.races:
            race = race if race is True else whole_number("race=", race, 2)
            _refuse_race(space, objective)
        n_trials = whole_number("n_trials=", n_trials)
        if n_init is not None:
            n_init = whole_number("n_init=", n_init, 0, n_trials)
        fidelity = space.fidelity
        self._budget = None if fidelity is None else _budget(space[fidelity])
        super().__init__(
            space,
            objective,
            constraints=constraints,
            seed=seed,
            settings={
                "facade": facade,
                "n_trials": n_trials,
                "n_init": n_init,
                "facade_options": facade_options,
                "smac_defaults": smac_defaults,
                **({"race": race} if self.races else {}),
            },
            capabilities=Capabilities(pending=not smac_defaults, attached=True, fidelity=True),
            repeats="allowed" if self.races else "never" if fidelity is None else "not pending",
            gives_up="SMAC finds no other point of the search space."
            if self.races or fidelity is not None
            else None,
            positions=True,
        )
        with importing_smac():
            from crystallize_opt.adapters.smac.facade import build_facade
            from crystallize_opt.adapters.smac.run import Run
            from crystallize_opt.adapters.smac.space import SearchedSpace
            from crystallize_opt.adapters.smac.warm_start import (
                budgets_of,
                competing_in_brackets,
                has_a_model,
            )

        searched = self.searched.without_fidelity
        # ConfigSpace draws points until one is allowed: of a narrow region it would find none.
        self._searched = SearchedSpace(SearchSpace(searched) if self.space.region else searched)
        budget = self._budget
        options = dict(facade_options or {})
        self._most_replicates = race if type(race) is int else None
        self._names: dict[Any, str] = {}  # In a race: of each configuration's trial.

        def build() -> AbstractFacade:
            return build_facade(
                facade,
                self._searched.configspace,
                [each.metric for each in self.objectives],
                seed=self.seed,
                n_trials=n_trials,
                n_init=n_init,
                budgets=None if budget is None else (budget.low, budget.high),
                options=options,
                smac_defaults=smac_defaults,
                races=self.races,
                replicates=self._most_replicates,
            )

        self._start: Callable[[], Run] = lambda: Run(
            build, knows_pending=not smac_defaults, races=self.races
        )
        self._reseed()
        built = self._run.facade
        if budget is not None and not built.intensifier.uses_budgets:
            raise UnsupportedSpaceError(
                f"SMACOptimizer with {type(built).__name__} cannot take {fidelity!r}, {budget!r}: "
                "this facade has no budgets. Give facade=smac.MultiFidelityFacade or "
                f"smac.HyperbandFacade; or search with one value: space.fixed({{{fidelity!r}: "
                f"{budget.high!r}}})."
            )
        self.capabilities = dataclasses.replace(
            self.capabilities,
            attached=has_a_model(built),
            fidelity=bool(built.intensifier.uses_budgets),
        )
        self._gave_up = False
        self._without: dict[Trial, tuple[Status, float]] = {}  # Trials without a value.
        # Points that SMAC did not suggest; with another budget, it may. SMAC rounds their floats.
        self._given: dict[Any, dict[str, Any]] = {}
        # Values of the fidelity, such as whole numbers, to SMAC's budgets.
        self._budgets: dict[float, float] = {}
        # Completed trials whose configuration competes for a higher budget, by name.
        self._racing: dict[str, Trial] = {}
        self._competing = competing_in_brackets
        if budget is not None:
            self._budgets = {_value_of(each, budget): each for each in budgets_of(self._run.facade)}

    def _reseed(self) -> None:
        self._run = self._start()

    def race_up_to(self, replicates: int) -> None:
        """Take the largest number of replicates of a trial; called before the first suggestion.

        Raises:
            UsageError: The number is 1, or the optimizer has another one already.
        """
        most = self._run.replicates if self._most_replicates or self.calls else None
        if replicates == 1 and self._most_replicates is None:
            raise UsageError(
                "SMACOptimizer(race=True) needs replicates_per_trial= of 2 or more: the largest "
                "number of replicates of a trial."
            )
        if most is None:
            self._most_replicates = replicates
            self._reseed()
            most = self._run.replicates
        if replicates not in (1, most):
            raise UsageError(
                f"This SMACOptimizer races up to {most} replicates, but replicates_per_trial= is "
                f"{replicates}. Give the same number."
            )

    @property
    def facade(self) -> AbstractFacade:
        """The SMAC facade. After an interrupted `ask`, a new one replaces it."""
        return self._run.facade

    # Ask ---------------------------------------------------------------------------------------

    def _suggest(self) -> tuple[Trial, dict[str, Any]] | None:
        trial = None if self._gave_up else self._run.ask()
        if trial is None:
            self._gave_up = True
            return None
        configuration = trial.info.config
        point = self._given.get(configuration) or self._searched.params(configuration)
        return trial, self._with_budget(point, trial)

    def _with_budget(self, point: dict[str, Any], trial: Trial) -> dict[str, Any]:
        """Add the budget to a point, in the space's order."""
        fidelity = self.criterion.fidelity
        if self._budget is None or fidelity is None:
            return point
        everything = {**point, fidelity: _value_of(float(trial.info.budget or 0.0), self._budget)}
        return {name: everything[name] for name in self.searched if name in everything}

    def _insert(self, params: Mapping[str, Any]) -> Trial:
        point = dict(params)
        value = point.pop(self.criterion.fidelity or "", None)
        budget = None if value is None else self._budgets.get(value, float(value))
        configuration = self._searched.configuration(point)
        self._given[configuration] = point
        return self._run.start(configuration, budget, attached=True)

    def _complete(self, params: Mapping[str, Any]) -> tuple[Trial, dict[str, Any]]:
        trial, point = super()._complete(params)
        trial.attached = False  # SMAC's initial design comes in addition to enqueued points.
        return trial, point

    def _pend(self, params: Mapping[str, Any], handle: Trial) -> Treatment:
        if not self.races:
            return super()._pend(params, handle)
        configuration, replicate = handle.info.config, self._run.replicate_of(handle)
        name = self._names.get(configuration)
        treatment = self.ledger.add_replicate(params, handle, replicate, name)
        self._names.setdefault(configuration, treatment.condition)
        return treatment

    def _drop(self, handle: Trial, why: Dropped) -> None:
        self._without_value(handle, Status.ABANDONED, 0.0)

    # Tell --------------------------------------------------------------------------------------

    def racing(self) -> Collection[str] | None:
        """Return the completed trials whose configuration SMAC may run with a higher budget."""
        if self._budget is None:
            return None
        competing = self._competing(self._run.facade)
        if competing is not None:
            self._racing = {
                name: handle
                for name, handle in self._racing.items()
                if id(handle.info.config) in competing
            }
        return self._racing.keys()

    def _learn(self, handle: Trial, observation: Observation) -> None:
        if self._budget is not None:
            self._racing[observation.treatment.name] = handle
        if self.races and handle.attached:
            self._learn_attached(handle, observation)
        else:
            self._learn_one(handle, observation)

    def _learn_attached(self, handle: Trial, observation: Observation) -> None:
        """Learn each replicate of an attached trial as one with SMAC's seed of that replicate."""
        configuration = handle.info.config
        self._names[configuration] = observation.treatment.name
        replicates = [each for each in observation.replicates if each.index < self._run.replicates]
        if not replicates:
            self._learn_one(handle, observation)
            return
        self._run.withdraw(handle)
        for replicate in replicates:
            trial = self._run.start(configuration, attached=True, replicate=replicate.index)
            alone = Observation.of_replicates(observation.treatment, [replicate])
            self._learn_one(trial, alone.checked(self.required_metrics))

    def _learn_one(self, handle: Trial, observation: Observation) -> None:
        if observation.status is Status.COMPLETED:
            self._without.pop(handle, None)
            costs = list(map(_bounded, self.criterion.costs(observation)))
            self._run.tell(handle, costs, Status.COMPLETED, observation.duration or 0.0)
            return
        if self.races and observation.status is Status.ABANDONED:
            self._run.withdraw(handle)
            return
        self._without_value(handle, observation.status, observation.duration or 0.0)

    def _without_value(self, handle: Trial, status: Status, seconds: float) -> None:
        """Report a trial without a value, now and whenever the extremes of the values change.

        With budgets, SMAC compares all trials, also those that the model does not see.
        """
        is_new = handle not in self._without
        self._without[handle] = status, seconds
        self._tell_again(handle)
        if is_new:
            self.measured.when_changed(partial(self._tell_again, handle))

    def _reopen(self, handle: Trial, params: Mapping[str, Any]) -> Trial:
        return handle  # SMAC takes another outcome of a trial, and trains its model anew.

    def _tell_again(self, handle: Trial) -> None:
        """Report a trial without a value as a little worse than the worst, or hide it from SMAC."""
        if handle not in self._without:  # It was abandoned, and has a value now.
            return
        status, seconds = self._without[handle]
        costs = [
            _bounded(high + 0.1 * ((high - low) or abs(high) or 1.0))
            for low, high in self.measured.costs
        ]
        if self.races and not costs:
            return  # SMAC would compare later ones with any value.
        hidden = status is Status.ABANDONED or not costs
        nothing = [0.0] * len(self.objectives)
        self._run.tell(handle, costs or nothing, status, seconds, hidden=hidden)


def _refuse_race(space: SearchSpace, objective: Any) -> None:
    if space.fidelity is not None:
        raise UsageError(
            f"SMACOptimizer(race=...) cannot take the fidelity {space.fidelity!r}: SMAC races by "
            "seeds or by budgets, not both. Leave out race=, or search with one value of it: "
            f"space.fixed({{{space.fidelity!r}: ...}})."
        )
    if len(as_objectives(objective)) > 1:
        raise UsageError(
            "SMACOptimizer(race=...) takes one objective: with several ones, the trials of its "
            "Pareto front have different numbers of replicates. Leave out race=."
        )


def _bounded(cost: float) -> float:
    return min(max(cost, -_LARGEST_COST), _LARGEST_COST)


def _value_of(budget: float, fidelity: Float | Integer) -> float:
    """Return the value of the fidelity for one of SMAC's budgets, which are floats."""
    value = min(max(budget, fidelity.low), fidelity.high)
    return round(value) if isinstance(fidelity, Integer) else value


def _budget(fidelity: Any) -> Float | Integer:
    """Return the parameter that is SMAC's budget: a space has no other kind of fidelity."""
    assert isinstance(fidelity, (Float, Integer))  # noqa: S101  (for the type checker)
    return fidelity
