"""The small experiment many tests use: the sum of three numbers, after adding `delta` to each."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from crystallize_opt import (
    BaseOptimizer,
    Experiment,
    FrozenContext,
    Objective,
    Observation,
    Pipeline,
    Replicate,
    Treatment,
    data_source,
    pipeline_step,
)

DELTAS = [2.0, 0.0, 1.0]
SUMS = [12.0, 6.0, 9.0]


@data_source
def numbers(ctx: FrozenContext) -> list[float]:
    return [1.0, 2.0, 3.0]


@pipeline_step()
def add_delta(data: list[float], ctx: FrozenContext, *, delta: float = 0.0) -> list[float]:
    return [x + delta for x in data]


@pipeline_step()
def record_sum(data: list[float], ctx: FrozenContext) -> list[float]:
    ctx.metrics.add("sum", sum(data))
    return data


def toy_experiment(**options: Any) -> Experiment:
    return Experiment(numbers(), Pipeline([add_delta(), record_sum()]), **options)


def experiment_of(function: Callable[..., Any], **options: Any) -> Experiment:
    """Make an experiment of one step, `function(data, ctx, *, named parameters)`.

    Its version lets a function that counts its calls, or another one, pass for the same step.
    """
    step = pipeline_step(version="the same")(function)
    return Experiment(numbers(), Pipeline([step()]), **options)


class PlainOptimizer(BaseOptimizer):
    """Written as the tutorials do: goes through a list, and knows nothing but the protocol."""

    def __init__(
        self,
        values: list[Any],
        objective: Any = Objective("sum", "minimize"),  # noqa: B008  (frozen)
        parameter: str = "delta",
    ) -> None:
        super().__init__(objective)
        self.treatments = [
            Treatment(f"trial_{index}", {parameter: value}) for index, value in enumerate(values)
        ]
        self.told: list[Mapping[str, float]] = []

    def ask(self) -> list[Treatment]:
        return [self.treatments[len(self.told)]]

    def tell(self, objective_values: Mapping[str, float]) -> None:
        self.told.append(objective_values)

    def get_best_treatment(self) -> Treatment:
        choose = min if self.objective.direction == "minimize" else max
        scores = [told[self.objective.metric] for told in self.told]
        return self.treatments[scores.index(choose(scores))]


def exact(record: Observation | Replicate) -> str:
    """Return every field of a record as text, because nan is not equal to itself."""
    fields = {each.name: getattr(record, each.name) for each in dataclasses.fields(record)}
    if isinstance(record, Observation):
        fields["replicates"] = [exact(each) for each in record.replicates]
    return repr(fields)
