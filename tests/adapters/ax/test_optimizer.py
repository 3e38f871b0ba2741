"""AxOptimizer against Ax itself: `Client(random_seed=s)` and `get_next_trials(1)`."""

from __future__ import annotations

import importlib
import logging
import math
import os
import random
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constant,
    Constraint,
    Float,
    Integer,
    Objective,
    Observation,
    Ordinal,
    SearchSpace,
    SpaceExhausted,
    Status,
    Treatment,
)
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.errors import UnsupportedSpaceError, UsageError
from crystallize_opt.space.parameter import Parameter, same_value
from crystallize_opt.trials.objective import Direction
from tests.adapters.parity import any_loss, exactly
from tests.strategies import points, spaces

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Importing Ax gives deprecation warnings.
    from ax.adapter.registry import Generators
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
    from ax.core.trial_status import TrialStatus
    from ax.generation_strategy.generation_node import GenerationNode
    from ax.generation_strategy.generation_strategy import GenerationStrategy
    from ax.generation_strategy.generator_spec import GeneratorSpec
    from ax.generation_strategy.transition_criterion import (
        MaxGenerationParallelism,
        MaxTrialsAwaitingData,
        MinTrials,
    )
    from ax.utils.common.logger import ROOT_STREAM_HANDLER

    from crystallize_opt.adapters.ax import client as ax_client
    from crystallize_opt.adapters.ax import space as ax_parameters

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


def outcome(optimizer: AxOptimizer, treatment: Treatment) -> dict[str, float]:
    return {metric: any_loss(treatment.params) for metric in optimizer.required_metrics}


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


# The loop by hand -----------------------------------------------------------------------------


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
        for params, loss in first:
            client.complete_trial(client.attach_trial(dict(params)), {"loss": loss})
        for _ in range(trials):
            for index, native in client.get_next_trials(max_trials=1).items():
                point = hand.point(native)
                suggested.append(point)
                client.complete_trial(index, dict(evaluate(point)))
    return suggested


# Parity with the loop by hand -------------------------------------------------------------------

EVERY_KIND = SearchSpace(
    {
        "x": (-5.0, 5.0),
        "rate": Float(1e-5, 1.0, log=True),
        "grid": Float(0.0, 0.7, step=0.1),
        "n": (1, 20),
        "width": Integer(1, 300, log=True),
        "kind": ["rbf", "linear", "poly"],
        "flag": [True, False],
        "size": Ordinal(["s", "m", "l"]),
        "fixed": Constant("adam"),
    }
)


def test_suggestions_are_those_of_the_documented_loop() -> None:
    ours = run(AxOptimizer(EVERY_KIND, LOSS, seed=3), 7)

    assert exactly(ours) == exactly(native_suggestions(EVERY_KIND, 7, seed=3))


def test_suggestions_are_those_of_a_given_strategy_to_maximize() -> None:
    space = SearchSpace({"x": (0.0, 1.0), "n": (1, 9), "numbers": [3, 1, 2]})
    optimizer = AxOptimizer(
        space, Objective("loss", "maximize"), seed=0, generation_strategy=quick_strategy(5)
    )
    native = native_suggestions(space, 5, seed=0, strategy=quick_strategy(5), objective="loss")

    assert exactly(run(optimizer, 5)) == exactly(native)
    assert generators_of(optimizer) == ["Sobol"] * 3 + ["BoTorch"] * 2


def check_parity(space: SearchSpace, seed: int, direction: Direction) -> None:
    optimizer = AxOptimizer(
        space, Objective("loss", direction), seed=seed, generation_strategy=quick_strategy(seed)
    )
    ours = run(optimizer, 5)
    native = native_suggestions(
        space,
        5,
        seed=seed,
        strategy=quick_strategy(seed),
        objective="-loss" if direction == "minimize" else "loss",
    )
    assert exactly(ours) == exactly(native)
    assert "Sobol" not in generators_of(optimizer)[3:]


@st.composite
def plain_spaces(draw: st.DrawFn) -> SearchSpace:
    """Generated spaces in which the loop by hand says the same: what Ax itself can hold."""
    space = draw(spaces(conditions=False, constraints=False, max_size=4))
    assume(space.size > 5)
    for parameter in space.values():
        if isinstance(parameter, Float) and parameter.size == math.inf:
            width = parameter.high - parameter.low
            assume(width > max(1e-4, 1e-6 * abs(parameter.low)))
    return space


@settings(max_examples=3)
@given(space=plain_spaces(), seed=st.integers(0, 2**32 - 1))
def test_suggestions_in_generated_spaces_are_those_of_the_loop(
    space: SearchSpace, seed: int
) -> None:
    check_parity(space, seed, "minimize")


@pytest.mark.slow
@settings(max_examples=25, phases=[Phase.reuse, Phase.generate])  # shrinking takes too long
@given(
    space=plain_spaces(),
    seed=st.integers(0, 2**32 - 1),
    direction=st.sampled_from(["minimize", "maximize"]),
)
def test_suggestions_in_many_generated_spaces_are_those_of_the_loop(
    space: SearchSpace, seed: int, direction: Direction
) -> None:
    check_parity(space, seed, direction)


