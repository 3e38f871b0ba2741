"""The trial loop: what is asked, run, told and returned."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import (
    FrozenContext,
    History,
    Objective,
    Observation,
    Search,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import GridOptimizer, RandomOptimizer
from crystallize_opt.errors import SpaceExhausted
from tests.search.grids import MAXIMIZE, MINIMIZE, grid
from tests.toy import DELTAS, SUMS, PlainOptimizer, experiment_of, toy_experiment

# The mean, and what is told -------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "best"), [(MINIMIZE, 0.0), (MAXIMIZE, 2.0)])
@pytest.mark.parametrize("optimizer_of", [grid, PlainOptimizer])
def test_returns_the_best_treatment(
    optimizer_of: Callable[..., Any], objective: Objective, best: float
) -> None:
    assert toy_experiment().optimize(optimizer_of(DELTAS, objective), 3).params == {"delta": best}


def test_an_observation_is_told_for_each_trial() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        ctx.metrics.add("sum", delta + ctx["replicate"])
        ctx.metrics.add("note", "text")
        return data, {"size": 3}

    optimizer = grid([1.0, 2.0])
    experiment_of(record, seed=5).optimize(optimizer, 2, 3)

    first, second = optimizer.observations
    assert first.treatment.params == {"delta": 1.0}
    assert dict(first) == {"sum": 2.0, "size": 3.0}
    assert dict(second) == {"sum": 3.0, "size": 3.0}
    assert first.sem == {"sum": pytest.approx(1.0 / math.sqrt(3)), "size": 0.0}
    assert first.status is Status.COMPLETED
    assert first.error is None
    assert [dict(replicate) for replicate in first.replicates] == [
        {"sum": 1.0, "size": 3.0},
        {"sum": 2.0, "size": 3.0},
        {"sum": 3.0, "size": 3.0},
    ]
    assert [r.seed for r in first.replicates] == [r.seed for r in second.replicates]
    assert [r.index for r in first.replicates] == [0, 1, 2]
    assert first.started_at is not None
    assert second.started_at is not None
    assert first.started_at <= second.started_at
    assert first.duration is not None
    assert first.duration >= 0.0
    assert all(type(value) is float for value in first.values())


def test_the_mean_is_exact() -> None:
    """A plain sum of these loses the ones: 1e16 + 1 is 1e16."""
    values = [1e16, 1.0, 1.0, -1e16]

    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"sum": values[ctx["replicate"]]}

    optimizer = grid([1.0])
    experiment_of(record).optimize(optimizer, 1, 4)

    assert optimizer.observations[0]["sum"] == 0.5


def test_a_plain_optimizer_is_told_just_its_metric() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"size": 3.0, "sum": delta + ctx["replicate"], "time": 1.0}

    optimizer = PlainOptimizer([1.0, 2.0])
    experiment_of(record).optimize(optimizer, 2, 2)

    assert [dict(told) for told in optimizer.told] == [{"sum": 1.5}, {"sum": 2.5}]
    assert all(isinstance(told, Observation) for told in optimizer.told)


def test_a_plain_optimizer_may_have_several_objectives() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta == 0.0:
            raise ValueError("boom")
        return data, {"loss": delta, "gain": 2 * delta, "time": 1.0}

    class Several(PlainOptimizer):
        def get_best_treatment(self) -> Treatment:
            return self.treatments[0]

    optimizer = Several(DELTAS, [Objective("loss", "minimize"), Objective("gain", "maximize")])
    experiment_of(record).optimize(optimizer, 3)

    assert [dict(told) for told in optimizer.told] == [
        {"loss": 2.0, "gain": 4.0},
        {"loss": math.inf, "gain": -math.inf},
        {"loss": 1.0, "gain": 2.0},
    ]


def test_every_treatment_of_one_ask_is_a_trial_of_its_own() -> None:
    class Pairs(PlainOptimizer):
        def ask(self) -> list[Treatment]:
            return self.treatments[len(self.told) : len(self.told) + 2]

    optimizer = Pairs([2.0, 0.0, 1.0, 3.0])

    assert toy_experiment().optimize(optimizer, 4).params == {"delta": 0.0}
    assert [told["sum"] for told in optimizer.told] == [12.0, 6.0, 9.0, 15.0]


# Pruning --------------------------------------------------------------------------------------


class Pruning(GridOptimizer):
    """Ends every trial whose first replicate has a positive sum."""

    def report_replicate(
        self, treatment: Treatment, replicate: int, metrics: Mapping[str, float]
    ) -> bool:
        self.reported = [*getattr(self, "reported", []), (treatment.name, replicate, dict(metrics))]
        return metrics["sum"] > 0.0


def test_an_optimizer_can_end_a_trial_between_its_replicates() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"sum": delta}

    optimizer = Pruning({"delta": [1, 0]}, MAXIMIZE)
    best = experiment_of(record).optimize(optimizer, 2, 3)

    assert best.params == {"delta": 0.0}
    assert [o.status for o in optimizer.observations] == [Status.PRUNED, Status.COMPLETED]
    assert [len(o.replicates) for o in optimizer.observations] == [1, 3]
    assert optimizer.reported == [
        ("trial_0", 0, {"sum": 1.0}),
        ("trial_1", 0, {"sum": 0.0}),
        ("trial_1", 1, {"sum": 0.0}),
    ]


def test_pruned_trials_are_no_failures() -> None:
    optimizer = Pruning({"delta": list(range(12, -1, -1))}, MINIMIZE)

    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"sum": delta}

    assert experiment_of(record).optimize(optimizer, 13, 2).params == {"delta": 0}


# The ends of a search -------------------------------------------------------------------------


def test_a_used_up_space_ends_the_search() -> None:
    optimizer = grid(DELTAS)

    assert toy_experiment().optimize(optimizer, 100).params == {"delta": 0.0}
    assert [observation["sum"] for observation in optimizer.observations] == SUMS
    with pytest.raises(SpaceExhausted):
        toy_experiment().optimize(optimizer, 1)


def test_a_second_search_goes_on_where_the_first_ended() -> None:
    experiment, optimizer = toy_experiment(), grid([2.0, 1.0, 0.0])

    assert experiment.optimize(optimizer, 2).params == {"delta": 1.0}
    assert experiment.optimize(optimizer, 1).params == {"delta": 0.0}
    assert [o.treatment.name for o in optimizer.observations] == ["trial_0", "trial_1", "trial_2"]


def test_the_same_experiment_serves_two_optimizers() -> None:
    experiment = toy_experiment(seed=0)
    results = []
    for _ in range(2):
        optimizer = RandomOptimizer({"delta": (0.0, 1.0)}, MINIMIZE, seed=1)
        experiment.optimize(optimizer, 5)
        results.append([(dict(o.treatment.params), dict(o)) for o in optimizer.observations])

    assert results[0] == results[1]


def test_an_error_of_the_optimizer_ends_the_search() -> None:
    class Broken(PlainOptimizer):
        def tell(self, objective_values: Mapping[str, float]) -> None:
            raise KeyError("no such trial")

    with pytest.raises(KeyError, match="no such trial"):
        toy_experiment().optimize(Broken(DELTAS), 3)


# Context --------------------------------------------------------------------------------------


def test_trials_see_the_initial_context_and_their_own_name() -> None:
    seen = []

    def look(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        seen.append((ctx["condition"], ctx["replicate"], ctx["offset"]))
        return data, {"sum": delta}

    experiment_of(look, initial_ctx={"offset": 3.0}).optimize(grid([1.0, 2.0]), 2, 2)

    assert seen == [("trial_0", 0, 3.0), ("trial_0", 1, 3.0), ("trial_1", 0, 3.0),
                    ("trial_1", 1, 3.0)]  # fmt: skip


def test_a_fitted_choice_object_is_fresh_in_every_replicate() -> None:
    """A choice that a step changes (fits, sorts) is not changed for the next one."""

    def fit(data: Any, ctx: FrozenContext, *, model: list[float]) -> Any:
        model.append(1.0)
        return data, {"sum": len(model)}

    optimizer = GridOptimizer(SearchSpace({"model": [[], [0.0]]}), MINIMIZE)
    experiment_of(fit).optimize(optimizer, 2, 2)

    assert [observation["sum"] for observation in optimizer.observations] == [1.0, 2.0]


# Interruption ---------------------------------------------------------------------------------


def test_an_interrupt_gives_the_trial_up_and_returns_the_best_so_far() -> None:
    def interrupt(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta == 1.0:
            raise KeyboardInterrupt
        return data, {"sum": delta}

    optimizer = grid([2.0, 0.0, 1.0, 3.0])
    search = Search(experiment_of(interrupt), optimizer, 4)

    assert search.run().params == {"delta": 0.0}
    assert [o.status for o in optimizer.observations] == [Status.COMPLETED] * 2 + [Status.ABANDONED]
    assert optimizer.pending == []
    assert search.stop_reason == "interrupted by SIGINT"


def test_an_interrupt_before_a_trial_completed_is_raised() -> None:
    def interrupt(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        raise KeyboardInterrupt

    optimizer = grid(DELTAS)
    with pytest.raises(KeyboardInterrupt):
        experiment_of(interrupt).optimize(optimizer, 3)

    assert [o.status for o in optimizer.observations] == [Status.ABANDONED]


def test_a_running_trial_that_was_abandoned_is_told_when_it_ends(tmp_path: Path) -> None:
    def searched(*, abandons: bool) -> Any:
        optimizer = RandomOptimizer({"delta": (0.0, 1.0)}, MINIMIZE, seed=0)

        def abandon(event: Any) -> None:
            if type(event).__name__ == "TrialStarted" and event.treatment.name == "trial_1":
                optimizer.abandon(event.treatment)

        toy_experiment().optimize(
            optimizer,
            4,
            callbacks=[abandon] if abandons else [],
            storage=tmp_path / f"{abandons}.db",
        )
        return optimizer

    optimizer = searched(abandons=True)
    before, after = optimizer.history, searched(abandons=False).history
    assert [(o.treatment.name, dict(o)) for o in before] == [
        (o.treatment.name, dict(o)) for o in after
    ]
    stored = History.load(tmp_path / "True.db")
    assert [(o.treatment.name, o.status) for o in stored] == [
        (f"trial_{number}", Status.COMPLETED) for number in range(4)
    ]
    events = [event for event in optimizer.events if type(event).__name__ == "Told"]
    assert [event.observation.status for event in events][1:3] == [
        *(Status.ABANDONED, Status.COMPLETED)
    ]
