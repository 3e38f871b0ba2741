"""Optimizers with one fault each, and the contract of each. test_contract.py runs them."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import random
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from crystallize_opt import (
    Capabilities,
    Constraint,
    Float,
    Integer,
    Objective,
    Observation,
    SearchSpace,
    SpaceExhausted,
    SpaceOptimizer,
    Status,
    Treatment,
)
from crystallize_opt.errors import NoCompletedTrialError, ReplayDiverged, TellError
from crystallize_opt.optimizers.unique import Dropped
from crystallize_opt.space.unseen import UnseenPoints
from crystallize_opt.testing import OptimizerContract
from crystallize_opt.trials.calls import Event, Reported

Params = dict[str, Any]


class Sound(SpaceOptimizer[Params]):
    """Of four random points, suggests the one whose nearest known neighbour is best."""

    capabilities = Capabilities(unique_points=True)

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
    ) -> None:
        super().__init__(space, objective, constraints=constraints, seed=seed, repeats="never")
        self.rng = self.random_numbers()
        self.known: list[tuple[Params, float]] = []
        self.running = 0
        add = self.ledger.add
        self.ledger.add = lambda params, handle: add(  # type: ignore[method-assign]
            self.spoiled(dict(params)), handle
        )

    def spoiled(self, params: Params) -> Params:
        """Return what becomes of a suggestion on its way to the user."""
        return params

    def random_numbers(self) -> random.Random:
        return random.Random(self.seed)

    def _suggest(self) -> tuple[Params, Params]:
        self.running += 1
        params = min([self.draw() for _ in range(4)], key=self.expected)
        return params, params

    def _insert(self, params: Mapping[str, Any]) -> Params:
        self.running += 1
        return dict(params)

    def _drop(self, handle: Params, why: Dropped) -> None:
        self.running -= 1

    def draw(self) -> Params:
        return self.space.sample(self.rng)

    def expected(self, point: Params) -> float:
        def distance(known: tuple[Params, float]) -> float:
            return math.fsum(
                abs(value - known[0].get(name, 0))
                for name, value in point.items()
                if isinstance(self.space[name], (Float, Integer))
            )

        return min(self.known, key=distance)[1] if self.known else 0.0

    def _learn(self, handle: Params, observation: Observation) -> None:
        self.running -= 1
        cost = self.cost(observation)
        if cost is not None:
            self.known.append((handle, cost))

    def cost(self, observation: Observation) -> float | None:
        """Return what is learnt from an observation; a failure is as bad as the worst so far."""
        if observation.status is Status.COMPLETED:
            return self.objectives[0].sign * observation[self.objectives[0].metric]
        if observation.status is Status.ABANDONED or not self.known:
            return None
        return max(cost for _, cost in self.known)


class LeaksNumpyScalars(Sound):
    def spoiled(self, params: Params) -> Params:
        return {n: np.float64(v) if type(v) is float else v for n, v in params.items()}


class CopiesChoices(Sound):
    def spoiled(self, params: Params) -> Params:
        return copy.deepcopy(params)


class ReordersParameters(Sound):
    def _suggest(self) -> tuple[Params, Params]:
        handle, params = super()._suggest()
        return handle, dict(sorted(params.items(), reverse=True))


class LosesTheLogScale(Sound):
    def draw(self) -> Params:
        linear = {
            name: dataclasses.replace(p, log=False) if isinstance(p, (Float, Integer)) else p
            for name, p in self.space.items()
        }
        return SearchSpace(linear, self.space.constraints).sample(self.rng)


class DropsConditions(Sound):
    def _suggest(self) -> tuple[Params, Params]:
        handle, params = super()._suggest()
        return handle, {n: params.get(n, p.sample(self.rng)) for n, p in self.space.items()}


class ViolatesConstraints(Sound):
    def __init__(self, space: Any, objective: Any, **options: Any) -> None:
        super().__init__(space, objective, **options)
        self._proposals._space = SearchSpace(dict(self.space))

    def draw(self) -> Params:
        return SearchSpace(dict(self.space)).sample(self.rng)


class DeclaresTooLittle(Sound):
    def __init__(self, space: Any, objective: Any, **options: Any) -> None:
        super().__init__(space, objective, **options)
        self.capabilities = Capabilities(
            parameters=(Float, Integer),
            conditions=False,
            several_objectives=False,
            unique_points=True,
        )


class SearchesTheFidelity(Sound):
    """Takes a fidelity for any other parameter."""

    def __init__(self, space: Any, objective: Any, **options: Any) -> None:
        self.capabilities = Capabilities(unique_points=True, fidelity=True)
        super().__init__(space, objective, **options)
        self.capabilities = Sound.capabilities


class ForgetsPending(Sound):
    """What it suggests depends on what was told only."""

    def random_numbers(self) -> random.Random:
        rng = super().random_numbers()
        self.first = rng.random()
        return rng

    def _suggest(self) -> tuple[Params, Params]:
        self._proposals._unseen = UnseenPoints(self.space, random.Random(self.seed))
        for observation in self.observations:
            self._proposals.add(self.space.validate(observation.treatment.params))
        self.rng = random.Random(f"{self.first} {len(self.observations)}")
        return super()._suggest()


class RepeatsPoints(Sound):
    def __init__(self, space: Any, objective: Any, **options: Any) -> None:
        super().__init__(space, objective, **options)
        self._proposals._unseen = None


class ForgetsTheLastPoint(Sound):
    def _suggest(self) -> tuple[Params, Params]:
        if self.ledger._count == self.space.size - 1:
            raise SpaceExhausted("Almost all points have been suggested.")
        return super()._suggest()


class BelievesFailures(Sound):
    """Learns whatever number a failed trial recorded."""

    def cost(self, observation: Observation) -> float | None:
        metric = self.objectives[0].metric
        value = observation.get(metric)
        if isinstance(value, float):
            return self.objectives[0].sign * value
        return super().cost(observation)


class LearnsNothingFromFailures(Sound):
    def cost(self, observation: Observation) -> float | None:
        return super().cost(observation) if observation.status is Status.COMPLETED else None


class LearnsFromOtherMetrics(Sound):
    def cost(self, observation: Observation) -> float | None:
        cost = super().cost(observation)
        return -cost if cost is not None and "other" in observation else cost


class LearnsFromStandardErrors(Sound):
    def cost(self, observation: Observation) -> float | None:
        cost = super().cost(observation)
        return cost if cost is None else cost + (observation.sem.get("loss") or 0.0)


class ForgetsTheDirection(Sound):
    def cost(self, observation: Observation) -> float | None:
        cost = super().cost(observation)
        return cost if cost is None else cost * self.objectives[0].sign


class GivesUp(Sound):
    def _suggest(self) -> tuple[Params, Params]:
        last = [observation.status for observation in self.observations[-5:]]
        if len(last) == 5 and Status.COMPLETED not in last:
            raise RuntimeError("Too many failures.")
        return super()._suggest()


class BreaksOnHugeValues(Sound):
    def _learn(self, handle: Params, observation: Observation) -> None:
        if abs(self.cost(observation) or 0.0) > 1e200:
            raise OverflowError("too large")
        super()._learn(handle, observation)


class LeavesFailuresRunning(Sound):
    def _learn(self, handle: Params, observation: Observation) -> None:
        super()._learn(handle, observation)
        self.running += observation.status is Status.TIMED_OUT


class LearnsBeforeItLooks(Sound):
    """What is refused has been learnt already."""

    def __init__(self, space: Any, objective: Any, **options: Any) -> None:
        super().__init__(space, objective, **options)
        find = self.ledger.find

        def find_and_learn(treatment: Treatment) -> Any:
            self.known.append((dict(treatment.params), len(self.known)))
            return find(treatment)

        self.ledger.find = find_and_learn  # type: ignore[method-assign]


class TakesAnyTell(Sound):
    def tell(self, objective_values: Mapping[str, float]) -> None:
        with contextlib.suppress(TellError):
            super().tell(objective_values)


class AttachesAnything(Sound):
    def attach(self, observations: Any, *, skip_outside: bool = False) -> int:
        given = [observations] if isinstance(observations, Observation) else observations
        return sum(super(AttachesAnything, self).attach(observation) for observation in given)


class BestOfAllNumbers(Sound):
    """The best is the best number told, whatever the status of its trial."""

    def get_best_treatment(self, weights: Any = None) -> Treatment:
        metric, sign = self.objectives[0].metric, self.objectives[0].sign
        numbers = [o for o in self.observations if isinstance(o.get(metric), float)]
        if not numbers:
            raise NoCompletedTrialError("There is no number.")
        return min(numbers, key=lambda observation: sign * observation[metric]).treatment


class IgnoresTheSeed(Sound):
    def random_numbers(self) -> random.Random:
        return random.Random(7)


class TakesZeroForNoSeed(Sound):
    def random_numbers(self) -> random.Random:
        return random.Random(self.seed or None)


class DependsOnHashes(Sound):
    def expected(self, point: Params) -> float:
        return super().expected(point) + hash(str(point)) % 100 / 1e9  # decides between equals


class DrawsFromTheGlobalGenerator(Sound):
    """Draws from it and puts it back, so that it is only seen by who looks from within."""

    def draw(self) -> Params:
        state = random.getstate()
        random.seed(self.rng.random() + state[1][5] / 2**32)
        try:
            return self.space.sample(random)  # the module has random(), too
        finally:
            random.setstate(state)


class SeedsTheGlobalGenerator(Sound):
    def _suggest(self) -> tuple[Params, Params]:
        random.seed(self.rng.random())
        return super()._suggest()


class ChangesWarnings(Sound):
    def _learn(self, handle: Params, observation: Observation) -> None:
        warnings.filterwarnings("ignore", message="never mind")
        super()._learn(handle, observation)


class Prints(Sound):
    def _learn(self, handle: Params, observation: Observation) -> None:
        print("learning")
        super()._learn(handle, observation)


class ChangesArguments(Sound):
    def _learn(self, handle: Params, observation: Observation) -> None:
        observation.metrics["learnt"] = 1.0  # type: ignore[index]  # it is a mapping, to be read
        super()._learn(handle, observation)


class HandsOutItsOwnList(Sound):
    @property
    def observations(self) -> list[Observation]:
        return self.ledger.observations


class ReplaysAnything(Sound):
    def replay(self, events: Any, versions: Any = None, state: Any = None) -> None:
        with contextlib.suppress(ReplayDiverged):
            super().replay(events, versions)


class GoesOnDifferentlyAfterAReplay(Sound):
    def replay(self, events: Any, versions: Any = None, state: Any = None) -> None:
        super().replay(events, versions)
        self.rng = random.Random(99)


class IsSlowToNameTrials(Sound):
    """Counts only what was asked for."""

    def attach(self, observations: Any, *, skip_outside: bool = False) -> int:
        count = self.ledger._count
        left_out = super().attach(observations, skip_outside=skip_outside)
        self.ledger._count = count
        self.ledger._names.clear()
        return left_out


class ShufflesPending(Sound):
    @property
    def pending(self) -> list[Treatment]:
        return super().pending[::-1]


class BreaksOnOddNames(Sound):
    def __init__(self, space: Any, objective: Any, **options: Any) -> None:
        super().__init__(space, objective, **options)
        for name in (*self.space, *self.required_metrics):
            compile(f"{name} = 1", name, "exec")


class SticksToDefaults(Sound):
    def spoiled(self, params: Params) -> Params:
        defaults = {n: p.default for n, p in self.space.items() if p.has_default and n in params}
        return params | defaults


class NeedsTheVeryTreatment(Sound):
    def tell(self, objective_values: Mapping[str, float]) -> None:
        if isinstance(objective_values, Observation):
            pending = self.ledger.find(objective_values.treatment)
            if pending.treatment is not objective_values.treatment:
                raise TellError("This is another object.")
        super().tell(objective_values)


class GuessesMissingMetrics(Sound):
    def tell(self, objective_values: Mapping[str, float]) -> None:
        if type(objective_values) is dict:
            objective_values = dict.fromkeys(self.required_metrics, 0.0) | objective_values
        super().tell(objective_values)


class TakesAnyBatch(Sound):
    def ask(self, n: Any = 1, *, ttl: float | None = None) -> list[Treatment]:
        return super().ask(max(1, int(n or 1)), ttl=ttl)


class CutsBatches(Sound):
    def ask(self, n: int = 1, *, ttl: float | None = None) -> list[Treatment]:
        return super().ask(min(n, 3), ttl=ttl)


class PrunesWithoutSayingSo(Sound):
    def report_replicate(
        self, treatment: Treatment, replicate: int, metrics: Mapping[str, float]
    ) -> bool:
        return replicate == 1


class PrunesAtAnyPoint(Sound):
    def report(self, treatment: Treatment, step: int, value: Any) -> bool:
        super().report(treatment, step, value)
        return step == 4


class ForgetsCurves(Sound):
    def report(self, treatment: Treatment, step: int, value: Any) -> bool:
        return False


class LearnsFromReports(Sound):
    def report_replicate(
        self, treatment: Treatment, replicate: int, metrics: Mapping[str, float]
    ) -> bool:
        self.ledger.calls.append(Reported(treatment.name, replicate, metrics, False))
        return False


class ListsTheSpace(Sound):
    def _suggest(self) -> tuple[Params, Params]:
        params = next(iter(list(self.space.points())))
        self.running += 1
        return params, params


class ForgetsTheQueue(Sound):
    def enqueue(self, *points: Mapping[str, Any]) -> None:
        """Never mind."""


class EnqueuesWhatItRefuses(Sound):
    def enqueue(self, *points: Mapping[str, Any]) -> None:
        for point in points:
            super().enqueue(point)


class ForgetsTheQueueInAReplay(Sound):
    def replay(self, events: Any, versions: Any = None, state: Any = None) -> None:
        super().replay(events, versions)
        self.ledger.enqueued.clear()


class DropsWhatIsInactive(Sound):
    def attach(self, observations: Any, *, skip_outside: bool = False) -> int:
        given = [observations] if isinstance(observations, Observation) else observations
        fitting = []
        for each in given:
            params = dict(each.treatment.params)
            for name in list(params):
                if name in self.space and not self.space.is_active(name, params):
                    del params[name]
            treatment = Treatment(each.treatment.name, params)
            fitting.append(dataclasses.replace(each, treatment=treatment))
        return super().attach(fitting)


class HasABestFromTheStart(Sound):
    def get_best_treatment(self, weights: Any = None) -> Treatment:
        if not self.observations:
            return Treatment("best", self.space.sample(0))
        return super().get_best_treatment(weights)


class TakesTheLastForTheBest(Sound):
    def get_best_treatment(self, weights: Any = None) -> Treatment:
        super().get_best_treatment(weights)
        done = [o for o in self.observations if o.status is Status.COMPLETED]
        return done[-1].treatment


class TakesOneReplicate(Sound):
    def _learn(self, handle: Params, observation: Observation) -> None:
        if len(observation.replicates) > 1:
            raise ValueError("Too many replicates.")
        super()._learn(handle, observation)


class SortsItsEvents(Sound):
    @property
    def events(self) -> list[Event]:
        return sorted(self.ledger.calls, key=lambda event: type(event).__name__)


class SharesAGeneratorPerSpace(Sound):
    def random_numbers(self) -> random.Random:
        if not hasattr(self.space, "_shared"):
            self.space._shared = super().random_numbers()  # type: ignore[attr-defined]
        shared: random.Random = self.space._shared  # type: ignore[attr-defined]
        return shared


class ForgetsAttached(Sound):
    capabilities = Capabilities(unique_points=True, attached=True)

    def _insert(self, params: Mapping[str, Any]) -> Params:
        super()._insert(params)
        return {}

    def _learn(self, handle: Params, observation: Observation) -> None:
        if handle:
            super()._learn(handle, observation)


class _KnowsWhatIsAttached(Sound):
    """Distinguishes attached trials, whose observations it gets apart."""

    attaches = False

    def attach(self, observations: Any, **options: Any) -> int:
        self.attaches = True
        try:
            return super().attach(observations, **options)
        finally:
            self.attaches = False


class BelievesAttachedFailures(_KnowsWhatIsAttached):
    def cost(self, observation: Observation) -> float | None:
        value = observation.get(self.objectives[0].metric)
        if self.attaches and isinstance(value, float):
            return self.objectives[0].sign * value
        return super().cost(observation)


class LearnsNothingFromAttachedTimeouts(_KnowsWhatIsAttached):
    def cost(self, observation: Observation) -> float | None:
        if self.attaches and observation.status is Status.TIMED_OUT:
            return None
        return super().cost(observation)


class LosesCountOfLateOutcomes(Sound):
    def _reopen(self, handle: Params, params: Mapping[str, Any]) -> Params:
        return handle


class NeverExpires(Sound):
    def ask(self, n: int = 1, *, ttl: float | None = None) -> list[Treatment]:
        return super().ask(n)


class AbandonsAnything(Sound):
    def abandon(self, treatment: Treatment | str) -> None:
        with contextlib.suppress(TellError):
            super().abandon(treatment)


class DependsOnThreads(Sound):
    def random_numbers(self) -> random.Random:
        torch: Any = sys.modules.get("torch")
        return random.Random(f"{self.seed} {torch.get_num_threads() if torch else 0}")


class WritesFiles(Sound):
    def _learn(self, handle: Params, observation: Observation) -> None:
        Path("log.txt").write_text("learning", encoding="utf-8")
        super()._learn(handle, observation)


class _Contract(OptimizerContract):
    optimizer: ClassVar[type[Sound]]
    asks_per_test = 10
    trap_seeds = (0, 1)

    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> Sound:
        return self.optimizer(space, objective, constraints=constraints, seed=seed)

    def count_running(self, optimizer: SpaceOptimizer[Any]) -> int:
        assert isinstance(optimizer, Sound)
        return optimizer.running

    def knowledge_of(self, optimizer: SpaceOptimizer[Any]) -> Any:
        assert isinstance(optimizer, Sound)
        return optimizer.known


_OPTIMIZERS: list[type[Sound]] = [
    Sound,
    *[each for each in Sound.__subclasses__() if not each.__name__.startswith("_")],
    *_KnowsWhatIsAttached.__subclasses__(),
]
for _optimizer in _OPTIMIZERS:
    _name = f"Test{_optimizer.__name__}"
    globals()[_name] = type(_name, (_Contract,), {"optimizer": _optimizer, "__module__": __name__})