@pytest.mark.slow
def test_suggestions_in_conditional_spaces_are_those_of_the_loop() -> None:
    space = SearchSpace(
        {
            "kernel": ["rbf", "poly", "linear"],
            "gamma": Float(1e-3, 1e3, log=True).when(kernel="rbf"),
            "degree": Integer(2, 5).when(kernel="poly"),
            "scaled": Categorical([True, False]).when(kernel="poly"),
            "mean": Float(-1.0, 1.0).when(scaled=True),
            "C": (0.0, 1.0),
        }
    )
    optimizer = AxOptimizer(space, LOSS, seed=1, generation_strategy=quick_strategy(1))
    ours = run(optimizer, 8)

    assert exactly(ours) == exactly(
        native_suggestions(space, 8, seed=1, strategy=quick_strategy(1))
    )
    assert {tuple(point) for point in ours} >= {("kernel", "C"), ("kernel", "gamma", "C")}


@pytest.mark.slow
def test_suggestions_under_linear_constraints_are_those_of_the_loop() -> None:
    # Of the loop by hand, what violates a constraint by the rounding of Ax' solver counts, too:
    # here the best point is inside.
    space = SearchSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}, ["x + 2*y <= 1.5", "y <= 3*x"])

    def evaluate(params: Mapping[str, Any]) -> dict[str, float]:
        return {"loss": (params["x"] - 0.5) ** 2 + (params["y"] - 0.2) ** 2}

    optimizer = AxOptimizer(space, LOSS, seed=2, generation_strategy=quick_strategy(2))
    native = native_suggestions(space, 6, seed=2, strategy=quick_strategy(2), evaluate=evaluate)

    assert exactly(run(optimizer, 6, evaluate)) == exactly(native)


def test_suggestions_for_several_objectives_are_those_of_the_loop() -> None:
    # The order of the metrics, which Ax models alphabetically, is another than that of objectives.
    def evaluate(params: Mapping[str, Any]) -> dict[str, float]:
        loss = (params["x"] - 1) ** 2 + params["y"]
        return {"loss": loss, "gain": params["x"] - params["y"], "area": 2 * params["x"]}

    optimizer = AxOptimizer(
        SQUARE,
        [LOSS, Objective("gain", "maximize")],
        constraints=[Constraint("area", "<=", 1.5)],
        seed=0,
        generation_strategy=quick_strategy(),
    )
    native = native_suggestions(
        SearchSpace(SQUARE),
        5,
        seed=0,
        strategy=quick_strategy(),
        objective="-loss, gain",
        constraints=["area <= 1.5"],
        evaluate=evaluate,
    )

    assert exactly(run(optimizer, 5, evaluate)) == exactly(native)


def test_standard_errors_reach_the_model() -> None:
    def suggestions(*, sems: bool) -> list[Point]:
        optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
        suggested = []
        for _ in range(5):
            (treatment,) = optimizer.ask()
            suggested.append(dict(treatment.params))
            sem = {"loss": 0.2 + treatment.params["x"]} if sems else {}
            optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}, sem=sem))
        return suggested

    native = native_suggestions(
        SearchSpace(SQUARE),
        5,
        seed=0,
        strategy=quick_strategy(),
        evaluate=lambda params: {"loss": (any_loss(params), 0.2 + params["x"])},
    )

    assert exactly(suggestions(sems=True)) == exactly(native)
    assert exactly(suggestions(sems=False)) != exactly(native)


def test_suggestions_after_attach_are_those_of_the_loop() -> None:
    known = [({"x": 0.1 * i, "y": 0.9 - 0.1 * i}, float(i % 3)) for i in range(4)]
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
    optimizer.attach(
        [Observation(Treatment(f"old_{i}", p), {"loss": y}) for i, (p, y) in enumerate(known)]
    )
    native = native_suggestions(
        SearchSpace(SQUARE), 2, seed=0, strategy=quick_strategy(), first=known
    )

    assert exactly(run(optimizer, 2)) == exactly(native)
    assert generators_of(optimizer)[4:] == ["BoTorch", "BoTorch"]


# The whole space ------------------------------------------------------------------------------


@settings(max_examples=300)
@given(data=st.data())
def test_points_come_back_from_ax_as_they_were(data: st.DataObject) -> None:
    space = data.draw(spaces())
    ax_space = ax_parameters.AxSpace(space)
    point = data.draw(points(space))
    stored = ax_space.encode(point)

    assert set(stored) <= {config.name for config in ax_space.parameters}
    back = ax_space.decode(stored)
    assert list(back) == list(point)
    for name, value in back.items():
        parameter = space[name]
        if isinstance(parameter, Float):
            assert value == pytest.approx(point[name], rel=1e-9, abs=1e-9 * _width(parameter))
        else:
            assert same_value(value, point[name])


def _width(parameter: Float) -> float:
    return parameter.high / 2 - parameter.low / 2


