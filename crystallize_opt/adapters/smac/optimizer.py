"""SMAC's facades, driven by `facade.ask` and `facade.tell`.

For a seed, the suggestions are bit for bit those of a hand-written loop over the same facade, with
`smac_defaults=True` of one with SMAC's defaults. What differs from such a loop:

- No files are written, nothing is asked on the terminal, and no logger is configured.
- Local search starts in the same order in every process. SMAC takes its start points from a set,
  so each process, by its PYTHONHASHSEED, makes other suggestions:
  https://github.com/automl/SMAC3/pull/1244
- The model is trained before every suggestion, not before every eighth, and takes pending trials to
  be average, so that it suggests something else (`smac_defaults=True` leaves both out).
- The random forest allocates as many leaves as it can need, not a million for each tree, and uses
  no threads. It is the same forest, but a suggestion takes a fifth of the time.
- Choices and grids (`step`) are stored as their index, a constant as 0, and floats for which the 13
  decimals of ConfigSpace are too few as their position in the range.
- Linear constraints are forbidden clauses: ConfigSpace's own where it has one (`"a <= b"`). What
  local search suggests against them, which happens on plateaus, is dropped.
- A child has the conditions of its parents, too, but none on a parent with one value. Without the
  former ConfigSpace also suggests children of inactive parents; with the latter SMAC's initial
  design fails. A parameter that can never be active is left out.
- SMAC takes finite costs only: https://github.com/automl/SMAC3/pull/1312. A trial that failed is
  told as CRASHED, with the worst cost so far plus a tenth of the range, and told again whenever
  those change. While no trial has completed, the model does not see it. Costs beyond 1e100 are told
  as 1e100.
- An abandoned trial is told as CRASHED, too, but the model never sees it.
- SMAC gives up a finite space when 16 draws in a row were suggested before:
  https://github.com/automl/SMAC3/issues/1160. The points that are left then come in random order.
- A trial has one seed (`deterministic=True`): what is told is the mean over the replicates.
- After an exception inside `ask`, SMAC would suggest nothing more. The next `ask` repeats the
  search up to there first, which takes as long as it took.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import random
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import SpaceExhausted, UnsupportedSpaceError, UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.runtime.quiet_import import quiet_import
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.space.unseen import UnseenPoints
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation, Status

if TYPE_CHECKING:
    from smac import Scenario
    from smac.facade.abstract_facade import AbstractFacade

    from crystallize_opt.adapters.smac.run import Trial

# SMAC itself is imported when the first optimizer is built, because that takes seconds.
for _library in ("smac", "ConfigSpace"):
    if importlib.util.find_spec(_library) is None:
        raise ModuleNotFoundError(f"No module named {_library!r}", name=_library)

# The import brings dask, distributed, bokeh, tornado, pandas and scikit-learn, which add handlers
# that write to stderr to their loggers.
importing_smac = functools.partial(quiet_import, "SMAC", "smac", undo_logging=True)

_LARGEST_COST = 1e100  # The squares of costs must not overflow.
_LISTED = 100_000  # Finite spaces up to this size are listed when SMAC gives up.
_DRAWN_IN_A_ROW = 1000


class SMACOptimizer(SpaceOptimizer["Trial"]):
    """SMAC behind the common interface: Bayesian optimization with random forests by default.

    Args:
        space: A `SearchSpace`, or the mapping that builds one.
        objective: One objective, or several: SMAC then minimizes the mean of their costs, each
            scaled to its range.
        constraints: Outcome constraints. SMAC does not learn from them.
        seed: The seed of all random choices.
        facade: The class of one of SMAC's facades. Default:
            `smac.HyperparameterOptimizationFacade`.
        n_trials: How many trials are planned. SMAC sizes its initial design by it (at most a
            quarter); the search does not end with it.
        n_init: The size of the initial design, instead of SMAC's choice.
        fidelity: With `smac.MultiFidelityFacade`: the `Float` or `Integer` of the space that is the
            budget of a trial, such as a number of epochs. SMAC does not search it but raises it
            from its low to its high value for trials that do well. The best trial is one of the
            highest budget so far.
        facade_options: Components of the facade: their name to the keywords of the facade's
            `get_<name>` (`{"acquisition_maximizer": {"challengers": 1000}}`), or to a function that
            makes one for a `smac.Scenario`.
        smac_defaults: Keep SMAC's own defaults: train the model before every eighth suggestion
            only, and let it know nothing of pending trials.

    Attributes:
        facade: The facade. (After an interrupted `ask` a new one takes its place.)

    Raises:
        UnsupportedSpaceError: SMAC cannot search the space.
        UsageError: An option does not go with the facade.

    Example:
        >>> space = {"x": (-10.0, 10.0), "kind": ["a", "b"]}
        >>> optimizer = SMACOptimizer(space, Objective("loss", "minimize"), seed=0)
        >>> for _ in range(3):
        ...     (treatment,) = optimizer.ask()
        ...     optimizer.tell({"loss": treatment.params["x"] ** 2})
        >>> optimizer.facade.runhistory.finished
        3
    """

    libraries = ("smac", "ConfigSpace")
    capabilities = Capabilities(unique_points=True)

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
        fidelity: str | None = None,
        facade_options: Mapping[str, Mapping[str, Any] | Callable[[Scenario], Any]] | None = None,
        smac_defaults: bool = False,
    ) -> None:
        super().__init__(space, objective, constraints=constraints, seed=seed)
        _check_counts(n_trials, n_init)
        self._fidelity = fidelity or ""
        self._budget = None if fidelity is None else _budget(self.space, fidelity)
        with importing_smac():
            from crystallize_opt.adapters.smac.facade import build_facade
            from crystallize_opt.adapters.smac.run import Run
            from crystallize_opt.adapters.smac.space import SearchedSpace

        searched = self.space
        if fidelity is not None:
            others = {name: each for name, each in self.space.items() if name != fidelity}
            searched = SearchSpace(others, self.space.constraints)
        self._searched = SearchedSpace(searched)
        budget = self._budget
        drawn = secrets.randbits(32) if self.seed is None else self.seed
        options = dict(facade_options or {})

        def build() -> AbstractFacade:
            return build_facade(
                facade,
                self._searched.configspace,
                [each.metric for each in self.objectives],
                seed=drawn,
                n_trials=n_trials,
                n_init=n_init,
                budgets=None if budget is None else (budget.low, budget.high),
                options=options,
                smac_defaults=smac_defaults,
            )

        self._run = Run(build, knows_pending=not smac_defaults)
        self.capabilities = Capabilities(pending=not smac_defaults, unique_points=budget is None)
        # Of each objective the lowest and the highest cost that was measured; and what failed.
        self._bounds: list[tuple[float, float]] = []
        self._failed: list[tuple[Trial, Observation]] = []
        self._rng = random.Random(drawn)
        self._unseen = UnseenPoints(searched, self._rng) if searched.size < math.inf else None
        self._gave_up = False
        self._highest_budget = -math.inf
        self._asked_budgets: dict[float, float] = {}  # the user's value -> SMAC's

    @property
    def facade(self) -> AbstractFacade:
        """SMAC's facade. After an interrupted `ask` a new one takes its place."""
        return self._run.facade

    # Ask ---------------------------------------------------------------------------------------

    def _suggest(self) -> tuple[Trial, dict[str, Any]]:
        if self._unseen is not None:
            # While nothing is known, SMAC draws at random until a point is new, be it for ever.
            self._unseen.require_any()
        trial = None if self._gave_up else self._run.ask()
        if trial is None:
            self._gave_up = True
            trial = self._run.start(self._searched.configuration(self._point_that_is_left()))
        point = self._searched.params(trial.info.config)
        if self._unseen is not None:
            self._unseen.add(point)
        return trial, self._with_budget(point, trial)

    def _point_that_is_left(self) -> dict[str, Any]:
        space, unseen = self._searched.space, self._unseen
        if self._budget is None:
            if unseen is not None and space.size <= _LISTED:
                return unseen.draw()
            for _ in range(_DRAWN_IN_A_ROW):
                point = space.sample(self._rng)
                if unseen is None or point in unseen:
                    return point
        raise SpaceExhausted("SMAC finds no other point of the search space.")

    def _with_budget(self, point: dict[str, Any], trial: Trial) -> dict[str, Any]:
        """Add the budget to a point, in the space's order."""
        if self._budget is None:
            return point
        budget = float(trial.info.budget or 0.0)
        value = min(max(budget, self._budget.low), self._budget.high)
        if isinstance(self._budget, Integer):
            value = round(value)
        self._asked_budgets[value] = budget
        everything = {**point, self._fidelity: value}
        return {name: everything[name] for name in self.space if name in everything}

    # Tell --------------------------------------------------------------------------------------

    def _learn(self, handle: Trial, observation: Observation) -> None:
        if observation.status is Status.COMPLETED:
            self._note_budget(observation)
            costs = [
                min(max(cost, -_LARGEST_COST), _LARGEST_COST) for cost in self._costs(observation)
            ]
            self._widen_bounds(costs)
            self._run.tell(handle, costs, observation)
        else:
            self._tell_failed(handle, observation)
            self._failed.append((handle, observation))

    def _widen_bounds(self, costs: Sequence[float]) -> None:
        """Take measured costs into account, and correct what failed trials were told with."""
        before = self._bounds or [(math.inf, -math.inf)] * len(costs)
        bounds = [
            (min(low, cost), max(high, cost))
            for (low, high), cost in zip(before, costs, strict=True)
        ]
        if bounds != before:
            self._bounds = bounds
            for handle, observation in self._failed:
                self._tell_failed(handle, observation)

    def _tell_failed(self, handle: Trial, observation: Observation) -> None:
        """Tell a trial without a value as a little worse than the worst, or as nothing at all."""
        costs = [high + 0.1 * ((high - low) or abs(high) or 1.0) for low, high in self._bounds]
        hidden = not costs or observation.status is Status.ABANDONED
        self._run.tell(handle, costs or [0.0] * len(self.objectives), observation, hidden=hidden)

    def _learn_attached(self, observation: Observation) -> None:
        point = self.space.validate(observation.treatment.params)
        value = point.pop(self._fidelity, None)
        budget = None if value is None else self._asked_budgets.get(value, float(value))
        if self._unseen is not None:
            self._unseen.add(point)
        self._learn(self._run.add(self._searched.configuration(point), budget), observation)

    # Budgets -----------------------------------------------------------------------------------

    def _note_budget(self, observation: Observation) -> None:
        """Let the best trial be one of the highest budget so far."""
        if self._budget is None or not super()._is_candidate(observation):
            return
        budget = observation.treatment.params[self._fidelity]
        if budget > self._highest_budget:
            self._highest_budget = budget
            self._best = None

    def _is_candidate(self, observation: Observation) -> bool:
        return super()._is_candidate(observation) and (
            self._budget is None
            or observation.treatment.params[self._fidelity] >= self._highest_budget
        )


