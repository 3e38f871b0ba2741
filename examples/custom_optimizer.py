"""An adapter for another library: CMA-ES from the library `cmaes`.

Run it with `python examples/custom_optimizer.py`. docs/write_an_adapter.md explains it.
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


class At:
    """A fixed "random" number: `parameter.sample(At(0.5))` is the middle of the scale."""

    def __init__(self, u: float) -> None:
        self.u = min(float(u), 1 - 2**-53)  # sample() takes numbers in [0, 1).

    def random(self) -> float:
        return self.u


class CmaOptimizer(SpaceOptimizer[Any]):
    """CMA-ES for ordered parameters, in the unit cube. Deviations from a loop written by hand:

    - A failed trial counts as the worst value so far; before the first value, it is ignored.
    - A point of a finite space is not suggested twice: a random new point takes its place.
    - CMA-ES learns from its own samples only, not from attached and enqueued trials.
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
        sigma: float = 0.3,
    ) -> None:
        super().__init__(
            space,
            objective,
            constraints=constraints,
            seed=seed,
            settings={"sigma": sigma},
            repeats="never",
        )
        self._names = [name for name, parameter in self.space.items() if parameter.size > 1]
        dimensions = max(len(self._names), 1)
        bounds = np.array([[0.0, 1.0]] * dimensions)
        self.cma = CMA(np.full(dimensions, 0.5), sigma=sigma, bounds=bounds, seed=self.seed)
        self._generation: list[tuple[Any, float]] = []

    def _suggest(self) -> tuple[Any, dict[str, Any]]:
        x = self.cma.ask()
        where = dict(zip(self._names, map(At, x), strict=False))
        return x, {name: p.sample(where.get(name, At(0))) for name, p in self.space.items()}

    def _insert(self, params: Mapping[str, Any]) -> Any:
        return None  # not a sample of CMA-ES: nothing to learn from

    def _learn(self, handle: Any, observation: Observation) -> None:
        if handle is None or observation.status is Status.ABANDONED:
            return
        if observation.status is Status.COMPLETED:
            (cost,) = self.criterion.costs(observation)
        elif self.measured.costs:
            ((_, cost),) = self.measured.costs  # the lowest and the highest so far
        else:
            return
        self._generation.append((handle, cost))
        if len(self._generation) == self.cma.population_size:
            self.cma.tell(self._generation)
            self._generation = []


@data_source
def measurements(ctx: FrozenContext) -> list[tuple[float, float]]:
    """Simulate a cup of coffee that cools from 90 to 20 degrees, with noisy measurements."""
    random = Random(ctx["seed_used"])
    return [(t, 20 + 70 * math.exp(-t / 12) + random.gauss(0, 0.5)) for t in range(60)]


@pipeline_step()
def fit(data: Any, ctx: FrozenContext, *, room: float, cup: float, minutes: float) -> None:
    """Compare a law of cooling with the measurements."""
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