@settings(max_examples=30)
@given(space=spaces(), seed=st.integers(0, 2**32 - 1))
def test_suggestions_are_points_of_generated_spaces(space: SearchSpace, seed: int) -> None:
    optimizer = AxOptimizer(space, LOSS, seed=seed, generation_strategy=sobol_strategy(seed))
    suggested: list[Point] = []
    for _ in range(4):
        try:
            (treatment,) = optimizer.ask()
        except SpaceExhausted:
            assert len(suggested) == len({space.key(p) for p in suggested})
            assert len(suggested) == sum(1 for _ in space.points())
            return
        params = dict(treatment.params)
        assert exactly([space.validate(params)]) == exactly([params])
        for value in params.values():
            assert type(value).__module__ != "numpy"
        suggested.append(params)
        optimizer.tell({"loss": any_loss(params)})
        known = optimizer.client._experiment.trials.values()
        assert all(trial.status.is_terminal for trial in known)


class Estimator:
    """A choice without a useful repr, hash or equality."""


ESTIMATOR = Estimator()


def odd_space() -> SearchSpace:
    return SearchSpace(
        {
            "E": Integer(1, 10**9),
            "lambda": Integer(1, 10**9, log=True),
            "val-loss": Float(0.0, 0.9, step=0.1),
            "größe": Float(1e-6, 1e-5, log=True),
            "a b": Categorical([None, True, 1, (1, 2), ESTIMATOR]),
            "S": Ordinal([0, None, "1"]),
            "N": Float(0.0, 1.0).when(**{"a b": None}),
            "two values": Float(0.0, 1.0).when(**{"a b": {True}}),
            "two parents": Integer(1, 5).when(S=None, **{"a b": ESTIMATOR}),
            "nested": Float(-1.0, 1.0).when(N_choice="y"),
            "N_choice": Categorical(["y", "n"]).when(S=0),
            "of a number": Float(0.0, 1.0).when(few=2),
            "few": Integer(1, 3),
            "one": Float(2.5, 2.5),
            "beta": Constant({"k": [1]}),
        }
    )


@pytest.mark.slow
def test_a_space_of_everything_goes_through_the_model() -> None:
    space = odd_space()
    optimizer = AxOptimizer(space, LOSS, seed=0, generation_strategy=quick_strategy())
    suggested = run(optimizer, 8)

    assert "BoTorch" in generators_of(optimizer)
    for params in suggested:
        assert exactly([space.validate(params)]) == exactly([params])
        assert params["val-loss"] in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert statuses(optimizer) == ["COMPLETED"] * 8


def test_sobol_asks_for_every_part_of_a_space_of_everything() -> None:
    space = odd_space()
    optimizer = AxOptimizer(space, LOSS, seed=0, generation_strategy=sobol_strategy())
    suggested = run(optimizer, 40)

    seen = Counter(name for params in suggested for name in params)
    assert set(seen) == set(space.names)
    assert any(params["a b"] is ESTIMATOR for params in suggested)
    assert {type(params["a b"]) for params in suggested} == {
        type(None),
        bool,
        int,
        tuple,
        Estimator,
    }
    big = [params["E"] for params in suggested]
    assert min(big) < 10**8 < 9 * 10**8 < max(big)
    logs = [math.log10(params["lambda"]) for params in suggested]
    assert 3 < sum(logs) / len(logs) < 6
    narrow = [math.log10(params["größe"]) for params in suggested]
    assert -5.7 < sum(narrow) / len(narrow) < -5.3


@pytest.mark.parametrize(
    "parameter",
    [
        Float(-1e308, 1e308),
        Float(0.0, 1e-9),
        Float(1e9, 1e9 + 1e-3),
        Float(1e-300, 1e300, log=True),
        Float(5e-324, 1e-300, log=True),
        Integer(10**18, 10**18 + 10**6),
        Integer(-(10**30), 10**30),
        Integer(1, 10**200, log=True),
        Integer(0, 10**12, step=10**3),
        Categorical(list(range(1500))),
    ],
    ids=repr,
)
def test_ranges_of_any_size_reach_from_end_to_end(parameter: Parameter) -> None:
    optimizer = AxOptimizer({"p": parameter}, LOSS, seed=0, generation_strategy=quick_strategy())
    low, high = (
        (0, 1499) if isinstance(parameter, Categorical) else (parameter.low, parameter.high)  # type: ignore[attr-defined]
    )
    log = getattr(parameter, "log", False)
    scale: Callable[[Any], float] = (lambda v: math.log(v)) if log else (lambda v: v / 2)

    def position(value: Any) -> float:
        return (scale(value) - scale(low)) / (scale(high) - scale(low))

    suggested = run(optimizer, 5, lambda params: {"loss": (position(params["p"]) - 0.3) ** 2})
    positions = [position(params["p"]) for params in suggested]
    assert all(type(params["p"]) is type(low) for params in suggested)
    assert all(low <= params["p"] <= high for params in suggested)
    assert max(positions[:3]) - min(positions[:3]) > 0.2
    assert "BoTorch" in generators_of(optimizer)


def test_what_ax_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"'huge'.*floats.*GridOptimizer"):
        AxOptimizer({"huge": Integer(1, 10**305, log=True)}, LOSS)


