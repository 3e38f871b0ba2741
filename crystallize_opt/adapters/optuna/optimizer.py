"""Optuna's samplers and pruners, driven by `study.ask` and `study.tell`.

For a seed, the suggestions are bit for bit those of `study.optimize` with `suggest_*` in the
space's order. What differs from a loop written by hand:

- Choices that Optuna cannot hold apart or hold at all (`True` beside `1`, tuples, objects) are
  stored in the study as their index; so is every `Ordinal`. `Constant` is not stored.
- A trial that failed is told as the sampler learns from it. Optuna's samplers do not see the state
  FAIL, and then suggest the failing region again: https://github.com/optuna/optuna/issues/566.
  TPE is told PRUNED; samplers that learn from completed trials only are told the worst value so
  far, as COMPLETE; samplers that do not learn are told FAIL. The trial's user attribute `status`
  says what it really was.
- A point that is pending is not suggested again; in a space of at most 24 points, no point is. The
  sampler is asked again, and the dropped trial told FAIL. `duplicates=True` turns this off.
- Points that violate a linear constraint are told to the sampler in the same way, and it is asked
  again. After 20 of them in a row it gets a random point that satisfies the constraints.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import math
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import (
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import Trial, TrialState

from crystallize_opt.errors import (
    MissingExtraError,
    ObjectiveError,
    SpaceExhausted,
    UnsupportedSpaceError,
    UsageError,
)
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.space.unseen import UnseenPoints
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation, Status

_REJECTED_IN_A_ROW = 20
_SMALL_SPACE = 24


@dataclass(frozen=True)
class _Learning:
    """What teaches a sampler a failure, and whether it sees constraints."""

    failure: TrialState
    constraints: bool


# Measured for each sampler; see docs/optuna.md. The first class that matches counts.
_LEARNING: tuple[tuple[type, _Learning], ...] = (
    (TPESampler, _Learning(TrialState.PRUNED, constraints=True)),
    (GPSampler, _Learning(TrialState.COMPLETE, constraints=True)),
    (NSGAIISampler, _Learning(TrialState.COMPLETE, constraints=True)),
    (NSGAIIISampler, _Learning(TrialState.COMPLETE, constraints=True)),
    (CmaEsSampler, _Learning(TrialState.COMPLETE, constraints=False)),
    (RandomSampler, _Learning(TrialState.FAIL, constraints=False)),
    (QMCSampler, _Learning(TrialState.FAIL, constraints=False)),
    (GridSampler, _Learning(TrialState.FAIL, constraints=False)),
    (BruteForceSampler, _Learning(TrialState.FAIL, constraints=False)),
    (object, _Learning(TrialState.COMPLETE, constraints=False)),
)

# Optuna finds these missing only in the middle of a study, where it leaves a trial running.
_NEEDED_LIBRARIES: tuple[tuple[type, tuple[str, ...]], ...] = (
    (GPSampler, ("scipy.optimize", "scipy.stats", "torch")),
    (CmaEsSampler, ("cmaes",)),
    (QMCSampler, ("scipy.stats",)),
    (optuna.pruners.WilcoxonPruner, ("scipy.stats",)),
)

# A sampler that serves two studies silently loses its joint search space.
_samplers_in_use: weakref.WeakSet[optuna.samplers.BaseSampler] = weakref.WeakSet()


class OptunaOptimizer(SpaceOptimizer[Trial]):
    """Optuna behind the common interface: TPE, or any sampler and pruner of Optuna's.

    Args:
        space: A `SearchSpace`, or the mapping that builds one.
        objective: One objective, or several.
        constraints: Outcome constraints, told to samplers that use them (TPE, GP, NSGA-II and III).
        seed: The default sampler's seed. A sampler you give has a seed of its own.
        sampler: A fresh Optuna sampler. Default: `TPESampler(seed=seed)`, with the defaults of
            Optuna 5 pinned (multivariate for one objective, constant liar).
        pruner: An Optuna pruner, which can end a trial between its replicates. It sees the running
            mean of the objective; `WilcoxonPruner` sees each replicate's value.
        duplicates: True: suggestions are always those of a loop by hand. False: every point of a
            finite space is suggested once. None: a point that is pending is not suggested again,
            and in a space of at most 24 points no point is. Unless True, a finite space ends with
            `SpaceExhausted` when all of its points have been suggested.

    Attributes:
        study: The `optuna.Study`, in memory.

    Raises:
        UnsupportedSpaceError: The sampler cannot take the space.
        MissingExtraError: The sampler needs a library that is not installed.
        UsageError: The sampler serves another optimizer already.

    Example:
        >>> space = {"x": (-10.0, 10.0), "kind": ["a", "b"]}
        >>> optimizer = OptunaOptimizer(space, Objective("loss", "minimize"), seed=0)
        >>> for _ in range(3):
        ...     (treatment,) = optimizer.ask()
        ...     optimizer.tell({"loss": treatment.params["x"] ** 2})
        >>> optimizer.get_best_treatment().params == optimizer.study.best_params
        True
    """

    libraries = ("optuna",)
    capabilities = Capabilities(outcome_constraints=True)

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
        sampler: optuna.samplers.BaseSampler | None = None,
        pruner: optuna.pruners.BasePruner | None = None,
        duplicates: bool | None = None,
    ) -> None:
        super().__init__(space, objective, constraints=constraints, seed=seed)
        several = len(self.objectives) > 1
        if sampler is None:
            sampler = TPESampler(seed=self.seed, multivariate=not several, constant_liar=True)
        _check_sampler(sampler, self.space, several=several)
        if pruner is not None:
            _check_pruner(pruner, several=several)
        self._distributions = {
            name: _distribution(parameter)
            for name, parameter in self.space.items()
            if not isinstance(parameter, Constant)
        }
        # Parameters whose value in the study is not yet the user's value.
        self._encoded = [
            name
            for name, parameter in self.space.items()
            if isinstance(parameter, (Ordinal, Constant))
            or (isinstance(parameter, Categorical) and not _fits_optuna(parameter))
        ]
        self._learning = next(how for kind, how in _LEARNING if isinstance(sampler, kind))
        self._sets_constraints = self._learning.constraints and bool(
            self.constraints or self.space.constraints
        )
        self._exhausted = False
        self._random = Random(self.seed)
        tracked = self.space.size < math.inf and not duplicates
        self._unseen = UnseenPoints(self.space, self._random) if tracked else None
        if duplicates is None and self.space.size <= _SMALL_SPACE:
            duplicates = False
        self.duplicates = duplicates
        self.capabilities = Capabilities(
            several_objectives=not isinstance(sampler, CmaEsSampler),
            outcome_constraints=self._learning.constraints,
            pruning=pruner is not None,
            pending=isinstance(sampler, (TPESampler, GPSampler, BruteForceSampler)),
        )
        self._worst: list[float] = []
        self._dropped_any = False
        with _without_new_study_message():
            # A fixed name: Hyperband draws its brackets from a hash of it.
            self.study = optuna.create_study(
                study_name="crystallize-opt",
                directions=[each.direction for each in self.objectives],
                sampler=sampler,
                pruner=pruner or optuna.pruners.NopPruner(),
            )
        # Grid and BruteForce stop the study from inside tell(), which raises outside of optimize():
        # https://github.com/optuna/optuna/issues/4121
        self.study.stop = self._stop  # type: ignore[method-assign]
        _samplers_in_use.add(sampler)

    # Ask ---------------------------------------------------------------------------------------

    def _suggest(self) -> tuple[Trial, dict[str, Any]]:
        if self._exhausted:
            raise SpaceExhausted(
                f"{type(self.study.sampler).__name__} has suggested every point of its grid."
            )
        if self._unseen is None and not self._pending and not self.space.constraints:
            return self._ask_study()  # the usual case: nothing to check
        if self._unseen is not None:
            self._unseen.require_any()
        for attempt in range(_REJECTED_IN_A_ROW):
            self._dropped_any = self._dropped_any or attempt > 0
            trial, params = self._ask_study()
            if not self.space.satisfies_constraints(params):
                self._finish_failed(trial, params, "violates a linear constraint")
            elif self._is_unwanted_duplicate(params):
                trial.set_user_attr("status", "was suggested before")
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                break
        else:
            self._dropped_any = True
            self.study.enqueue_trial(self._encode(self._fallback_point()))
            trial, params = self._ask_study()
        if self._unseen is not None:
            self._unseen.add(params)
        return trial, params

    def _is_unwanted_duplicate(self, params: Mapping[str, Any]) -> bool:
        if self.duplicates:
            return False
        if self.duplicates is False and self._unseen is not None:
            return params not in self._unseen
        key = self.space.key(params)
        return any(key == self.space.key(each.treatment.params) for each in self._pending.values())

    def _fallback_point(self) -> dict[str, Any]:
        """Return a random point that satisfies the constraints, and is new where that matters."""
        if self._unseen is None:
            return self.space.sample(self._random)
        return self._unseen.draw()

    def _ask_study(self) -> tuple[Trial, dict[str, Any]]:
        known = len(self.study.get_trials(deepcopy=False)) if self.space.is_conditional else 0
        try:
            if not self.space.is_conditional:
                trial = self.study.ask(self._distributions)
                params = _params_of(trial)
                if not self._encoded:
                    return trial, params
                return trial, {name: self._decode(name, params) for name in self.space.names}
            trial = self.study.ask()
            chosen: dict[str, Any] = {}
            for name in self.space.names:
                if self.space.is_active(name, chosen):
                    if name in self._distributions:
                        chosen[name] = _suggest_one(trial, name, self._distributions[name])
                    chosen[name] = self._decode(name, chosen)
        except BaseException:
            self._close_trials_from(known)
            raise
        return trial, chosen

    def _close_trials_from(self, known: int) -> None:
        """Do not leave the trial running whose `ask` raised; there is no other handle to it."""
        self._dropped_any = True
        last = self.study.get_trials(deepcopy=False)[known:][-1:]
        if last and last[0].state is TrialState.RUNNING and last[0].number not in self._numbers():
            self.study.tell(last[0].number, state=TrialState.FAIL)

    def _numbers(self) -> set[int]:
        return {pending.handle.number for pending in self._pending.values()}

    def _stop(self) -> None:
        self._exhausted = True

    # Replay ------------------------------------------------------------------------------------

    def _state_before_ask(self) -> str | None:
        # Of TPE: it depends on the trials and its generators, and takes time. Not where it has been
        # asked for more than was suggested; nor grouped, where it also notes what it leaves out.
        sampler = self.study.sampler
        if type(sampler) is not TPESampler or sampler._group or self._dropped_any:  # noqa: SLF001
            return None
        return json.dumps([_written(generator) for generator in _generators(sampler)])

    def _restore_state(self, state: str) -> None:
        for generator, written in zip(
            _generators(self.study.sampler), json.loads(state), strict=True
        ):
            _restore(generator, written)

    def _repeat_suggestion(self, params: Mapping[str, Any]) -> Trial:
        sampler = self.study.sampler
        self.study.sampler = _Repeating(self._encode(params))
        try:
            trial, _ = self._ask_study()
        finally:
            self.study.sampler = sampler
        if self._unseen is not None:
            self._unseen.add(params)
        return trial

    # Tell --------------------------------------------------------------------------------------

    def _learn(self, handle: Trial, observation: Observation) -> None:
        if observation.status is Status.COMPLETED:
            for name, value in self._constraint_values(observation).items():
                handle.set_constraint(name, value)
            values = self._values(observation)
            self.study.tell(handle, values, state=TrialState.COMPLETE)
            self._remember_worst(values)
        elif observation.status is Status.PRUNED:
            self._finish_pruned(handle, observation)
        else:
            self._finish_failed(
                handle,
                observation.treatment.params,
                observation.status.value,
                teach=observation.status is not Status.ABANDONED,
            )

    def _report(self, handle: Trial, replicate: int, metrics: Mapping[str, float]) -> bool:
        value = metrics.get(self.objectives[0].metric, math.nan)
        if not math.isfinite(value):
            return False
        reported = self._reported(handle)
        if replicate in reported:  # by an earlier attempt; Optuna keeps the first, with a warning
            return bool(handle.should_prune())
        if not self._pairs_replicates:
            # Pruners compare trials at the same step: there the mean so far is what is known.
            means = list(reported.values())
            value = means[-1] + (value - means[-1]) / (len(means) + 1) if means else value
        handle.report(value, step=replicate)
        return bool(handle.should_prune())

    @property
    def _pairs_replicates(self) -> bool:
        return isinstance(self.study.pruner, optuna.pruners.WilcoxonPruner)

    def _reported(self, trial: Trial) -> dict[int, float]:
        return self.study.get_trials(deepcopy=False)[trial.number].intermediate_values

    def _finish_pruned(self, trial: Trial, observation: Observation) -> None:
        if self._pairs_replicates:
            # As Optuna's tutorial on WilcoxonPruner does: PRUNED would store a single replicate.
            trial.set_user_attr("status", observation.status.value)
            for name, value in self._constraint_values(observation).items():
                trial.set_constraint(name, value)
            self.study.tell(trial, self._values(observation), state=TrialState.COMPLETE)
        else:
            self.study.tell(trial, state=TrialState.PRUNED)

    def _finish_failed(
        self, trial: Trial, params: Mapping[str, Any], status: str, *, teach: bool = True
    ) -> None:
        """Tell a trial that has no value."""
        state, values = self._failure(teach=teach)
        trial.set_user_attr("status", status)
        if state is not TrialState.FAIL:
            for name, value in self._failure_constraints(params).items():
                trial.set_constraint(name, value)
        self.study.tell(trial, values, state=state)

    def _failure(self, *, teach: bool) -> tuple[TrialState, list[float] | None]:
        state = self._learning.failure if teach else TrialState.FAIL
        if state is not TrialState.COMPLETE:
            return state, None
        # Before any value is known the sampler still draws at random: nothing to teach.
        return (state, self._worst) if self._worst else (TrialState.FAIL, None)

    def _remember_worst(self, values: Sequence[float]) -> None:
        if self._learning.failure is TrialState.COMPLETE:
            pairs = zip(self.objectives, values, self._worst or values, strict=True)
            self._worst = [b if each.better(a, b) else a for each, a, b in pairs]

    def _values(self, observation: Observation) -> list[float]:
        return [observation[each.metric] for each in self.objectives]

    def _constraint_values(self, observation: Observation) -> dict[str, float]:
        """Return all constraints in Optuna's form: satisfied where the value is at most zero."""
        if not self._sets_constraints:
            return {}
        outcome = {
            _constraint_name(each): each.violation(observation[each.metric])
            for each in self.constraints
        }
        return outcome | self._linear_values(observation.treatment.params)

    def _failure_constraints(self, params: Mapping[str, Any]) -> dict[str, float]:
        # GPSampler wants every constraint on every completed trial, in the same order.
        if not self._sets_constraints:
            return {}
        return {_constraint_name(each): 1.0 for each in self.constraints} | self._linear_values(
            params
        )

    def _linear_values(self, params: Mapping[str, Any]) -> dict[str, float]:
        return {
            f"linear {number}": constraint.violation(params)
            for number, constraint in enumerate(self.space.constraints)
        }

    # Attach ------------------------------------------------------------------------------------

    def _learn_attached(self, observation: Observation) -> None:
        params = self._encode(self.space.validate(observation.treatment.params))
        if observation.status is Status.COMPLETED:
            state, values = TrialState.COMPLETE, self._values(observation)
            constraints = self._constraint_values(observation)
            self._remember_worst(values)
        else:
            state, failed = self._failure(teach=observation.status is not Status.ABANDONED)
            values = failed or []
            constraints = self._failure_constraints(observation.treatment.params)
        if self._unseen is not None:
            self._unseen.add(self.space.validate(observation.treatment.params))
        self.study.add_trial(
            optuna.trial.create_trial(
                state=state,
                values=values or None,
                params=params,
                distributions={name: self._distributions[name] for name in params},
                user_attrs={"status": observation.status.value},
                constraints=constraints,
            )
        )

    # Values ------------------------------------------------------------------------------------

    def _decode(self, name: str, stored: Mapping[str, Any]) -> Any:
        """Return the user's value of an active parameter, given the values in the study."""
        parameter = self.space[name]
        if isinstance(parameter, Constant):
            return parameter.value
        if name in self._encoded and isinstance(parameter, (Categorical, Ordinal)):
            return parameter.choices[stored[name]]
        return stored[name]

    def _encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the study stores for a point of the space."""
        encoded = {}
        for name, value in params.items():
            parameter = self.space[name]
            if isinstance(parameter, (Categorical, Ordinal)) and name in self._encoded:
                encoded[name] = parameter.index(value)
            elif not isinstance(parameter, Constant):
                encoded[name] = value
        return encoded


class _Repeating(optuna.samplers.BaseSampler):
    """Suggests given values."""

    def __init__(self, stored: Mapping[str, Any]) -> None:
        self._stored = stored

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        return self._stored[name]


def _generators(sampler: Any) -> list[Any]:
    return [sampler._rng.rng, sampler._random_sampler._rng.rng]  # noqa: SLF001


def _written(generator: Any) -> dict[str, Any]:
    state = generator.get_state(legacy=False)
    key = state["state"]["key"].astype("<u4").tobytes().hex()
    return {**state, "state": {"key": key, "pos": int(state["state"]["pos"])}}


def _restore(generator: Any, written: dict[str, Any]) -> None:
    import numpy as np  # Not at the top: where Optuna is missing, Optuna is to be named.

    key = np.frombuffer(bytes.fromhex(written["state"]["key"]), "<u4")
    generator.set_state({**written, "state": {**written["state"], "key": key}})


def _params_of(trial: Trial) -> dict[str, Any]:
    """Return the parameters of a trial, to be read only.

    `trial.params` is a deep copy, which takes about as long as this whole layer.
    """
    return trial._cached_frozen_trial.params  # noqa: SLF001


def _distribution(parameter: Parameter) -> BaseDistribution:
    match parameter:
        case Float():
            return FloatDistribution(
                parameter.low, parameter.high, log=parameter.log, step=parameter.step
            )
        case Integer():
            return IntDistribution(
                parameter.low, parameter.high, log=parameter.log, step=parameter.step or 1
            )
        case Ordinal():
            return IntDistribution(0, len(parameter.choices) - 1)
        case Categorical() if _fits_optuna(parameter):
            return CategoricalDistribution(parameter.choices)
        case Categorical():
            return CategoricalDistribution(range(len(parameter.choices)))
    raise UnsupportedSpaceError(f"OptunaOptimizer does not know {parameter!r}.")


def _fits_optuna(parameter: Categorical) -> bool:
    """Whether Optuna can hold the choices themselves: JSON values of which no two are equal."""
    choices = parameter.choices
    storable = all(choice is None or type(choice) in (bool, int, float, str) for choice in choices)
    return storable and len(set(choices)) == len(choices) and all(c == c for c in choices)


def _suggest_one(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution():
            return trial.suggest_float(
                name,
                distribution.low,
                distribution.high,
                step=distribution.step,
                log=distribution.log,
            )
        case IntDistribution():
            return trial.suggest_int(
                name,
                distribution.low,
                distribution.high,
                step=distribution.step,
                log=distribution.log,
            )
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
    raise AssertionError(distribution)


def _constraint_name(constraint: Constraint) -> str:
    return f"{constraint.metric} {constraint.comparison} {constraint.bound!r}"


def _check_sampler(sampler: Any, space: SearchSpace, *, several: bool) -> None:
    if not isinstance(sampler, optuna.samplers.BaseSampler):
        hint = f" Did you mean {sampler.__name__}()?" if isinstance(sampler, type) else ""
        raise UsageError(f"sampler= takes an Optuna sampler, not {sampler!r}.{hint}")
    if sampler in _samplers_in_use:
        raise UsageError(
            f"{sampler!r} serves another optimizer already. Build a fresh sampler for each."
        )
    _check_libraries(sampler)
    if several and isinstance(sampler, CmaEsSampler):
        raise ObjectiveError(
            "CmaEsSampler takes one objective. For several use TPESampler, GPSampler, "
            "NSGAIISampler or NSGAIIISampler."
        )
    if isinstance(sampler, BruteForceSampler):
        for name, parameter in space.items():
            if parameter.size == math.inf:
                raise UnsupportedSpaceError(
                    f"BruteForceSampler cannot take {name!r}, {parameter!r}: it has no finite set "
                    "of values. Give it a step, or use another sampler."
                )


def _check_pruner(pruner: Any, *, several: bool) -> None:
    if not isinstance(pruner, optuna.pruners.BasePruner):
        hint = f" Did you mean {pruner.__name__}()?" if isinstance(pruner, type) else ""
        raise UsageError(f"pruner= takes an Optuna pruner, not {pruner!r}.{hint}")
    if several:
        raise ObjectiveError("Optuna prunes with one objective only. Leave out pruner=.")
    _check_libraries(pruner)


def _check_libraries(user: object) -> None:
    for kind, modules in _NEEDED_LIBRARIES:
        if isinstance(user, kind):
            for module in modules:
                library = module.partition(".")[0]
                if importlib.util.find_spec(library) is None:
                    raise MissingExtraError(
                        f"{type(user).__name__} needs {library}, which is not installed. Run: "
                        f"pip install {library}",
                        name=library,
                    )
                # Optuna imports it at the first ask. It adds warnings filters, which stay.
                with warnings.catch_warnings():
                    importlib.import_module(module)


@contextmanager
def _without_new_study_message() -> Iterator[None]:
    """Keep "A new study created in memory" off the user's stderr, and nothing else."""
    logger = logging.getLogger("optuna.storages._in_memory")

    def drop(_: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)
