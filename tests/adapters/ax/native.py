"""What the tests of AxOptimizer share: quick strategies, a look into Ax, and its loop by hand."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from ax.adapter.registry import Generators
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.trial_status import TrialStatus
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generation_strategy.transition_criterion import MinTrials

from crystallize_opt import (
    Categorical,
    Float,
    Integer,
    Objective,
    Observation,
    Ordinal,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.space.parameter import Parameter, same_value
from tests.adapters.parity import any_loss

LOSS = Objective("loss", "minimize")
SQUARE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
Point = dict[str, Any]


def quick_strategy(seed: int = 0, initial: int = 3, **node: Any) -> GenerationStrategy:
    """Sobol, then the same model as by default with a quicker search for its optimum."""
    search = {"optimizer_kwargs": {"num_restarts": 2, "raw_samples": 32}}
    enough = MinTrials(
        threshold=initial,
        transition_to="GP",
        use_all_trials_in_exp=True,
        only_in_statuses=[TrialStatus.COMPLETED],
        count_only_trials_with_data=True,
    )
    return GenerationStrategy(
        name="quick",
        nodes=[
            GenerationNode(
                name="Sobol",
                should_deduplicate=True,
                generator_specs=[GeneratorSpec(Generators.SOBOL, generator_kwargs={"seed": seed})],
                transition_criteria=[enough],
                **node,
            ),
            GenerationNode(
                name="GP",
                should_deduplicate=True,
                generator_specs=[
                    GeneratorSpec(
                        Generators.BOTORCH_MODULAR,
                        generator_gen_kwargs={"model_gen_options": search},
                    )
                ],
                **node,
            ),
        ],
    )


def sobol_strategy(seed: int = 0) -> GenerationStrategy:
    """No model: asks take milliseconds."""
    spec = GeneratorSpec(Generators.SOBOL, generator_kwargs={"seed": seed})
    node = GenerationNode(name="Sobol", should_deduplicate=True, generator_specs=[spec])
    return GenerationStrategy(name="Sobol only", nodes=[node])


def run(
    optimizer: AxOptimizer,
    trials: int,
    evaluate: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda p: {"loss": any_loss(p)},
) -> list[Point]:
    """Ask and tell; return what was suggested."""
    suggested = []
    for _ in range(trials):
        (treatment,) = optimizer.ask()
        suggested.append(dict(treatment.params))
        optimizer.tell(evaluate(treatment.params))
    return suggested


def tell(optimizer: AxOptimizer, treatment: Treatment, status: Status, **metrics: float) -> None:
    optimizer.tell(Observation(treatment, metrics, status, error="the reason"))


# A look into Ax -----------------------------------------------------------------------------------


def trials_of(optimizer: AxOptimizer) -> dict[int, Any]:
    return dict(optimizer.client._experiment.trials)


def statuses(optimizer: AxOptimizer) -> list[str]:
    return [trial.status.name for trial in trials_of(optimizer).values()]


def table_of(optimizer: AxOptimizer) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas
        return optimizer.client._experiment.lookup_data().df


def told_data(optimizer: AxOptimizer, metric: str = "m0") -> dict[int, tuple[float, float]]:
    """Trial to the mean and standard error that Ax has."""
    table = table_of(optimizer)
    rows = table[table["metric_name"] == metric]
    return {
        int(index): (float(mean), float(sem))
        for index, mean, sem in zip(rows["trial_index"], rows["mean"], rows["sem"], strict=True)
    }


def generators_of(optimizer: AxOptimizer) -> list[str | None]:
    return [
        trial.generator_run._generator_key if trial.generator_run else None
        for trial in trials_of(optimizer).values()
    ]


# The loop by hand ---------------------------------------------------------------------------------


@contextmanager
def by_hand() -> Iterator[None]:
    """What a user would set: one thread of torch, and no messages."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        torch.set_num_threads(threads)