def test_choices_keep_their_order_and_ordinals_are_ordered() -> None:
    ax_space = ax_parameters.AxSpace(
        SearchSpace({"c": ["z", "a", "m"], "o": Ordinal([3, 1, 2]), "n": [3, 1, 2]})
    )
    categorical, ordinal, numbers = ax_space.parameters
    assert isinstance(categorical, ChoiceParameterConfig)
    assert isinstance(ordinal, ChoiceParameterConfig)
    assert isinstance(numbers, ChoiceParameterConfig)
    assert (categorical.is_ordered, ordinal.is_ordered, numbers.is_ordered) == (False, True, False)
    decoded = [ax_space.decode({"p0": v, "p1": v, "p2": v}) for v in ("0", "1", "2")]
    assert [point["c"] for point in decoded] == ["z", "a", "m"]
    assert [point["o"] for point in decoded] == [3, 1, 2]
    assert [point["n"] for point in decoded] == [1, 2, 3]  # as Ax itself sorts numbers


# Linear constraints ---------------------------------------------------------------------------


def test_linear_constraints_are_native_where_ax_can_keep_them() -> None:
    space = SearchSpace(
        {
            "x": (0.0, 1.0),
            "n": (0, 10),
            "grid": Float(0.5, 2.0, step=0.5),
            "rate": Float(0.1, 1.0, log=True),
            "c": ["a", "b"],
            "child": Float(0.0, 1.0).when(c="a"),
            "one": Float(0.25, 0.25),
        },
        ["x + n <= 5", "2*grid - x <= 3.5", "x + rate <= 1.2", "x + child <= 1.5", "x + one <= 1"],
    )

    assert ax_parameters.AxSpace(space).parameter_constraints == [
        "1.0*p0 + 1.0*p1 <= 5.0",
        "1.0*p2 + -1.0*p0 <= 2.5",  # grid = 0.5 + 0.5 * p2
        "1.0*p0 <= 0.75",
    ]


def test_every_suggestion_satisfies_constraints_that_ax_does_not_know() -> None:
    space = SearchSpace(
        {
            "rate": Float(1e-3, 1.0, log=True),
            "x": Float(1e-3, 1.0, log=True),
            "c": ["a", "b"],
            "child": Float(0.0, 1.0).when(c="a"),
        },
        ["rate + x >= 0.5", "child + x <= 0.7"],
    )
    optimizer = AxOptimizer(space, LOSS, seed=0, generation_strategy=quick_strategy())
    # The best point without constraints violates one.
    suggested = run(optimizer, 9, lambda p: {"loss": math.log10(p["rate"]) + math.log10(p["x"])})

    assert all(space.validate(params) == params for params in suggested)
    assert "BoTorch" in generators_of(optimizer)
    assert "RUNNING" not in statuses(optimizer)
    assert "ABANDONED" in statuses(optimizer), "no suggestion was rejected: nothing is tested"


@pytest.mark.slow
def test_a_point_on_the_edge_of_a_constraint_is_inside() -> None:
    # Ax' solver is outside by up to 1e-8.
    space = SearchSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}, ["x + 0.7*y <= 0.6"])
    optimizer = AxOptimizer(space, LOSS, seed=0, generation_strategy=quick_strategy())
    suggested = run(optimizer, 9, lambda params: {"loss": -params["x"] - params["y"]})

    assert all(space.validate(params) == params for params in suggested)
    assert statuses(optimizer) == ["COMPLETED"] * 9, "a rounding was taken for a violation"
    assert max(params["x"] + 0.7 * params["y"] for params in suggested) > 0.6 - 1e-6


# Told right -----------------------------------------------------------------------------------

FAILURES = [s for s in Status if s not in (Status.COMPLETED, Status.ABANDONED)]


@pytest.mark.parametrize("status", FAILURES, ids=str)
def test_a_failure_is_abandoned_with_the_worst_value_so_far(status: Status) -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=sobol_strategy())
    early, good, bad, failed, worse = optimizer.ask(5)
    tell(optimizer, early, status)
    assert told_data(optimizer) == {}, "something was told before anything was known"
    optimizer.tell(Observation(good, {"loss": 1.0}))
    optimizer.tell(Observation(bad, {"loss": 3.0}))
    tell(optimizer, failed, status)

    means = {index: mean for index, (mean, _) in told_data(optimizer).items()}
    assert means == {0: 3.0, 1: 1.0, 2: 3.0, 3: 3.0}
    optimizer.tell(Observation(worse, {"loss": 5.0}))
    means = {index: mean for index, (mean, _) in told_data(optimizer).items()}
    assert means == {0: 5.0, 1: 1.0, 2: 3.0, 3: 5.0, 4: 5.0}
    assert statuses(optimizer) == [
        "ABANDONED",
        "COMPLETED",
        "COMPLETED",
        "ABANDONED",
        "COMPLETED",
    ]
    assert optimizer.get_best_treatment() is good


def test_the_worst_value_is_the_lowest_where_the_objective_is_maximized() -> None:
    optimizer = AxOptimizer(
        SQUARE,
        [Objective("gain", "maximize"), LOSS],
        constraints=[Constraint("area", "<=", 1.0), Constraint("area", ">=", 0.0)],
        seed=0,
        generation_strategy=sobol_strategy(),
    )
    one, other, failed = optimizer.ask(3)
    optimizer.tell(Observation(one, {"gain": 1.0, "loss": 7.0, "area": 1.5}))
    optimizer.tell(Observation(other, {"gain": 2.0, "loss": 5.0, "area": -0.2}))
    tell(optimizer, failed, Status.FAILED)

    area, gain, loss = (told_data(optimizer, metric)[2][0] for metric in ("m0", "m1", "m2"))
    assert (gain, loss, area) == (1.0, 7.0, 1.5)


