"""Wrap a library of your own choice: CMA-ES, from the library `cmaes`.

Run it with `python examples/custom_optimizer.py`. docs/write_an_adapter.md goes through it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
from cmaes import CMA

from crystallize_opt import (
    Capabilities,
    Constant,
    Constraint,
    Experiment,
    Float,
    FrozenContext,
    Integer,
    Objective,
    Observation,
    Ordinal,
    Pipeline,
    SearchSpace,
    SpaceOptimizer,
    Status,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.errors import ObjectiveError, UnsupportedSpaceError
from crystallize_opt.space.unseen import UnseenPoints


class At:
    """A "random" number that is not: `parameter.sample(At(0.5))` is the middle of its scale."""

    def __init__(self, u: float) -> None:
        self.u = min(float(u), 1 - 2**-53)  # sample() takes numbers in [0, 1)

    def random(self) -> float:
        return self.u


class CmaOptimizer(SpaceOptimizer[Any]):
    """CMA-ES for ordered parameters, in the unit cube. What differs from a loop by hand:

    - A failed trial counts as the worst value so far; before there is one, it is left out.
    - A point of a finite space is not suggested twice: if need be, a random new one is.
    - Attached trials count for the best only: CMA-ES learns from its own samples.
    """

    libraries = ("cmaes",)
    capabilities = Capabilities(
        parameters=(Float, Integer, Ordinal, Constant),
        conditions=False,
        linear_constraints=False,
        several_objectives=False,
        pending=False,
        unique_points=True,
    )

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
    ) -> None:
        super().__init__(space, objective, constraints=constraints, seed=seed)
        if len(self.objectives) > 1:
            raise ObjectiveError("CmaOptimizer takes one objective; OptunaOptimizer takes several.")
        for name, parameter in self.space.items():
            if parameter.conditions or not isinstance(parameter, self.capabilities.parameters):
                raise UnsupportedSpaceError(
                    f"CmaOptimizer cannot take {name!r}, {parameter!r}: it searches ordered "
                    "parameters without conditions. OptunaOptimizer can."
                )
        if self.space.constraints:
            raise UnsupportedSpaceError(
                f"CmaOptimizer cannot take {self.space.constraints[0]!r}; OptunaOptimizer can."
            )
        self._names = [name for name, parameter in self.space.items() if parameter.size > 1]
        dimensions = max(len(self._names), 1)
        bounds = np.array([[0.0, 1.0]] * dimensions)
        self.cma = CMA(np.full(dimensions, 0.5), sigma=0.3, bounds=bounds, seed=self.seed)
        self._generation: list[tuple[Any, float]] = []
        self._worst = -math.inf
        finite = self.space.size < math.inf
        self._unseen = UnseenPoints(self.space, Random(self.seed)) if finite else None

    def _sample(self) -> tuple[Any, dict[str, Any]]:
        x = self.cma.ask()
        where = dict(zip(self._names, map(At, x), strict=False))
        return x, {name: p.sample(where.get(name, At(0))) for name, p in self.space.items()}

    def _suggest(self) -> tuple[Any, dict[str, Any]]:
        if self._unseen is None:
            return self._sample()
        self._unseen.require_any()
        for _ in range(20):
            x, params = self._sample()
            if self._unseen.add(params):
                return x, params
        return None, self._unseen.draw()  # not a sample of CMA-ES: nothing to learn from

    def _learn(self, handle: Any, observation: Observation) -> None:
        if handle is None:
            return
        if observation.status is Status.COMPLETED:
            cost = self.objectives[0].sign * observation[self.objectives[0].metric]
            self._worst = max(self._worst, cost)
        elif observation.status is Status.ABANDONED or self._worst == -math.inf:
            return
        else:
            cost = self._worst
        self._generation.append((handle, cost))
        if len(self._generation) == self.cma.population_size:
            self.cma.tell(self._generation)
            self._generation = []

    def _learn_attached(self, observation: Observation) -> None:
        if self._unseen is not None:
            self._unseen.add(self.space.validate(observation.treatment.params))


@data_source
def measurements(ctx: FrozenContext) -> list[tuple[float, float]]:
    """A cup of coffee cools from 90 to 20 degrees; the thermometer is off by a bit each time."""
    random = Random(ctx["seed_used"])
    return [(t, 20 + 70 * math.exp(-t / 12) + random.gauss(0, 0.5)) for t in range(60)]


@pipeline_step()
def fit(data: Any, ctx: FrozenContext, *, room: float, cup: float, minutes: float) -> None:
    """Compare a law of cooling with what was measured."""
    errors = [room + (cup - room) * math.exp(-t / minutes) - degrees for t, degrees in data]
    ctx.metrics.add("error", math.sqrt(sum(e * e for e in errors) / len(errors)))


if __name__ == "__main__":
    space = {"room": (0.0, 50.0), "cup": (50.0, 100.0), "minutes": Float(1, 1000, log=True)}
    for kind in (CmaOptimizer, RandomOptimizer):
        experiment = Experiment(measurements(), Pipeline([fit()]), seed=0)
        optimizer = kind(space, Objective("error", "minimize"), seed=0)
        best = experiment.optimize(optimizer, num_trials=200)
        error = min(observation["error"] for observation in optimizer.observations)
        print(f"{kind.__name__:<16} {error:.3f} degrees off with {dict(best.params)}")
