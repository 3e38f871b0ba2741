"""The same line again goes on with a stored run: exactly, or it says why not."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from crystallize_opt import (
    BaseOptimizer,
    Constraint,
    Experiment,
    Failures,
    FrozenContext,
    History,
    NoImprovement,
    Objective,
    Observation,
    Pipeline,
    SpaceOptimizer,
    Status,
    Storage,
    TargetValue,
    Treatment,
    Workers,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import (
    InvalidParametersError,
    ReplayDiverged,
    RunChanged,
    TrialsFailedError,
    UsageError,
)
from crystallize_opt.pipeline.seeding import SeedPlugin
from crystallize_opt.plain_data import source_digest
from crystallize_opt.search.callbacks import (
    RunStarted,
    TrialAsked,
    TrialCompleted,
    TrialStored,
    TrialTold,
)
from tests.recording.killed_runs import LOSS, SPACE, exactly
from tests.toy import PlainOptimizer, experiment_of, numbers, toy_experiment

Optimizer = SpaceOptimizer[Any]


def loss(data: Any, ctx: FrozenContext, *, x: float, rate: float) -> Any:
    return data, {"loss": x * x + rate + ctx["seed_used"] % 3, "drawn": random.random()}


def tpe(seed: int | None = 1, **options: Any) -> OptunaOptimizer:
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
    return OptunaOptimizer(SPACE, LOSS, seed=seed, sampler=sampler, **options)


def search(
    path: Path,
    optimizer: Any = None,
    trials: int = 8,
    experiment: Any = None,
    *,
    resume: Any = "exact",
    **options: Any,
) -> Any:
    optimizer = optimizer if optimizer is not None else tpe()
    experiment = experiment or experiment_of(loss, seed=3)
    storage = Storage(path, resume=resume)
    experiment.optimize(optimizer, trials, storage=storage, progress=False, **options)
    return optimizer


def told(optimizer: Optimizer) -> list[list[str]]:
    return [exactly(observation) for observation in optimizer.observations]


def interrupted_after(trials: int) -> Callable[..., Any]:
    """Return a step that raises KeyboardInterrupt in the trial after so many."""
    count = 0

    def step(data: Any, ctx: FrozenContext, *, x: float, rate: float) -> Any:
        nonlocal count
        count += 1
        if count > trials:
            raise KeyboardInterrupt
        return loss(data, ctx, x=x, rate=rate)

    return step


# Exactly ----------------------------------------------------------------------------------------


def test_num_trials_is_the_total_of_the_run(tmp_path: Path) -> None:
    whole = told(search(tmp_path / "whole.db", trials=15))
    for trials in (1, 6, 6, 3, 15):
        parts = told(search(tmp_path / "parts.db", trials=trials))

    assert parts == whole
    assert [exactly(o) for o in History.load(tmp_path / "parts.db")] == whole


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomOptimizer(SPACE, LOSS, seed=0),
        lambda: RandomOptimizer({"x": [1, 2], "rate": [1, 2]}, LOSS, seed=0),
        lambda: GridOptimizer({"x": (0.0, 1.0), "rate": [1, 2]}, LOSS, levels=4),
        lambda: OptunaOptimizer(SPACE, LOSS, seed=0),
        lambda: OptunaOptimizer({"x": (1, 3), "rate": [1, 2]}, LOSS, seed=0),
        lambda: OptunaOptimizer(SPACE, LOSS, sampler=optuna.samplers.NSGAIISampler(seed=1)),
        lambda: OptunaOptimizer(SPACE, [LOSS, Objective("drawn", "maximize")], seed=0),
        lambda: OptunaOptimizer(SPACE, LOSS, seed=0, constraints=[Constraint("drawn", "<=", 0.5)]),
        lambda: tpe(pruner=optuna.pruners.HyperbandPruner()),
    ],
)
def test_every_optimizer_goes_on(make: Callable[[], Optimizer], tmp_path: Path) -> None:
    whole = told(search(tmp_path / "whole.db", make(), 24, replicates_per_trial=2))

    search(tmp_path / "parts.db", make(), 9, replicates_per_trial=2)
    parts = told(search(tmp_path / "parts.db", make(), 24, replicates_per_trial=2))

    assert parts == whole
    assert len(whole) == 24 or ("finite" and len(whole) < 24)


def test_the_generators_of_tpe_are_put_back_instead_of_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = told(search(tmp_path / "whole.db", trials=20))
    search(tmp_path / "parts.db", trials=12)
    asked = 0
    sample = optuna.samplers.TPESampler.sample_relative

    def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return sample(*arguments)

    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_relative", counted)
    parts = told(search(tmp_path / "parts.db", trials=20))

    assert asked == 4 + 8  # the last four, to compare, and the new ones
    assert parts == whole


def test_with_other_versions_every_suggestion_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path / "runs.db", trials=12)
    ask, asked = optuna.samplers.TPESampler.sample_relative, 0

    def another(self: Any, *arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return {k: v * 0.99 for k, v in ask(self, *arguments).items() if k == "x"}

    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_relative", another)
    for module in ("recording.resume", "optimizers.space_optimizer"):
        monkeypatch.setattr(f"crystallize_opt.{module}.versions_of", lambda _: {"optuna": "9.9"})
    # The first suggestion of the model; with the stored state, trial_8 would be the first compared.
    with pytest.raises(ReplayDiverged, match=r"'trial_4'.*5\.\d\.\d.*9\.9") as caught:
        search(tmp_path / "runs.db", trials=20)

    assert asked == 5
    assert "resume='attach'" in caught.value.__notes__[0]
    assert len(History.load(tmp_path / "runs.db")) == 12


def test_a_running_trial_is_run_again_with_its_parameters_and_seeds(tmp_path: Path) -> None:
    whole = told(search(tmp_path / "whole.db"))
    path = tmp_path / "parts.db"
    first = search(path, experiment=experiment_of(named(interrupted_after(3)), seed=3))
    assert [o.status for o in first.observations][3:] == [Status.ABANDONED]
    assert [t.name for t in History.load(path).pending] == ["trial_3"]

    assert told(search(path, experiment=experiment_of(named(loss), seed=3))) == whole


def test_a_retried_trial_goes_on_with_the_replicates_of_its_last_attempt(tmp_path: Path) -> None:
    ran: list[int] = []

    def step(data: Any, ctx: FrozenContext, *, x: float, rate: float) -> Any:
        ran.append(ctx["replicate"])
        if len(ran) == 3:  # in the third replicate of the first attempt
            raise ValueError("once")
        if len(ran) == 6:  # in the third of the second one
            raise KeyboardInterrupt
        return data, {"loss": float(len(ran))}

    def run() -> Any:
        return search(
            tmp_path / "runs.db",
            tpe(pruner=optuna.pruners.ThresholdPruner(upper=1e9)),
            1,
            experiment_of(step, seed=3),
            replicates_per_trial=3,
            failures=Failures(retries=1),
        )

    with pytest.raises(KeyboardInterrupt):
        run()
    optimizer = run()

    assert ran == [0, 1, 2, 0, 1, 2, 2]
    assert [r["loss"] for r in optimizer.observations[0].replicates] == [4.0, 5.0, 7.0]


def named(function: Any) -> Any:
    """Let steps of other code pass for the same."""

    def step(data: Any, ctx: FrozenContext, *, x: float, rate: float) -> Any:
        return function(data, ctx, x=x, rate=rate)

    return step


def test_the_same_optimizer_goes_on_where_it_is(tmp_path: Path) -> None:
    whole = told(search(tmp_path / "whole.db", trials=12))
    optimizer = tpe()
    for trials in (5, 5, 12):
        search(tmp_path / "parts.db", optimizer, trials)

    assert told(optimizer) == whole
    assert told(search(tmp_path / "parts.db", trials=12)) == whole


def test_the_same_optimizer_goes_on_after_an_interruption(tmp_path: Path) -> None:
    path, optimizer = tmp_path / "runs.db", tpe()
    search(path, optimizer, experiment=experiment_of(named(interrupted_after(3)), seed=3))
    search(path, optimizer, 6, experiment=experiment_of(named(loss), seed=3))

    assert [o.status.value for o in optimizer.observations] == [
        *["completed"] * 3,
        "abandoned",
        *["completed"] * 2,
    ]
    fresh = search(path, trials=6, experiment=experiment_of(named(loss), seed=3))
    assert told(fresh) == told(optimizer)


def test_an_optimizer_used_for_something_else_is_refused(tmp_path: Path) -> None:
    search(tmp_path / "runs.db")
    other = tpe(2)
    other.ask()

    with pytest.raises(RunChanged):
        search(tmp_path / "runs.db", other)
    other = tpe()
    other.attach(Observation(Treatment("own", SPACE.sample(1)), {"loss": 1.0}))
    with pytest.raises(UsageError, match=r"Build a fresh one"):
        search(tmp_path / "runs.db", other)


def test_what_an_optimizer_knew_before_is_part_of_the_run(tmp_path: Path) -> None:
    def warm(scale: float = 0.5) -> OptunaOptimizer:
        optimizer = tpe()
        for number in range(5):
            point, loss = SPACE.sample(number), number * scale
            optimizer.attach(Observation(Treatment(f"own {number}", point), {"loss": loss}))
        optimizer.ask()
        optimizer.tell({"loss": 1.0})
        optimizer.ask()  # Whoever asked for it may tell it later.
        return optimizer

    whole = search(tmp_path / "whole.db", warm(), 9)
    search(tmp_path / "parts.db", warm(), 4)
    parts = search(tmp_path / "parts.db", warm(), 9)
    fresh = search(tmp_path / "parts.db", tpe(), 9)

    assert told(parts) == told(whole) == told(fresh)
    assert len(whole.observations) == 5 + 1 + 9
    assert [t.name for t in fresh.pending] == ["trial_6"]
    with pytest.raises(UsageError, match=r"not in the run.*own 1"):
        search(tmp_path / "parts.db", warm(0.25), 12)


def test_without_a_seed_an_exact_resume_is_refused_unless_it_is_one(tmp_path: Path) -> None:
    def unseeded() -> RandomOptimizer:
        return RandomOptimizer(SPACE, LOSS)

    search(tmp_path / "runs.db", unseeded(), 4)
    with pytest.raises(ReplayDiverged, match="'trial_0'") as caught:
        search(tmp_path / "runs.db", unseeded(), 8)
    assert "was given no seed" in caught.value.__notes__[0]

    found = search(tmp_path / "runs.db", unseeded(), 8, resume="attach")
    assert len(found.observations) == 8

    grid = [GridOptimizer({"x": (0.0, 1.0), "rate": [1, 2]}, LOSS) for _ in range(2)]
    search(tmp_path / "grid.db", grid[0], 4)
    assert len(search(tmp_path / "grid.db", grid[1], 8).observations) == 8


def test_an_experiment_without_a_seed_keeps_the_one_it_drew(tmp_path: Path) -> None:
    seeds = []
    for trials in (3, 6):
        experiment = experiment_of(loss)
        optimizer = search(tmp_path / "runs.db", trials=trials, experiment=experiment)
        seeds.append(next(p.seed for p in experiment.plugins if isinstance(p, SeedPlugin)))

    assert seeds[0] == seeds[1]
    assert {r.seed for o in optimizer.observations for r in o.replicates} == {seeds[0]}


def test_a_parallel_run_goes_on_in_its_recorded_order(tmp_path: Path) -> None:
    options = {"workers": Workers("threads", 3)}
    first = search(tmp_path / "runs.db", trials=10, **options)
    second = search(tmp_path / "runs.db", trials=20, **options)
    third = search(tmp_path / "runs.db", trials=20)

    assert told(second)[:10] == told(first)
    assert told(third) == told(second)
    assert len(told(second)) == 20


def test_batches_go_on(tmp_path: Path) -> None:
    options = {"workers": Workers("threads", 3, batch=True)}
    search(tmp_path / "runs.db", trials=6, **options)
    optimizer = search(tmp_path / "runs.db", trials=12, **options)

    assert [len(e.treatments) for e in optimizer.events if hasattr(e, "treatments")] == [3] * 4
    assert told(search(tmp_path / "runs.db", trials=12)) == told(optimizer)


def test_aoptimize_stores_too(tmp_path: Path) -> None:
    async def run(trials: int) -> OptunaOptimizer:
        optimizer = tpe()
        await experiment_of(loss, seed=3).aoptimize(optimizer, trials, storage=tmp_path / "a.db")
        return optimizer

    asyncio.run(run(4))
    assert told(asyncio.run(run(8))) == told(search(tmp_path / "b.db"))


# What the rest of the search sees ---------------------------------------------------------------


def test_events_of_a_run_that_goes_on(tmp_path: Path) -> None:
    events: list[Any] = []
    search(tmp_path / "runs.db", trials=3)
    optimizer = search(tmp_path / "runs.db", trials=4, callbacks=[events.append])

    assert isinstance(events[0], RunStarted)
    assert list(events[0].resumed) == optimizer.observations[:3]
    names = [type(event) for event in events[1:-1]]
    assert names.index(TrialAsked) < names.index(TrialStored) < names.index(TrialCompleted)
    assert names.index(TrialCompleted) < names.index(TrialTold)
    assert names.count(TrialStored) == 1


def test_the_progress_bar_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search(tmp_path / "runs.db", trials=3)
    experiment_of(loss, seed=3).optimize(tpe(), 4, storage=tmp_path / "runs.db", progress=True)

    assert "4/4" in capsys.readouterr().err


def test_stop_conditions_know_the_trials_before(tmp_path: Path) -> None:
    search(tmp_path / "runs.db", trials=5)
    since_best = 4 - min(
        range(5), key=[o["loss"] for o in History.load(tmp_path / "runs.db")].__getitem__
    )
    assert since_best > 0
    for stop in (
        TargetValue(1e9),
        NoImprovement(since_best),
        lambda state: len(state.observations) >= 5,
    ):
        optimizer = search(tmp_path / "runs.db", trials=9, stop=stop)
        assert len(optimizer.observations) == 5


def test_the_plugins_get_the_metrics_of_all_trials(tmp_path: Path) -> None:
    results = []

    class Kept(SeedPlugin):
        def after_run(self, experiment: Experiment, result: Any) -> None:
            results.append(result)

    for trials in (3, 5):
        experiment = experiment_of(loss, plugins=[Kept(3)])
        search(tmp_path / "runs.db", trials=trials, experiment=experiment, replicates_per_trial=2)

    assert list(results[1].metrics.treatments) == [f"trial_{i}" for i in range(5)]
    for name in ("trial_0", "trial_1", "trial_2"):
        one, other = (result.metrics.treatments[name].metrics for result in results)
        assert one["loss"] == other["loss"]


def test_failures_before_count_as_failures(tmp_path: Path) -> None:
    def fail(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        raise ValueError("no")

    def run(trials: int, **options: Any) -> None:
        search(
            tmp_path / "runs.db", experiment=experiment_of(fail, seed=0), trials=trials, **options
        )

    with pytest.raises(TrialsFailedError, match="first 4 trials"):
        run(10, failures=Failures(give_up_after=4))
    with pytest.raises(TrialsFailedError, match="first 5 trials"):
        run(10, failures=Failures(give_up_after=4))
    observations = History.load(tmp_path / "runs.db").observations
    assert len(observations) == 5
    assert "ValueError: no" in str(observations[0].error)
    assert 'raise ValueError("no")' in str(observations[0].traceback)


# Changed ----------------------------------------------------------------------------------------


@pipeline_step()
def one(data: Any, ctx: FrozenContext, *, x: float, rate: float, power: int = 2) -> Any:
    return data, {"loss": x**power + rate}


@pipeline_step()
def another(data: Any, ctx: FrozenContext, *, x: float, rate: float, power: int = 2) -> Any:
    return data, {"loss": x**power - rate}


def piped(*steps: Any, **options: Any) -> Experiment:
    return Experiment(numbers(), Pipeline(list(steps)), **{"seed": 3, **options})


FLOAT = {"x": (0.0, 1.0), "rate": (0.0, 1.0)}


def rand(
    space: Any = FLOAT, objective: Any = LOSS, seed: int | None = 0, **options: Any
) -> Optimizer:
    return RandomOptimizer(space, objective, seed=seed, **options)


@pytest.mark.parametrize(
    ("optimizer", "experiment", "options", "said"),
    [
        (lambda: rand({**FLOAT, "x": (0.0, 2.0)}), None, {}, r"space of x: Float\(low=0.0, high=1"),
        (lambda: rand({**FLOAT, "y": (0.0, 2.0)}), None, {}, "space of y: nothing became Float"),
        (lambda: rand({"x": (0.0, 1.0), "rate": ["a"]}), None, {}, "rate: Float.* became Categor"),
        (lambda: rand({"rate": (0.0, 1.0), "x": (0.0, 1.0)}), None, {}, "order of the parameters"),
        (lambda: rand(objective=Objective("loss", "maximize")), None, {}, "objectives.*'maximize'"),
        (lambda: rand(constraints=[Constraint("loss", "<=", 1)]), None, {}, "constraints"),
        (lambda: rand(seed=1), None, {}, "optimizer.seed: 0 became 1"),
        (lambda: rand(seed=None), None, {}, "optimizer.seed: 0 became None"),
        (lambda: rand(duplicates=True), None, {}, "settings.duplicates: False became True"),
        (lambda: GridOptimizer(FLOAT, LOSS, seed=0), None, {}, "optimizer.class: .*GridOptimizer"),
        (rand, lambda: piped(one(), seed=4), {}, "experiment.seed: 3 became 4"),
        (rand, lambda: piped(one(power=3)), {}, "params.power: nothing became 3"),
        (rand, lambda: piped(one(), one()), {}, "pipeline"),
        (rand, lambda: piped(another()), {}, r"pipeline\[0\].*its code has changed"),
        (rand, lambda: piped(one(), initial_ctx={"a": 1}), {}, "initial_ctx.a: nothing became 1"),
        (rand, None, {"replicates_per_trial": 2}, "replicates_per_trial: 1 became 2"),
    ],
)
def test_what_has_changed_is_said(
    optimizer: Callable[[], Optimizer],
    experiment: Callable[[], Experiment] | None,
    options: dict[str, Any],
    said: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    search(path, rand(), 3, piped(one()))
    before = path.read_bytes()

    made = (experiment or (lambda: piped(one())))()
    with pytest.raises(RunChanged, match=said):
        search(path, optimizer(), 6, made, **options)

    assert path.read_bytes() == before
    assert len(search(path, rand(), 6, piped(one())).observations) == 6


def test_settings_of_samplers_and_functions_are_compared(tmp_path: Path) -> None:
    def one(space: Any, seed: int) -> Any:
        return {"x": random.random(), "rate": 0.5}

    def other(space: Any, seed: int) -> Any:
        return {"x": random.random(), "rate": 0.25}

    search(tmp_path / "a.db", rand(sampler=one), 3)
    with pytest.raises(RunChanged, match="sampler"):
        search(tmp_path / "a.db", rand(sampler=other), 6)
    search(tmp_path / "b.db")
    sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=5)
    with pytest.raises(RunChanged, match="_n_startup_trials: 4 became 5"):
        search(tmp_path / "b.db", OptunaOptimizer(SPACE, LOSS, seed=1, sampler=sampler))


def test_comments_and_layout_of_the_code_may_change(tmp_path: Path) -> None:
    folder = tmp_path / "modules"
    folder.mkdir()
    sources = ["def f(x):\n    return x + 1\n", "def f(x):\n    # why\n    return (x+1)\n"]
    digests = []
    for number, source in enumerate([*sources, "def f(x):\n    return x + 2\n"]):
        file = folder / f"module_{number}.py"
        file.write_text(source, encoding="utf-8")
        namespace: dict[str, Any] = {}
        exec(compile(source, str(file), "exec"), namespace)  # noqa: S102
        digests.append(source_digest(namespace["f"]))

    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5,), "storage= takes the path of a file, not 5"),
        ((":memory:",), "storage=':memory:' keeps nothing"),
        (("",), "storage='' keeps nothing"),
        (("x.db", ""), "run= is the name of a run, not ''"),
        (("x.db", None, "maybe"), "resume= is 'exact' or 'attach', not 'maybe'"),
    ],
)
def test_a_storage_is_checked(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Storage(*arguments)


def test_a_short_form_of_a_storage_is_checked() -> None:
    wrong: Any = 5
    with pytest.raises(UsageError, match="storage= takes the path of a file, not 5"):
        toy_experiment().optimize(rand(), 1, storage=wrong)


# From the data ----------------------------------------------------------------------------------


def test_attach_goes_on_from_the_data_with_other_settings(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    first = search(path, rand(), 5, piped(one()))
    second = search(
        path, rand({**FLOAT, "x": (0.0, 2.0)}, seed=5), 9, piped(another()), resume="attach"
    )

    assert told(second)[:5] == told(first)
    assert [o.treatment.name for o in second.observations] == [f"trial_{i}" for i in range(9)]
    history = History.load(path)
    assert [exactly(o) for o in history] == told(second)
    assert history.space == second.space

    # From there it goes on exactly again.
    same = rand({**FLOAT, "x": (0.0, 2.0)}, seed=5)
    assert told(search(path, same, 9, piped(another()))) == told(second)


def test_attach_gives_up_what_the_other_optimizer_had_running(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(path, experiment=experiment_of(named(interrupted_after(3)), seed=3))
    found = search(path, rand(SPACE), 8, resume="attach")

    assert [o.status for o in found.observations][3] is Status.ABANDONED
    assert len(found.observations) == 8
    assert History.load(path).pending == []


def test_attach_refuses_what_is_outside_of_the_space(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(path, rand(), 5, piped(one()))
    before = path.read_bytes()
    with pytest.raises(InvalidParametersError, match="Cannot attach 'trial_"):
        search(path, rand({**FLOAT, "x": (2.0, 3.0)}), 9, piped(one()), resume="attach")
    used = rand()
    used.ask()
    with pytest.raises(UsageError, match="has been used"):
        search(path, used, 9, piped(one()), resume="attach")

    assert path.read_bytes() == before


def test_attach_begins_a_run_that_is_not_there(tmp_path: Path) -> None:
    assert len(search(tmp_path / "runs.db", trials=3, resume="attach").observations) == 3


# Plain optimizers -------------------------------------------------------------------------------


class Batches(BaseOptimizer):
    """Asks for several at once, draws from a generator, and knows nothing but the protocol."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(Objective("sum", "minimize"))
        self.rng = random.Random(seed)
        self.told: list[float] = []

    def ask(self) -> list[Treatment]:
        shift = min(self.told, default=0.0)
        return [Treatment("one of them", {"delta": self.rng.random() + shift}) for _ in range(3)]

    async def tell(self, objective_values: Any) -> None:  # type: ignore[override]
        self.told.append(objective_values["sum"])

    def get_best_treatment(self) -> Treatment:
        return Treatment("best", {"delta": min(self.told)})