def test_an_abandoned_trial_is_told_without_data() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=sobol_strategy())
    known, abandoned = optimizer.ask(2)
    optimizer.tell(Observation(known, {"loss": 1.0}))
    tell(optimizer, abandoned, Status.ABANDONED)

    assert statuses(optimizer) == ["COMPLETED", "ABANDONED"]
    assert list(told_data(optimizer)) == [0]


def test_a_pruned_trial_is_stopped_early_with_its_means() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=sobol_strategy())
    known, pruned = optimizer.ask(2)
    optimizer.tell(Observation(known, {"loss": 1.0}, sem={"loss": 0.5}))
    optimizer.tell(Observation(pruned, {"loss": 2.0}, Status.PRUNED, sem={"loss": 0.25}))

    assert statuses(optimizer) == ["COMPLETED", "EARLY_STOPPED"]
    assert told_data(optimizer) == {0: (1.0, 0.5), 1: (2.0, 0.25)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "1.0"], ids=repr)
def test_what_is_no_finite_number_is_never_data(value: Any) -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=sobol_strategy())
    good, invalid, missing = optimizer.ask(3)
    optimizer.tell(Observation(good, {"loss": 1.0}))
    optimizer.tell(Observation(invalid, {"loss": value}))
    optimizer.tell(Observation(missing, {"other": 0.5}))

    assert statuses(optimizer) == ["COMPLETED", "ABANDONED", "ABANDONED"]
    assert {mean for mean, _ in told_data(optimizer).values()} == {1.0}
    assert [each.status for each in optimizer.observations][1:] == [Status.INVALID] * 2


def test_metrics_that_were_not_declared_are_not_told() -> None:
    # Ax would fit a model to each.
    optimizer = AxOptimizer(SQUARE, LOSS, constraints=[Constraint("area", "<=", 1.0)], seed=0)
    optimizer.ask()
    optimizer.tell({"loss": 1.0, "area": 0.5, "more": 2.0, "E": 3.0})

    assert set(table_of(optimizer)["metric_name"]) == {"m0", "m1"}
    assert set(optimizer.client._experiment.metrics) == {"m0", "m1"}


def test_standard_errors_are_dropped_for_all_from_the_first_trial_without() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy(initial=4))
    first, zero, failed, without, after = optimizer.ask(5)
    optimizer.tell(Observation(first, {"loss": 1.0}, sem={"loss": 0.5}))
    optimizer.tell(Observation(zero, {"loss": 4.0}, sem={"loss": 0.0}))
    tell(optimizer, failed, Status.FAILED)
    assert told_data(optimizer) == {0: (1.0, 0.5), 1: (4.0, 0.0), 2: (4.0, 0.0)}

    optimizer.tell(Observation(without, {"loss": 2.0}, sem={"loss": None}))
    optimizer.tell(Observation(after, {"loss": 3.0}, sem={"loss": 0.5}))
    told = told_data(optimizer)
    assert {index: mean for index, (mean, _) in told.items()} == {0: 1, 1: 4, 2: 4, 3: 2, 4: 3}
    assert all(math.isnan(sem) for _, sem in told.values())
    optimizer.ask()  # With a mixture, the model raises InputDataError here.
    assert generators_of(optimizer)[-1] == "BoTorch"


@pytest.mark.parametrize("sem", [math.nan, math.inf, -0.5], ids=repr)
def test_a_standard_error_that_is_none_is_not_told(sem: float) -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=sobol_strategy())
    (treatment,) = optimizer.ask()
    optimizer.tell(Observation(treatment, {"loss": 1.0}, sem={"loss": sem}))

    assert math.isnan(told_data(optimizer)[0][1])


def test_names_of_metrics_may_be_anything() -> None:
    optimizer = AxOptimizer(
        SQUARE,
        [Objective("val-loss", "minimize"), Objective("a,b", "maximize")],
        constraints=[Constraint("E", "<=", 1e-5), Constraint("größe", ">=", -3.0)],
        seed=0,
        generation_strategy=quick_strategy(),
    )
    run(
        optimizer,
        4,
        lambda p: {"val-loss": p["x"], "a,b": p["y"], "E": p["x"] - 0.5, "größe": p["y"]},
    )

    config = str(optimizer.client._experiment.optimization_config)
    assert "m0 <= 1e-05" in config
    assert "m2 >= -3.0" in config
    assert '"-m3, m1"' in config


