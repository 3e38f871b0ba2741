"""Nevergrad's optimizers, driven by `ask` and `tell`.

For a seed, the suggestions are bit for bit those of a loop over `optimizer.ask()` and
`optimizer.tell(candidate, loss)` with `parametrization.random_state = RandomState(seed)` and
`numpy.random.seed(seed)`, over an `ng.p.Dict` of the space's parameters in order: `Scalar`, `Log`,
`set_integer_casting()`, `Choice` and `TransitionChoice`. The differences from a loop written by
hand are:

- Choices are stored as their index. Numbers with a step are stored as the index of the value; a
  `Float` whose bounds Nevergrad cannot compute with, as a position from 0 to 1. Parameters with one
  value are not stored.
- A condition on one choice of one parent is a branch: the parent is a `Choice` of `Dict`s. A
  parameter with any other condition is always in a candidate, and left out of the suggestion where
  it is inactive.
- `numpy.random` and `random` have a state of the optimizer's own during each call, because some of
  Nevergrad draws from them.
- Attached and enqueued points are reported as `parametrization.spawn_child(new_value=...)`, but not
  to the optimizers that refuse points which they have not asked for (EDA, EMNA).
- A failed trial is reported with the worst value so far; one that fails before any value is known,
  when the first value is. An abandoned trial is not reported.
- A linear constraint is registered as a cheap constraint. If Nevergrad suggests a point that
  violates it all the same, the point is reported like a failed trial, and Nevergrad is asked again;
  after 20 such points in a row, a random point that satisfies the constraints is used. Where fewer
  than a twentieth of all points satisfy them, Nevergrad searches positions in the region that is
  left (`crystallize_opt.space.positions`).
- Designs such as `LHSSearch`, and portfolios that have one, end with the budget: then
  random points follow.
- A point that is pending is not suggested again: that candidate is not reported, and Nevergrad is
  asked again. In a finite space, the search ends when every point has been suggested.
- Values beyond 5e20 are reported as 5e20, and those below -5e20 as -5e20. (Nevergrad clips the
  former itself; with the latter, its models overflow.)
- With several objectives, the thresholds are Nevergrad's reference point if each objective has one.
- Warnings of Nevergrad are suppressed, and `numpy` 2.4 is made to work: see `quiet.py`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from crystallize_opt.adapters.nevergrad.library import ConfiguredOptimizer, Optimizer, ng, np
from crystallize_opt.adapters.nevergrad.quiet import quietly
from crystallize_opt.adapters.nevergrad.refusals import maker_of, name_of, rehearse
from crystallize_opt.adapters.nevergrad.space import NevergradSpace
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.optimizers.unique import Dropped
from crystallize_opt.runtime.checks import whole_number
from crystallize_opt.runtime.own_random_state import OwnRandomState
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

_LARGEST = 5e20
_LEARN_FROM_ATTACHED = ("OnePlusOne", "TBPSA")
"""Of the common optimizers, those whose next suggestions were clearly better after attached points,
as the conformance suite measures it. CMA, for example, hardly uses them: see docs/nevergrad.md."""

Candidate: TypeAlias = Any  # ng.p.Parameter | None; Nevergrad has no types for mypy.
"""What Nevergrad knows a trial by; None if it is told nothing of it, because there is nothing to
search, or because the optimizer takes only points that it has asked for."""


class NevergradOptimizer(SpaceOptimizer[Candidate]):
    """Nevergrad behind the common interface: `NGOpt`, or any optimizer of its registry.

    Args:
        space: A `SearchSpace`, or the mapping that builds one.
        objective: One objective, or several.
        constraints: Outcome constraints, whose violations Nevergrad is told.
        seed: The seed of the parametrization's random state.
        optimizer: A name of `nevergrad.optimizers.registry`; or a configured optimizer, such as
            `nevergrad.optimizers.DifferentialEvolution(crossover="twopoints")`. `"NGOpt"` chooses a
            method by the space, the budget and the number of workers.
        budget: The number of trials of the search, by which many optimizers set their parameters.
            A search may be longer.
        num_workers: The number of trials that are pending at the same time, at least 2: with 1,
            `NGOpt` may choose a method that waits for each outcome.

    Attributes:
        native: The Nevergrad optimizer; None if every parameter has only one value.

    Raises:
        UnsupportedSpaceError: Nevergrad cannot take the space.
        UsageError: There is no such optimizer, or it takes one trial at a time.
        MissingExtraError: The optimizer needs a package that is not installed.

    Example:
        >>> space = {"x": (-10.0, 10.0), "kind": ["a", "b"]}
        >>> optimizer = NevergradOptimizer(space, Objective("loss", "minimize"), seed=0, budget=20)
        >>> for _ in range(3):
        ...     (treatment,) = optimizer.ask()
        ...     optimizer.tell({"loss": treatment.params["x"] ** 2})
        >>> optimizer.native.num_tell
        3
    """

    libraries = ("nevergrad", "cma", "bayesian-optimization", "numpy", "scipy", "scikit-learn")
    capabilities = Capabilities(
        thresholds=True,
        outcome_constraints=True,
        recommends=True,
        pending=False,
    )

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
        optimizer: str | ConfiguredOptimizer | type[Optimizer] = "NGOpt",
        budget: int = 100,
        num_workers: int = 2,
    ) -> None:
        self._maker = maker_of(optimizer)
        self.budget = whole_number("budget", budget)
        self.num_workers = whole_number("num_workers", num_workers, low=2)
        super().__init__(
            space,
            objective,
            constraints=constraints,
            seed=seed,
            settings={
                "optimizer": _identity(optimizer),
                "budget": self.budget,
                "num_workers": self.num_workers,
            },
            repeats="not pending",
            positions=True,
        )
        self._nevergrad_space = NevergradSpace(self.searched)
        self._takes_others = False
        with quietly(OwnRandomState(0)):
            rehearsed = self._nevergrad_space.parametrization()
            if rehearsed is not None:
                self._takes_others = rehearse(self._maker, rehearsed, self.budget, self.num_workers)
        learns = self._takes_others and name_of(self._maker) in _LEARN_FROM_ATTACHED
        self.capabilities = dataclasses.replace(self.capabilities, attached=learns)
        self._reseed()
        # Failed trials that are reported once a value is known that can stand for theirs.
        self._failed: list[Candidate] = []
        self._told: dict[str, Treatment] = {}

    def _reseed(self) -> None:
        self._own = OwnRandomState(self.seed)
        self.native = self._built()

    def _built(self) -> Optimizer | None:
        with quietly(self._own):
            parametrization = self._nevergrad_space.parametrization()
            if parametrization is None:
                return None
            parametrization.random_state = np.random.RandomState(self.seed)
            native = self._maker(parametrization, budget=self.budget, num_workers=self.num_workers)
            thresholds = [each.threshold for each in self.objectives]
            if len(thresholds) > 1 and None not in thresholds:
                reference = [each.sign * each.threshold for each in self.objectives]  # type: ignore[operator]
                native.tell(ng.p.MultiobjectiveReference(), reference)
        return native

    # Ask ---------------------------------------------------------------------------------------

    def _suggest(self) -> tuple[Candidate, dict[str, Any]] | None:
        if self.native is None:
            return None
        with quietly(self._own):
            try:
                candidate = self.native.ask()
            except AssertionError as error:
                if "Over the budget" not in str(error):
                    raise
                return None  # A design that was made for the budget has no more points.
            return candidate, self._nevergrad_space.decode(candidate.value)

    def _insert(self, params: Mapping[str, Any]) -> Candidate:
        if self.native is None or not self._takes_others:
            return None
        with quietly(self._own):
            candidate = self.native.parametrization.spawn_child()
            self._nevergrad_space.set_point(candidate, params)
        return candidate

    def _drop(self, handle: Candidate, why: Dropped) -> None:
        if why is Dropped.INFEASIBLE:
            self._fail(handle)

    def _reopen(self, handle: Candidate, params: Mapping[str, Any]) -> Candidate:
        return handle  # Nevergrad was told nothing of the abandoned trial.

    def _recommend(self) -> Treatment | None:
        """Return the trial that Nevergrad recommends; if it is no trial, the point itself."""
        if self.native is None:
            return self.get_best_treatment()
        parametrization = self.native.parametrization
        state = parametrization.random_state.get_state()
        try:  # A recommendation may draw random numbers, which must not change the next suggestion.
            with quietly(copy.deepcopy(self._own)):
                found = self.native.provide_recommendation()
                if found is None or found.uid == parametrization.uid:
                    return None
                point = self._nevergrad_space.decode(found.value)
        finally:
            parametrization.random_state.set_state(state)
        return self._told.get(found.uid) or Treatment("recommendation", point)

    # Tell --------------------------------------------------------------------------------------

    def _learn(self, handle: Candidate, observation: Observation) -> None:
        if handle is None or observation.status is Status.ABANDONED:
            return
        if observation.status is not Status.COMPLETED:
            self._fail(handle)
            return
        self._told[handle.uid] = observation.treatment
        violations = self.criterion.violations(observation).values() if self.constraints else ()
        self._tell(handle, self.criterion.costs(observation), list(violations))
        failed, self._failed = self._failed, []
        for each in failed:
            self._fail(each)

    def _fail(self, handle: Candidate) -> None:
        """Report a trial that has no value; keep it until one is known that can stand for it."""
        if not self.measured.costs:
            self._failed.append(handle)
            return
        worst = self.measured.most_violating
        limits = self.criterion.limits if self.constraints else {}
        self._tell(
            handle,
            [high for _, high in self.measured.costs],
            [each.violation(worst[each.metric][each.metric]) for each in limits.values()],
        )

    def _tell(
        self, candidate: Candidate, costs: Sequence[float], violations: Sequence[float]
    ) -> None:
        if self.native is None or candidate is None:
            return
        clipped = [min(max(cost, -_LARGEST), _LARGEST) for cost in costs]
        loss: Any = clipped[0] if len(clipped) == 1 else clipped
        with quietly(self._own):
            self.native.tell(candidate, loss, constraint_violation=list(violations) or None)


def _identity(optimizer: str | ConfiguredOptimizer | type[Optimizer]) -> Any:
    """Return what tells one optimizer from another: its name, its class and its settings."""
    if isinstance(optimizer, ConfiguredOptimizer):
        return {"name": optimizer.name, "config": optimizer.config()}
    return optimizer if isinstance(optimizer, str) else name_of(optimizer)
