"""Optuna's samplers and pruners, driven by `study.ask` and `study.tell`.

For a seed, the suggestions are bit for bit those of `study.optimize` with `suggest_*` in the
space's order. The differences from a loop written by hand are:

- Choices that Optuna cannot store or distinguish (tuples, objects, `True` beside `1`) are stored in
  the study as their index; so is every `Ordinal`. A `Constant` is not stored.
- A failed trial is reported in the form that the sampler learns from. Optuna's samplers ignore the
  state FAIL, and suggest the failing region again: https://github.com/optuna/optuna/issues/566. TPE
  gets PRUNED; samplers that learn from completed trials only get COMPLETE with the worst value so
  far; samplers that do not learn get FAIL. The trial's user attribute `status` has its true status.
- A point that is pending is not suggested again: the discarded trial is reported as FAIL, and the
  sampler is asked again. `duplicates=True` turns this off.
- Where the model of one of Optuna's samplers raises an error, as CMA-ES does with some conditions,
  every parameter of that suggestion is drawn alone. The logger says so, once.
- A point that violates a linear constraint is reported like a failed trial, and the sampler is
  asked again. After 20 such points in a row, a random point that satisfies the constraints is used.
  Where fewer than a twentieth of all points satisfy the constraints, the study has positions in the
  region that is left (`crystallize_opt.space.positions`), and no such points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner, WilcoxonPruner
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GridSampler,
    TPESampler,
)
from optuna.trial import Trial, TrialState

from crystallize_opt.adapters.optuna import quiet, replay, samplers
from crystallize_opt.adapters.optuna.fidelity import refuse_fidelity
from crystallize_opt.adapters.optuna.refusals import refuse_space
from crystallize_opt.adapters.optuna.seeds import Unseeded
from crystallize_opt.adapters.optuna.space import OptunaSpace
from crystallize_opt.adapters.optuna.studies import STUDY_NAME
from crystallize_opt.adapters.optuna.warm_start import start_from_attached
from crystallize_opt.errors import SpaceExhausted
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.reports import heard_curve
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.optimizers.unique import Dropped, Repeats
from crystallize_opt.pipeline.context import logger
from crystallize_opt.runtime.checks import checked_seed
from crystallize_opt.space.parameter import canonical_value
from crystallize_opt.space.space import SearchSpace, as_space
from crystallize_opt.trials.objective import Constraint, Objective, as_objectives
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status


class OptunaOptimizer(SpaceOptimizer[Trial]):
    """Optuna behind the common interface: TPE, or any Optuna sampler and pruner.

    Args:
        space: A `SearchSpace`, or the mapping that builds one.
        objective: One objective, or several.
        constraints: Outcome constraints, passed to samplers that use them (TPE, GP, NSGA-II and
            III).
        seed: The seed of the default sampler, and of a sampler that was built without a seed. None
            to draw one.
        sampler: A fresh Optuna sampler. Default: `TPESampler(seed=seed)`, with the defaults of
            Optuna 5 pinned (multivariate for one objective, constant liar).
        pruner: An Optuna pruner, which can end a trial early. It sees what the steps report of the
            objective by `ctx.report` in the first replicate. If they report nothing, it sees the
            running mean of the objective after each replicate, and `WilcoxonPruner` each
            replicate's value. `WilcoxonPruner` compares runs of the same seed: with several
            replicates it always sees these. A space with a fidelity, such as
            `Integer(1, 27, fidelity=True)`, needs a pruner that compares steps, such as
            `HyperbandPruner(min_resource=1, max_resource=27)`: each trial gets the highest
            fidelity, and the pruner ends it before. Report each step as the fidelity so far.
        fill_inactive: Whether parameters with conditions are in each trial of the study, also where
            they are inactive, and have no effect. Some samplers model only parameters that each
            trial has, and draw the others at random: GP finds much better points with this.
        duplicates: True: the suggestions are always those of a loop written by hand, and a search
            runs each of them. False: every point of a finite space is suggested once. None: a point
            that is pending is not suggested again, and a search reports a known outcome again
            instead of running the point again. Unless True, a finite space ends with
            `SpaceExhausted` when all of its points have been suggested.

    Attributes:
        study: The `optuna.Study`, in memory.

    Raises:
        UnsupportedSpaceError: The sampler cannot take the space.
        MissingExtraError: The sampler needs a library that is not installed.
        UsageError: Another optimizer already uses the sampler, or the sampler carries values that
            are not in the space.

    Example:
        >>> space = {"x": (-10.0, 10.0), "kind": ["a", "b"]}
        >>> optimizer = OptunaOptimizer(space, Objective("loss", "minimize"), seed=0)
        >>> for _ in range(3):
        ...     (treatment,) = optimizer.ask()
        ...     optimizer.tell({"loss": treatment.params["x"] ** 2})
        >>> optimizer.get_best_treatment().params == optimizer.study.best_params
        True
    """

    libraries: tuple[str, ...] = ("optuna", "numpy")
    capabilities = Capabilities(outcome_constraints=True, attached=True)

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
        sampler: BaseSampler | None = None,
        pruner: BasePruner | None = None,
        duplicates: bool | None = None,
        fill_inactive: bool = False,
    ) -> None:
        space = as_space(space)
        several = len(as_objectives(objective)) > 1
        if sampler is not None:
            samplers.check_sampler(sampler, several=several)
        if pruner is not None:
            samplers.check_pruner(pruner, several=several)
        refuse_fidelity(space, pruner)
        settings = {
            "sampler": sampler,
            "pruner": pruner,
            "duplicates": duplicates,
            "fill_inactive": fill_inactive,
        }
        seed = None if seed is None else checked_seed(seed)
        if sampler is None:
            sampler = TPESampler(seed=seed, multivariate=not several, constant_liar=True)
        repeats: Repeats = "allowed" if duplicates else "never"
        if duplicates is None:
            repeats = "not pending"
        self._unseeded = Unseeded(sampler)
        self.libraries = samplers.libraries_of(sampler, pruner)
        self._optuna_space = OptunaSpace(space.without_fidelity)
        refuse_space(sampler, space.without_fidelity, self._optuna_space)
        base = samplers.base_of(sampler)
        if isinstance(base, GridSampler | BruteForceSampler):
            self.asks_in_a_row = None  # Skip any number of points, to the end of the grid.
        self._completes_points = not isinstance(base, GridSampler)
        super().__init__(
            space,
            objective,
            constraints=constraints,
            seed=seed,
            settings=settings,
            capabilities=samplers.capabilities_of(sampler, pruner, fill_inactive=fill_inactive),
            repeats=repeats,
            positions=samplers.takes_positions(sampler),
            ends_before_fidelity=True,
        )
        if self.searched is not self.space:
            self._optuna_space = OptunaSpace(self.searched)
        self.duplicates = bool(duplicates)
        self.pairs_replicates = isinstance(pruner, WilcoxonPruner)
        samplers.use(sampler)
        self._reseed()
        self._errors_of_model = samplers.errors_of_model(sampler)
        self._quietly = quiet.while_asking(base)
        self._has_said = False
        self._has_users_values = samplers.has_users_values(sampler)
        self._fills_inactive = fill_inactive and self.searched.is_conditional
        self._asks_in_order = self.searched.is_conditional and not fill_inactive
        self._distributions = None if self._asks_in_order else self._optuna_space.distributions
        self._metrics = [each.metric for each in self.objectives]
        self._learning = samplers.learning_of(sampler)
        self._sets_constraints = self._learning.constraints and bool(
            self.constraints or self.searched.constraints
        )
        self._exhausted = False
        # Whether the study has trials that were not returned by `ask`.
        self._has_others = False
        self._inserted: set[int] = set()
        # The attached trials from which CMA-ES is to start; None for other samplers.
        self._sources: set[int] | None = set() if isinstance(base, CmaEsSampler) else None
        with quiet.without_messages_of("optuna.storages._in_memory"):  # "A new study created"
            self.study = optuna.create_study(
                study_name=STUDY_NAME,
                directions=[each.direction for each in self.objectives],
                sampler=sampler,
                pruner=pruner or NopPruner(),
            )
        # Grid and BruteForce stop the study from inside tell(), which raises outside of optimize():
        # https://github.com/optuna/optuna/issues/4121
        self.study.stop = self._stop  # type: ignore[method-assign]

    def _reseed(self) -> None:
        self._unseeded.seed(self.seed)

    def _stop(self) -> None:
        self._exhausted = True

    # Ask ---------------------------------------------------------------------------------------

    def _suggest(self) -> tuple[Trial, dict[str, Any]]:
        if self._exhausted:
            raise SpaceExhausted(
                f"{type(self.study.sampler).__name__} has suggested every point of its grid."
            )
        try:
            return self._ask()
        except self._errors_of_model as error:
            return self._ask_without_model(error, {})

    def _ask(self) -> tuple[Trial, dict[str, Any]]:
        try:
            if self._quietly is None:
                return self._draw()
            with self._quietly():
                return self._draw()
        except BaseException:
            self._close_last_trial()
            raise

    def _draw(self) -> tuple[Trial, dict[str, Any]]:
        trial = self.study.ask(self._distributions)
        point = self._decoded(trial)
        if self._has_users_values:
            point = {n: canonical_value(n, self.searched[n], v) for n, v in point.items()}
        return trial, point

    def _decoded(self, trial: Trial) -> dict[str, Any]:
        """Return the point that a trial stores.

        In a space with conditions, the first call for a trial draws it, one parameter at a time.
        """
        if self._asks_in_order:
            return self._optuna_space.suggest(trial)
        point = self._optuna_space.decode(_params_of(trial))
        return self._optuna_space.active(point) if self._fills_inactive else point

    def _ask_without_model(
        self, error: Exception, given: dict[str, Any]
    ) -> tuple[Trial, dict[str, Any]]:
        """Ask again after an error of the sampler's model: each parameter is drawn alone."""
        if not self._has_said:
            self._has_said = True
            logger.warning(
                "%s cannot model the trials (%s: %s), so its next suggestion has every parameter "
                "drawn alone. This is said once, even if it happens again.",
                type(samplers.base_of(self.study.sampler)).__name__,
                type(error).__name__,
                error,
            )
        if given:
            self.study.enqueue_trial(given)
        with self._in_place_of_sampler(replay.Alone(self.study.sampler)):
            return self._ask()

    def _close_last_trial(self) -> None:
        """Close the trial whose `ask` raised: it would stay running, as nobody has its handle."""
        self._has_others = True
        last = self.study.get_trials(deepcopy=False)[-1:]
        pending = {each.handle.number for each in self.ledger.pending.values()}
        if last and last[0].state is TrialState.RUNNING and last[0].number not in pending:
            self.study.tell(last[0].number, state=TrialState.FAIL)

    def _complete(self, params: Mapping[str, Any]) -> tuple[Trial, dict[str, Any]]:
        if not self._completes_points:
            return super()._complete(params)
        given = self._optuna_space.encode(params)
        with self._optuna_space.taking(given):
            self.study.enqueue_trial(given)
            try:
                return self._ask()
            except self._errors_of_model as error:
                return self._ask_without_model(error, given)

    def _insert(self, params: Mapping[str, Any]) -> Trial:
        stored = self._optuna_space.encode(params)
        if self._fills_inactive:
            stored = self._optuna_space.inactive_values | stored
        with self._in_place_of_sampler(replay.GivenValues(stored)):
            trial, _ = self._ask()
        self._inserted.add(trial.number)
        return trial

    @contextmanager
    def _in_place_of_sampler(self, other: BaseSampler) -> Iterator[None]:
        """Replace the sampler for a moment, so that its state does not change meanwhile."""
        sampler = self.study.sampler
        self.study.sampler = other
        try:
            yield
        finally:
            self.study.sampler = sampler

    def _drop(self, handle: Trial, why: Dropped) -> None:
        self._has_others = True
        if why is Dropped.INFEASIBLE:
            self._finish_failed(handle, self._decoded(handle), str(why))
        else:
            handle.set_user_attr("status", str(why))
            self.study.tell(handle, state=TrialState.FAIL)

    # Replay ------------------------------------------------------------------------------------

    def saved_state(self) -> str | None:
        """Return the state of TPE, or None if the trials alone do not tell what the study has.

        None for other samplers, if the study has other trials, and if it stores more of a point
        than the point: values of inactive parameters, or a position in a narrow region.
        """
        if self._has_others or self._proposals.has_drawn:
            return None
        if self._fills_inactive or self._proposals.has_positions:
            return None
        return replay.state_of(self.study.sampler)

    def restore_state(self, state: str) -> None:
        """Restore a state that `saved_state` returned."""
        replay.restore(self.study.sampler, state)

    # Tell --------------------------------------------------------------------------------------

    def _learn(self, handle: Trial, observation: Observation) -> None:
        if self._inserted and handle.number in self._inserted:
            self._learn_inserted(handle, observation)
        elif observation.status is Status.COMPLETED:  # The usual case, kept short.
            self._tell_values(handle, observation)
        else:
            self._finish(handle, observation)

    def _learn_inserted(self, handle: Trial, observation: Observation) -> None:
        """Learn the outcome of a point that the sampler did not suggest."""
        self._inserted.discard(handle.number)
        if self._sources is not None and observation.status is Status.COMPLETED:
            if not self._sources:
                start_from_attached(samplers.base_of(self.study.sampler), self.study, self._sources)
                self.can_be_copied = False  # A copy of the sampler would use this study.
            self._sources.add(handle.number)
        with self._in_place_of_sampler(replay.GivenValues({})):
            self._finish(handle, observation)

    def _finish(self, trial: Trial, observation: Observation) -> None:
        if observation.status is Status.COMPLETED:
            self._tell_values(trial, observation)
        elif observation.status is Status.PRUNED:
            self._finish_pruned(trial, observation)
        else:
            self._finish_failed(
                trial,
                observation.treatment.params,
                observation.status.value,
                teach=observation.status.has_failed,
            )

    def _tell_values(self, trial: Trial, observation: Observation) -> None:
        if self._sets_constraints:
            for name, value in self._constraint_values(observation).items():
                trial.set_constraint(name, value)
        values = list(map(observation.metrics.__getitem__, self._metrics))
        self.study.tell(trial, values, state=TrialState.COMPLETE)

    def _report(self, handle: Trial, step: int, value: float) -> bool:
        handle.report(value, step)
        return bool(handle.should_prune())  # Some pruners return a numpy bool.

    def _finish_pruned(self, trial: Trial, observation: Observation) -> None:
        metric = self.objectives[0].metric
        has_values = all(each in observation.metrics for each in self._metrics)
        if self.pairs_replicates and has_values and not heard_curve(observation, metric):
            # Follow Optuna's tutorial on WilcoxonPruner: PRUNED would store a single replicate.
            trial.set_user_attr("status", observation.status.value)
            self._tell_values(trial, observation)
        else:
            self.study.tell(trial, state=TrialState.PRUNED)

    def _finish_failed(
        self, trial: Trial, params: Mapping[str, Any], status: str, *, teach: bool = True
    ) -> None:
        """Report a trial that has no value."""
        state, values = self._learning.failure if teach else TrialState.FAIL, None
        if state is TrialState.COMPLETE:
            values = self.measured.worst_values or None
            if values is None:
                # Before the first value, the sampler draws at random and would learn nothing.
                state = TrialState.FAIL
        trial.set_user_attr("status", status)
        if state is not TrialState.FAIL:
            for name, value in self._failure_constraints(params).items():
                trial.set_constraint(name, value)
        self.study.tell(trial, values, state=state)

    def _constraint_values(self, observation: Observation) -> dict[str, float]:
        """Return all constraints in Optuna's form: satisfied where the value is at most zero."""
        return self.criterion.violations(observation) | self._linear_values(
            observation.treatment.params
        )

    def _failure_constraints(self, params: Mapping[str, Any]) -> dict[str, float]:
        # GPSampler needs every constraint on every completed trial, in the same order.
        if not self._sets_constraints:
            return {}
        return {each.text: 1.0 for each in self.constraints} | self._linear_values(params)

    def _linear_values(self, params: Mapping[str, Any]) -> dict[str, float]:
        return {
            f"linear {number}": constraint.violation(params)
            for number, constraint in enumerate(self.searched.constraints)
        }


def _params_of(trial: Trial) -> dict[str, Any]:
    """Return the parameters of a trial; do not change them.

    `trial.params` would make a deep copy, which takes about as long as the rest of this adapter.
    """
    return trial._cached_frozen_trial.params  # noqa: SLF001