@pytest.mark.parametrize(
    ("objectives", "constraints", "expected"),
    [
        ([LOSS], [Constraint("loss", ">=", 0.1)], ["m0_constrained >= 0.1"]),
        ([LOSS], [Constraint("a", "<=", 2.0), Constraint("a", "<=", 1.0)], ["m0 <= 1.0"]),
        ([LOSS], [Constraint("a", "<=", 2), Constraint("a", ">=", 1)], ["m0 <= 2.0", "m0 >= 1.0"]),
        ([LOSS, Objective("a", "maximize")], [Constraint("a", ">=", 0.0)], ["m0 >= 0.0"]),
        (
            [LOSS, Objective("a", "maximize")],
            [Constraint("a", "<=", 0.5)],
            ["m0_constrained <= 0.5"],
        ),
        (
            # With a threshold on one of two objectives, and no feasible point, Ax raises.
            [LOSS, Objective("a", "maximize")],
            [Constraint("a", ">=", 0.5), Constraint("b", "<=", -1.0)],
            ["m0_constrained >= 0.5", "m1 <= -1.0"],
        ),
    ],
)
def test_outcome_constraints_of_any_kind_reach_the_model(
    objectives: list[Objective], constraints: list[Constraint], expected: list[str]
) -> None:
    optimizer = AxOptimizer(
        SQUARE, objectives, constraints=constraints, seed=0, generation_strategy=quick_strategy()
    )
    run(optimizer, 4, lambda p: {"loss": p["x"], "a": p["y"], "b": p["y"]})

    config = optimizer.client._experiment.optimization_config
    assert config is not None
    known = [
        f"{each.metric_names[0]} {'<=' if each.op.name == 'LEQ' else '>='} {each.bound}"
        for each in config.all_constraints
    ]
    assert known == expected
    assert generators_of(optimizer)[-1] == "BoTorch"


# Failures do not trap -------------------------------------------------------------------------


def test_after_ten_failures_there_are_new_suggestions() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0)
    suggested = []
    for _ in range(12):
        (treatment,) = optimizer.ask()
        suggested.append(tuple(treatment.params.values()))
        tell(optimizer, treatment, Status.FAILED)

    assert len(set(suggested)) == 12


def test_a_failure_in_the_model_phase_is_not_suggested_again() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
    run(optimizer, 3)
    suggested = []
    for _ in range(4):
        (treatment,) = optimizer.ask()
        suggested.append((treatment.params["x"], treatment.params["y"]))
        tell(optimizer, treatment, Status.FAILED)

    distances = [
        math.dist(one, other) for i, one in enumerate(suggested) for other in suggested[:i]
    ]
    assert min(distances) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("failing_first", [0, 8])
def test_a_region_that_always_fails_does_not_trap(failing_first: int) -> None:
    """The left half fails, and holds the best point without failures; see docs/ax.md."""
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy(0, 5))
    outside = []
    for number in range(60):
        (treatment,) = optimizer.ask()
        x, y = treatment.params["x"], treatment.params["y"]
        outside.append(x >= 0.5)
        if x < 0.5 or number < failing_first:
            tell(optimizer, treatment, Status.FAILED)
        else:
            optimizer.tell({"loss": (x - 0.2) ** 2 + (y - 0.5) ** 2})

    assert sum(outside[-30:]) >= 15
    best = optimizer.get_best_treatment().params
    assert abs(best["x"] - 0.5) < 0.1
    assert abs(best["y"] - 0.5) < 0.1


# Pending --------------------------------------------------------------------------------------


def test_sixteen_pending_trials_can_be_told_in_any_order() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0)
    treatments = optimizer.ask(16)
    assert len({tuple(t.params.values()) for t in treatments}) == 16
    random.Random(0).shuffle(treatments)
    for treatment in treatments[:12]:
        optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
    some = optimizer.ask(2)

    assert generators_of(optimizer)[16:] == ["BoTorch", "BoTorch"]
    assert len({tuple(t.params.values()) for t in treatments + some}) == 18
    for treatment in treatments[12:] + some:
        optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
    assert statuses(optimizer) == ["COMPLETED"] * 18
    for index, trial in trials_of(optimizer).items():
        params = {"x": trial.arm.parameters["p0"], "y": trial.arm.parameters["p1"]}
        assert told_data(optimizer)[index][0] == any_loss(params), "a value is told for another"


def test_a_batch_is_asked_in_sequence() -> None:
    batch, single = (
        AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy()) for _ in range(2)
    )
    run(batch, 3)
    run(single, 3)

    together = [dict(treatment.params) for treatment in batch.ask(2)]
    one_by_one = [dict(single.ask()[0].params) for _ in range(2)]
    assert exactly(together) == exactly(one_by_one)
    assert not batch.capabilities.joint_batches


def test_a_strategy_that_wants_fewer_pending_or_more_data_never_raises() -> None:
    strategy = quick_strategy(
        pausing_criteria=[
            MaxGenerationParallelism(threshold=2),
            MaxTrialsAwaitingData(threshold=3, use_all_trials_in_exp=True),
        ]
    )
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=strategy)
    treatments = optimizer.ask(6)

    assert len({tuple(t.params.values()) for t in treatments}) == 6
    assert generators_of(optimizer) == ["Sobol", "Sobol", None, None, None, None]


# Finite spaces --------------------------------------------------------------------------------

FINITE = [
    SearchSpace({"n": (0, 2), "c": ["a", "b"]}),
    SearchSpace(
        {"c": ["a", "b", "d"], "n": Integer(1, 2).when(c={"a", "b"}), "m": Integer(1, 2)},
        ["n + m <= 3"],
    ),
    SearchSpace({"only": Constant(1), "one": Integer(3, 3)}),
    SearchSpace({"p": ["a", "b"], "q": Ordinal([1, 2]).when(p="a")}),
]