@pytest.mark.parametrize("die_after", [0, 1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_plain_optimizer_goes_on(die_after: int, workers: int, tmp_path: Path) -> None:
    whole = search(tmp_path / "whole.db", Batches(), 9, toy_experiment(seed=0)).told
    options: dict[str, Any] = {}
    if workers > 1:
        options = {"workers": Workers("threads", workers)}
    stored = 0

    def die(event: Any) -> None:
        nonlocal stored
        if isinstance(event, TrialStored):
            stored += 1
            if stored == die_after:
                raise KeyboardInterrupt

    if die_after:
        with pytest.raises(KeyboardInterrupt):
            search(
                tmp_path / "parts.db",
                Batches(),
                9,
                toy_experiment(seed=0),
                callbacks=[die],
                **options,
            )
        assert len(History.load(tmp_path / "parts.db")) >= die_after
    parts = search(tmp_path / "parts.db", Batches(), 9, toy_experiment(seed=0), **options)

    assert parts.told == whole
    assert len(History.load(tmp_path / "parts.db")) == 9


def test_what_a_plain_optimizer_was_not_told_counts_as_finished(tmp_path: Path) -> None:
    died = False

    async def step(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        nonlocal died
        if ctx["condition"] == "trial_0":
            if not died:  # when the other one is stored
                while not (died or stored):
                    await asyncio.sleep(0)
                died = True
                raise KeyboardInterrupt
            raise ValueError("it fails when it is run again")
        return data, {"sum": delta}

    stored: list[TrialStored] = []

    class Both(PlainOptimizer):
        def ask(self) -> list[Treatment]:
            return self.treatments

    async def run(**options: Any) -> Any:
        optimizer = Both([1.0, 2.0])
        experiment = experiment_of(step, seed=0)
        await experiment.aoptimize(optimizer, 2, storage=tmp_path / "runs.db", **options)
        return optimizer

    def note(event: Any) -> None:
        stored.extend([event] if isinstance(event, TrialStored) else [])

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(run(workers=Workers(None, 2), callbacks=[note]))
    assert [o.treatment.name for o in History.load(tmp_path / "runs.db")] == ["trial_1"]

    found = asyncio.run(run())  # does not say that no trial completed
    assert [dict(told) for told in found.told] == [{"sum": math.inf}, {"sum": 2.0}]
    assert found.get_best_treatment().name == "trial_1"


def test_a_search_is_stored_within_a_running_event_loop(tmp_path: Path) -> None:
    async def run(trials: int) -> Any:
        return search(tmp_path / "runs.db", trials=trials)

    asyncio.run(run(4))
    assert told(asyncio.run(run(8))) == told(search(tmp_path / "other.db"))


def test_a_plain_optimizer_that_diverges_is_refused(tmp_path: Path) -> None:
    search(tmp_path / "runs.db", PlainOptimizer([1.0, 2.0, 3.0]), 2, toy_experiment(seed=0))
    other = PlainOptimizer([1.0, 2.5, 3.0])
    with pytest.raises(ReplayDiverged, match=r"'trial_1'.*2\.0.*2\.5"):
        search(tmp_path / "runs.db", other, 3, toy_experiment(seed=0))

    good = PlainOptimizer([1.0, 2.0, 3.0])
    search(tmp_path / "runs.db", good, 3, toy_experiment(seed=0))
    assert [dict(t) for t in good.told] == [{"sum": 9.0}, {"sum": 12.0}, {"sum": 15.0}]


def test_an_observation_is_stored_before_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    class Looks(RandomOptimizer):
        def tell(self, objective_values: Any) -> None:
            told = {o.treatment.name for o in History.load(path)}
            assert objective_values.treatment.name in told
            super().tell(objective_values)

    assert len(search(path, Looks(SPACE, LOSS, seed=0), 3).observations) == 3


def test_the_replicates_are_stored(tmp_path: Path) -> None:
    found = search(tmp_path / "runs.db", trials=2, replicates_per_trial=3)
    read = History.load(tmp_path / "runs.db")

    for observation, stored in zip(found.observations, read, strict=True):
        assert [dataclasses.astuple(r) for r in stored.replicates] == [
            dataclasses.astuple(r) for r in observation.replicates
        ]
        assert stored.sem == observation.sem
