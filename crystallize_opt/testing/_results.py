"""Tests of results: the best treatment, the Pareto front, and a whole experiment."""

# ruff: noqa: S101  (tests consist of asserts)

from __future__ import annotations

import itertools
from typing import Any

import pytest

from crystallize_opt.errors import NoCompletedTrialError, UsageError
from crystallize_opt.experiment import Experiment
from crystallize_opt.pipeline.context import FrozenContext
from crystallize_opt.pipeline.pipeline import Pipeline
from crystallize_opt.pipeline.steps import data_source, pipeline_step
from crystallize_opt.testing._base import (
    ContractPart,
    ask_one,
    completed,
    must_raise,
    points_of,
    search,
    who,
)
from crystallize_opt.testing._spaces import LOSS, SQUARE, any_loss, mixed_space
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

COST_AND_GAIN = (Objective("cost", "minimize"), Objective("gain", "maximize"))


class Results(ContractPart):
    """The best treatment is the best of all observations."""

    def test_there_is_no_best_before_a_result(self) -> None:
        """Without a completed trial there is no best treatment."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        for _ in range(2):
            must_raise(
                NoCompletedTrialError,
                optimizer,
                "asking for the best before a trial completed",
                optimizer.get_best_treatment,
            )
            assert optimizer.pareto_front() == []
            ask_one(optimizer)

    @pytest.mark.parametrize("direction", ["minimize", "maximize"])
    def test_the_best_is_the_best_told(self, direction: Any) -> None:
        """The best is chosen from all told and attached trials, in the objective's direction."""
        objective = Objective("loss", direction)
        optimizer = self.make_optimizer(mixed_space(self.capabilities), objective)
        search(optimizer, self.asks_per_test)
        point = optimizer.space.sample(1)
        optimizer.attach(completed(Treatment("attached", point), 0.0))
        optimizer.attach(completed(Treatment("other", point), 1e6))
        choose = min if direction == "minimize" else max
        losses = [observation["loss"] for observation in optimizer.observations]
        expected = optimizer.observations[losses.index(choose(losses))].treatment
        assert optimizer.get_best_treatment() is expected, (
            f"{who(optimizer)}: the best is {optimizer.get_best_treatment()!r}, but the objective "
            f"is to {direction} the losses {losses}."
        )

    def test_maximizing_is_minimizing_the_negative(self) -> None:
        """Maximizing a metric and minimizing its negative give the same search."""
        found = []
        for direction, sign in (("minimize", 1.0), ("maximize", -1.0)):
            optimizer = self.make_optimizer(SQUARE, Objective("loss", direction))  # type: ignore[arg-type]
            treatments = search(
                optimizer,
                self.asks_per_test,
                lambda t, sign=sign: completed(t, sign * any_loss(t.params)),  # type: ignore[misc]
            )
            best = optimizer.get_best_treatment()
            found.append((points_of(treatments), points_of([best])))
            assert found[0][0] == found[-1][0], (
                f"{who(optimizer)}: maximizing a metric and minimizing its negative give different "
                "suggestions."
            )
        assert found[0] == found[1], (
            f"{who(optimizer)}: maximizing a metric and minimizing its negative give different "
            "best treatments."
        )

    def test_the_pareto_front(self) -> None:
        """The front consists of the completed trials that no other trial dominates."""
        if not self.capabilities.several_objectives:
            pytest.skip("takes one objective")
        optimizer = self.make_optimizer(SQUARE, COST_AND_GAIN)
        fails = itertools.cycle([False, False, False, True])

        def outcome(treatment: Treatment) -> Observation:
            x, y = treatment.params["x"], treatment.params["y"]
            if next(fails):
                return Observation(treatment, {"cost": -1.0, "gain": 9.0}, Status.FAILED)
            return Observation(treatment, {"cost": x, "gain": x * y})

        search(optimizer, max(8, self.asks_per_test), outcome)
        real = [o for o in optimizer.observations if o.status is Status.COMPLETED]
        front = [
            o.treatment.name
            for o in real
            if not any(
                p["cost"] <= o["cost"] and p["gain"] >= o["gain"] and dict(p) != dict(o)
                for p in real
            )
        ]
        assert [o.treatment.name for o in optimizer.pareto_front()] == front, (
            f"{who(optimizer)}: the Pareto front must consist of {front}."
        )
        assert optimizer.get_best_treatment().name in front, (
            f"{who(optimizer)}: the best is not on the Pareto front."
        )

    @pytest.mark.parametrize("several", [False, True])
    def test_the_best_satisfies_the_outcome_constraints(self, several: bool) -> None:
        """A trial that violates an outcome constraint is never the best, nor on the front."""
        if several and not self.capabilities.several_objectives:
            pytest.skip("takes one objective")
        objective = COST_AND_GAIN if several else COST_AND_GAIN[0]
        constraints = [Constraint("latency", "<=", 10.0), Constraint("quality", ">=", 0.5)]
        optimizer = self.make_optimizer(SQUARE, objective, constraints=constraints)
        metrics: dict[str, dict[str, float]] = {
            "slow": {"cost": 1.0, "gain": 5.0, "latency": 10.5, "quality": 0.5},
            "bad": {"cost": 2.0, "gain": 4.0, "latency": 9.0, "quality": 0.25},
            "good": {"cost": 3.0, "gain": 3.0, "latency": 10.0, "quality": 0.5},
            "worse": {"cost": 4.0, "gain": 2.0, "latency": 1.0, "quality": 1.0},
            "unknown": {"cost": 0.0, "gain": 9.0, "latency": 1.0},
        }
        told = {}
        for name, values in metrics.items():
            if name == "good":
                must_raise(
                    NoCompletedTrialError,
                    optimizer,
                    "asking for the best when no trial satisfies the constraints",
                    optimizer.get_best_treatment,
                )
            told[name] = ask_one(optimizer)
            optimizer.tell(Observation(told[name], values))
        assert optimizer.get_best_treatment() is told["good"], (
            f"{who(optimizer)}: the best must be the best trial that satisfies the constraints."
        )
        front = [observation.treatment for observation in optimizer.pareto_front()]
        assert front == [told["good"]], f"{who(optimizer)}: the front is {front!r}."
        assert optimizer.observations[-1].status is Status.INVALID, (
            f"{who(optimizer)}: a trial without the metric of a constraint must be invalid."
        )
        for _ in range(min(3, self.asks_per_test)):
            optimizer.tell(Observation(ask_one(optimizer), metrics["good"]))

    def test_a_constraint_relative_to_the_baseline_decides_as_its_absolute_bound_does(self) -> None:
        """The baseline comes before the first ask, and is none of the observations."""
        relative = Constraint("latency", "<=", -20, relative_to_baseline=True)
        optimizer = self.make_optimizer(SQUARE, LOSS, constraints=[relative])
        must_raise(UsageError, optimizer, "asking without a baseline", optimizer.ask)
        optimizer.set_baseline({"loss": 5.0, "latency": 10.0})
        told = {}
        for latency in (8.5, 8.0, 7.0):
            told[latency] = ask_one(optimizer)
            optimizer.tell(Observation(told[latency], {"loss": -latency, "latency": latency}))
        assert optimizer.get_best_treatment() is told[8.0], (
            f"{who(optimizer)}: the best must satisfy {relative.text}, which is latency <= 8."
        )
        assert len(optimizer.observations) == 3, (
            f"{who(optimizer)}: the baseline must not be among the observations."
        )

    @pytest.mark.parametrize("replicates", [1, 3])
    def test_it_is_driven_by_an_experiment(self, replicates: int) -> None:
        """`Experiment.optimize` can drive the optimizer, with failures and replicates."""
        if self.capabilities.pruning and replicates == 1:
            pytest.skip("has a pruner, which is never asked with one replicate")
        optimizer = self.make_optimizer(SQUARE, LOSS)
        experiment = Experiment(_nothing(), Pipeline([_loss_of_the_square()]), seed=0)
        trials = max(6, self.asks_per_test)
        best = experiment.optimize(optimizer, trials, replicates, progress=False)
        ran = sum(observation.repeats is None for observation in optimizer.observations)
        assert ran == trials, (
            f"{who(optimizer)}: {ran} of {trials} trials were told, besides repeated points."
        )
        assert optimizer.pending == [], f"{who(optimizer)}: {optimizer.pending!r} stay pending."
        real = [o for o in optimizer.observations if o.status is Status.COMPLETED]
        assert all(len(o.replicates) == replicates for o in real)
        lowest = min(real, key=lambda observation: observation["loss"])
        assert best is lowest.treatment, (
            f"{who(optimizer)}: the best is {best!r}, but {lowest.treatment!r} has a lower loss."
        )


@data_source
def _nothing(_: FrozenContext) -> None:
    return None


@pipeline_step()
def _loss_of_the_square(_: None, ctx: FrozenContext, *, x: float, y: float) -> None:
    if y > 0.8:
        raise ValueError("boom")
    ctx.metrics.add("loss", (x - 0.25) ** 2 + y**2 + 0.01 * ctx["replicate"])