@pytest.mark.parametrize(
    "told",
    [pytest.param(True, id="told", marks=pytest.mark.slow), pytest.param(False, id="pending")],
)
@pytest.mark.parametrize("space", FINITE, ids=["plain", "constrained", "one point", "tree"])
def test_a_finite_space_ends_when_every_point_was_suggested_once(
    space: SearchSpace, told: bool
) -> None:
    optimizer = AxOptimizer(space, LOSS, seed=0, generation_strategy=quick_strategy())
    size = sum(1 for _ in space.points())
    keys = set()
    for _ in range(size):
        (treatment,) = optimizer.ask()
        keys.add(space.key(treatment.params))
        if told:
            optimizer.tell({"loss": any_loss(treatment.params)})
    assert len(keys) == size
    for _ in range(2):
        with pytest.raises(SpaceExhausted, match=f"All {size} points"):
            optimizer.ask()
    for treatment in optimizer.pending:
        optimizer.tell(Observation(treatment, {"loss": 1.0}))
    assert "RUNNING" not in statuses(optimizer)


def test_a_batch_ends_with_the_space_and_attached_points_count() -> None:
    optimizer = AxOptimizer({"n": (1, 4)}, LOSS, seed=0, generation_strategy=quick_strategy())
    optimizer.attach(Observation(Treatment("old", {"n": 2}), {"loss": 1.0}))

    assert sorted(t.params["n"] for t in optimizer.ask(9)) == [1, 3, 4]


def test_a_strategy_that_ends_ends_the_search() -> None:
    done = MinTrials(threshold=2, transition_to="Sobol")
    node = GenerationNode(
        name="Sobol", generator_specs=[GeneratorSpec(Generators.SOBOL)], transition_criteria=[done]
    )
    strategy = GenerationStrategy(name="two", nodes=[node])
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=strategy)
    run(optimizer, 2)

    with pytest.raises(SpaceExhausted, match="generation strategy"):
        optimizer.ask()


# Exact again ----------------------------------------------------------------------------------

SCRIPT = """
import random, sys
import numpy, torch
from crystallize_opt import *
from crystallize_opt.adapters import AxOptimizer

seed, threads = map(int, sys.argv[1:])
random.seed(seed); numpy.random.seed(seed); torch.manual_seed(seed)
torch.set_num_threads(threads)
y = Float(0, 1).when(k="a")
space = {"x": (0.0, 1.0), "n": Integer(1, 10**9), "k": ["a", "b", "c"], "y": y}
optimizer = AxOptimizer(
    space, Objective("loss", "minimize"), constraints=[Constraint("area", "<=", 0.9)], seed=0
)
for number in range(6):
    for treatment in optimizer.ask(2 if number == 3 else 1):
        random.random(); numpy.random.rand(); torch.rand(3)
        x = treatment.params["x"]
        if number == 1:
            optimizer.tell(Observation(treatment, status=Status.FAILED))
        else:
            optimizer.tell(Observation(treatment, {"loss": (x - 0.3) ** 2, "area": x}))
        print(repr(dict(treatment.params)))
"""


def in_another_process(
    script: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  (our own script)
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )


@pytest.mark.slow
def test_another_process_suggests_the_same() -> None:
    one = in_another_process(SCRIPT, "1", "1", PYTHONHASHSEED="1", OMP_NUM_THREADS="1")
    other = in_another_process(SCRIPT, "2", "2", PYTHONHASHSEED="2", OMP_NUM_THREADS="2")

    assert (one.stderr, other.stderr) == ("", "")
    assert len(one.stdout.splitlines()) == 7
    assert one.stdout == other.stdout


def test_a_recorded_run_replays() -> None:
    recorded = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
    recorded.attach(Observation(Treatment("old", {"x": 0.25, "y": 0.5}), {"loss": 1.0}))
    first, second = recorded.ask(2)
    recorded.tell(Observation(second, {"loss": 2.0}, sem={"loss": 0.5}))
    tell(recorded, first, Status.FAILED)
    run(recorded, 3)

    again = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
    again.replay(recorded.events)  # raises where a suggestion differs
    assert exactly([dict(again.ask()[0].params)]) == exactly([dict(recorded.ask()[0].params)])
    assert {"ax-platform", "botorch", "torch"} <= set(again.versions)


def test_zero_is_a_seed_and_none_is_random() -> None:
    def start(seed: Any) -> list[Point]:
        return [dict(t.params) for t in AxOptimizer(SQUARE, LOSS, seed=seed).ask(2)]

    assert start(0) == start(0) == start(np.int64(0))
    assert start(0) != start(1)
    assert start(2**32 - 1) == start(2**32 - 1)
    assert start(None) != start(None)


# No side effects ------------------------------------------------------------------------------

SNAPSHOT = """
import io, logging, os, random, sys, warnings
import numpy, torch

def snapshot():
    root = logging.getLogger()
    return {
        "random": random.getstate(),
        "numpy": repr(numpy.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "root logger": (root.level, list(root.handlers), list(root.filters)),
        "environ": dict(os.environ),
        "cwd": os.getcwd(),
        "path": list(sys.path),
        "excepthook": sys.excepthook,
    }
"""