class ByHand:
    """A space as a user of Ax would write it; a step as the index of the value, see docs/ax.md."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        usable = all(name.isidentifier() and name.isascii() for name in space)
        self.names = {n: n if usable else f"q{i}" for i, n in enumerate(space)}

    def parameters(self) -> list[RangeParameterConfig | ChoiceParameterConfig]:
        return [self.config(name) for name, p in self.space.items() if p.size > 1]

    def config(self, name: str) -> RangeParameterConfig | ChoiceParameterConfig:
        parameter, native = self.space[name], self.names[name]
        match parameter:
            case Float() | Integer() if parameter.step is not None:
                bounds = (0, int(parameter.size) - 1)
                return RangeParameterConfig(name=native, bounds=bounds, parameter_type="int")
            case Float() | Integer():
                big = isinstance(parameter, Integer) and parameter.size > 100_000
                whole = isinstance(parameter, Integer) and not big
                return RangeParameterConfig(
                    name=native,
                    bounds=(parameter.low, parameter.high),
                    parameter_type="int" if whole else "float",
                    scaling="log" if parameter.log else None,
                )
            case Categorical() | Ordinal():
                kind, values = self.values(parameter)
                dependents = {
                    value: children
                    for value, choice in zip(values, parameter.choices, strict=True)
                    if (children := self.children(name, choice))
                }
                return ChoiceParameterConfig(
                    name=native,
                    values=values,
                    parameter_type=kind,  # type: ignore[arg-type]  # one of four words
                    is_ordered=isinstance(parameter, Ordinal),
                    dependent_parameters=dependents or None,
                )
        raise AssertionError(parameter)

    def values(self, parameter: Categorical | Ordinal) -> tuple[str, list[Any]]:
        kinds = {type(choice) for choice in parameter.choices}
        choices = list(parameter.choices)
        if kinds in ({str}, {bool}, {int}, {float}) and isinstance(parameter, Categorical):
            return kinds.pop().__name__, choices
        return "str", [repr(choice) for choice in choices]

    def children(self, parent: str, choice: Any) -> list[str]:
        return [
            self.names[name]
            for name, parameter in self.space.items()
            for condition in parameter.conditions
            if condition.parent == parent and condition.holds(choice) and parameter.size > 1
        ]

    def constraints(self) -> list[str]:
        return [
            " + ".join(f"{factor}*{self.names[n]}" for n, factor in c.coefficients.items())
            + f" <= {c.bound}"
            for c in self.space.constraints
        ]

    def point(self, native: Mapping[str, Any]) -> Point:
        point: Point = {}
        for name, parameter in self.space.items():
            if self.space.is_active(name, point):
                stored = native.get(self.names[name])
                point[name] = self.value(parameter, stored)
        return point

    def value(self, parameter: Parameter, stored: Any) -> Any:
        if parameter.size == 1:
            return next(parameter.values())
        match parameter:
            case Float() | Integer() if parameter.step is not None:
                return parameter.value_at(stored)
            case Float():
                return min(max(stored, parameter.low), parameter.high)
            case Integer():
                return round(stored)
            case Categorical() | Ordinal():
                values = self.values(parameter)[1]
                return parameter.choices[[same_value(v, stored) for v in values].index(True)]
        raise AssertionError(parameter)


def native_suggestions(
    space: SearchSpace,
    trials: int,
    *,
    seed: int,
    strategy: GenerationStrategy | None = None,
    objective: str = "-loss",
    constraints: Sequence[str] = (),
    evaluate: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda p: {"loss": any_loss(p)},
    first: Sequence[tuple[Mapping[str, Any], float]] = (),
    baseline: Mapping[str, Any] | None = None,
    batch: int = 1,
) -> list[Point]:
    """The suggestions of the loop in Ax's documentation."""
    hand, suggested = ByHand(space), []
    with by_hand():
        client = Client(random_seed=seed)
        client.configure_experiment(
            parameters=hand.parameters(), parameter_constraints=hand.constraints()
        )
        client.configure_optimization(objective=objective, outcome_constraints=constraints)
        if strategy is None:
            client.configure_generation_strategy(
                initialization_random_seed=seed,
                initialize_with_center=False,
                allow_exceeding_initialization_budget=True,
            )
        else:
            client.set_generation_strategy(strategy)
        if baseline is not None:
            client.complete_trial(client.attach_baseline(dict(baseline)), dict(evaluate(baseline)))
        for params, loss in first:
            client.complete_trial(client.attach_trial(dict(params)), {"loss": loss})
        for _ in range(0, trials, batch):
            for index, native in client.get_next_trials(max_trials=batch).items():
                point = hand.point(native)
                suggested.append(point)
                client.complete_trial(index, dict(evaluate(point)))
    return suggested