def _check_counts(n_trials: int, n_init: int | None) -> None:
    if not isinstance(n_trials, int) or n_trials < 1:
        raise UsageError(f"n_trials= is a whole number, at least 1, not {n_trials!r}.")
    if n_init is not None and not (isinstance(n_init, int) and 0 <= n_init <= n_trials):
        raise UsageError(f"n_init= is a whole number, at most n_trials={n_trials}, not {n_init!r}.")


def _budget(space: SearchSpace, fidelity: str) -> Float | Integer:
    """Return the parameter that is the budget of a trial, which nothing else may depend on."""
    parameter = space.get(fidelity)
    if not isinstance(parameter, (Float, Integer)) or not 0 < parameter.low < parameter.high:
        raise UsageError(
            f"fidelity= names a Float or Integer of the space, with 0 < low < high, not "
            f"{fidelity!r}, which is {parameter!r}."
        )
    depends = [name for name in space if fidelity in (c.parent for c in space[name].conditions)]
    constrained = [each for each in space.constraints if fidelity in each.coefficients]
    if parameter.step is not None or parameter.conditions or depends or constrained:
        raise UnsupportedSpaceError(
            f"SMACOptimizer cannot take {fidelity!r}, {parameter!r}, as fidelity: SMAC chooses the "
            "budget on its own, so it has no step and no conditions, and no other parameter or "
            f"constraint depends on it. Here do: {depends + constrained or [parameter]!r}."
        )
    return parameter