SIDE_EFFECTS = (
    SNAPSHOT
    + """
from crystallize_opt import *
from crystallize_opt.adapters import AxOptimizer

assert not {"ax", "botorch", "pandas"} & set(sys.modules), "imported before it is needed"
logger, stream = logging.getLogger("crystallize_opt"), io.StringIO()
logger.addHandler(logging.StreamHandler(stream))
logger.setLevel(logging.INFO)
torch.set_num_threads(2)
numpy.random.randn()  # the other half of the pair is part of the state
given = {"x": (0.0, 1.0), "k": ["a", "b"], "y": Float(0, 1).when(k="a")}
before, space = snapshot(), dict(given)

def unchanged(what):
    after = snapshot()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, (what, changed, [(before[n], after[n]) for n in changed if n != "torch"])

for seed in (0, None):
    optimizer = AxOptimizer(space, Objective("loss", "minimize"), seed=seed)
    unchanged("construct")
    old = Treatment("old", {"x": 0.5, "k": "b"})
    optimizer.attach([Observation(old, {"loss": 1.0}), Observation(old, status=Status.FAILED)])
    unchanged("attach")
    for number in range(6):
        (treatment,) = optimizer.ask()
        unchanged("ask")
        if number == 2:
            optimizer.tell(Observation(treatment, status=Status.FAILED))
        else:
            optimizer.tell({"loss": treatment.params["x"]})
        unchanged("tell")
assert space == given
assert stream.getvalue().count("Importing Ax") == 1
"""
)


@pytest.mark.slow
def test_nothing_is_left_behind_and_nothing_is_printed() -> None:
    result = in_another_process(SIDE_EFFECTS)

    assert result.stderr == ""
    assert result.stdout == ""
    assert result.returncode == 0


def test_random_state_threads_and_filters_are_as_before_every_call() -> None:
    namespace: dict[str, Any] = {}
    exec(SNAPSHOT, namespace)  # noqa: S102  (the same in another process)
    snapshot = namespace["snapshot"]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        before = snapshot()
        optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
        assert snapshot() == before
        for number in range(5):
            (treatment,) = optimizer.ask()
            assert snapshot() == before
            tell(optimizer, treatment, Status.FAILED if number == 1 else Status.COMPLETED, loss=1.0)
            assert snapshot() == before
        assert "BoTorch" in generators_of(optimizer)
    finally:
        torch.set_num_threads(threads)


def test_messages_of_ax_in_other_threads_are_not_dropped() -> None:
    handler = ROOT_STREAM_HANDLER
    record = logging.makeLogRecord({"msg": "hello", "levelno": logging.INFO})
    with ax_client._no_trace():
        assert not handler.filter(record)
        other = threading.Thread(target=lambda: seen.append(logging.makeLogRecord({"msg": "hi"})))
        seen: list[logging.LogRecord] = []
        other.start()
        other.join()
        assert handler.filter(seen[0])
    assert handler.filter(record)


def test_the_callers_strategy_stays_fresh() -> None:
    strategy = quick_strategy()
    first = run(AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=strategy), 2)

    assert strategy.last_generator_run is None
    assert "data_loader_config" not in strategy.nodes_by_name["GP"].generator_spec.generator_kwargs
    assert run(AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=strategy), 2) == first


def test_what_is_no_fresh_strategy_is_refused() -> None:
    with pytest.raises(UsageError, match="takes a GenerationStrategy"):
        AxOptimizer(SQUARE, LOSS, generation_strategy="fast")  # type: ignore[arg-type]
    used = AxOptimizer(SQUARE, LOSS)
    run(used, 1)
    with pytest.raises(UsageError, match="clone_reset"):
        AxOptimizer(SQUARE, LOSS, generation_strategy=used.client._generation_strategy)


def test_the_client_is_native_and_has_every_trial() -> None:
    optimizer = AxOptimizer({"x": (0.0, 1.0), "c": ["a", "b"]}, LOSS, seed=0)
    run(optimizer, 3)
    (pending,) = optimizer.ask()

    assert type(optimizer.client) is Client
    with by_hand():
        table = optimizer.client.summarize()
    assert list(table["trial_status"]) == ["COMPLETED"] * 3 + ["RUNNING"]
    assert list(table["m0"])[:3] == [o["loss"] for o in optimizer.observations]
    assert table["p0"].iloc[3] == pending.params["x"]


def test_the_capabilities_are_those_that_are_tested_here() -> None:
    capabilities = AxOptimizer(SQUARE, LOSS).capabilities

    assert capabilities.conditions
    assert capabilities.linear_constraints
    assert capabilities.several_objectives
    assert capabilities.outcome_constraints
    assert capabilities.standard_errors
    assert capabilities.pending
    assert capabilities.unique_points
    assert not capabilities.pruning
    assert not capabilities.joint_batches


@pytest.mark.parametrize("name", ax_client.UNGUARANTEED)
def test_what_ax_does_not_guarantee_is_still_there(name: str) -> None:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in path.split("."):
        found = getattr(found, attribute)
