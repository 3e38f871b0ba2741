"""`SMACOptimizer(race=True)`: SMAC decides which configuration runs a further replicate."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from smac import (
    BlackBoxFacade,
    HyperparameterOptimizationFacade,
    MultiFidelityFacade,
    RandomFacade,
    Scenario,
)
from smac.acquisition.maximizer import LocalAndSortedRandomSearch
from smac.facade.abstract_facade import AbstractFacade
from smac.runhistory import StatusType, TrialValue

from crystallize_opt import (
    Adaptive,
    Experiment,
    Failures,
    FrozenContext,
    History,
    Integer,
    Objective,
    Observation,
    Replicate,
    SearchSpace,
    Status,
    Treatment,
    Workers,
)
from crystallize_opt.adapters import RandomOptimizer, SMACOptimizer
from crystallize_opt.errors import UsageError
from crystallize_opt.trials.treatment import RacedReplicate
from tests.adapters.smac.native import LOSS, MIXED, SQUARE, NativeSpace, SortedLocalSearch
from tests.adapters.smac.test_interruption import Interrupts
from tests.recording.killed_runs import exactly
from tests.toy import experiment_of

Run = tuple[dict[str, Any], int]


def noisy(point: Mapping[str, Any], replicate: int) -> float:
    return float((point["x"] - 0.3) ** 2 + random.Random(f"{point} {replicate}").gauss(0, 0.1))


def native(kind: Any, seed: int, runs: int, calls: int, n_trials: int) -> tuple[list[Run], Any]:
    """Return the runs of SMAC's own loop, and its incumbent."""
    space = NativeSpace(SearchSpace(SQUARE))
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            space.configspace,
            output_directory=Path(folder),
            deterministic=False,
            n_trials=n_trials,
            seed=seed,
        )
        maximizer = kind.get_acquisition_maximizer(scenario)
        if isinstance(maximizer, LocalAndSortedRandomSearch):
            maximizer._local_search.__class__ = SortedLocalSearch
        facade: AbstractFacade = kind(
            scenario,
            None,
            acquisition_maximizer=maximizer,
            intensifier=kind.get_intensifier(scenario, max_config_calls=calls),
            config_selector=kind.get_config_selector(scenario, retrain_after=1),
            logging_level=False,
            overwrite=True,
        )
        found: list[Run] = []
        seeds: list[int | None] = []
        for _ in range(runs):
            info = facade.ask()
            seeds += [info.seed] if info.seed not in seeds else []
            point = {name: float(value) for name, value in dict(info.config).items()}
            replicate = seeds.index(info.seed)
            found.append((point, replicate))
            facade.tell(info, TrialValue(noisy(point, replicate)), save=False)
        return found, dict(facade.intensifier.get_incumbent() or {})


def by_hand(optimizer: SMACOptimizer, runs: int) -> list[Run]:
    found: list[Run] = []
    for _ in range(runs):
        (treatment,) = optimizer.ask()
        assert isinstance(treatment, RacedReplicate)
        point = dict(treatment.params)
        found.append((point, treatment.replicate))
        optimizer.tell({"loss": noisy(point, treatment.replicate)})
    return found


def race(seed: int = 0, **options: Any) -> SMACOptimizer:
    options = {"facade": RandomFacade, "race": True, **options}
    return SMACOptimizer(SQUARE, LOSS, seed=seed, **options)


def step(data: Any, ctx: FrozenContext, *, x: float, y: float) -> Any:
    return data, {"loss": noisy({"x": x, "y": y}, ctx["replicate"])}


def search(
    optimizer: SMACOptimizer, runs: int = 40, replicates: Any = 5, **settings: Any
) -> Experiment:
    experiment = experiment_of(step, seed=0)
    experiment.optimize(optimizer, runs, replicates, progress=False, **settings)
    return experiment


@pytest.mark.parametrize(
    ("kind", "runs", "n_trials"),
    [
        (RandomFacade, 40, 40),
        (HyperparameterOptimizationFacade, 25, 40),  # the initial design only
        pytest.param(HyperparameterOptimizationFacade, 20, 12, marks=pytest.mark.slow),
        pytest.param(BlackBoxFacade, 16, 12, marks=pytest.mark.slow),
    ],
)
def test_runs_and_the_best_are_those_of_smacs_own_loop(
    kind: type[AbstractFacade], runs: int, n_trials: int
) -> None:
    expected, incumbent = native(kind, 1, runs, 5, n_trials)
    optimizer = race(1, facade=kind, race=5, n_trials=n_trials)

    assert by_hand(optimizer, runs) == expected
    assert len({replicate for _, replicate in expected}) > 2
    assert dict(optimizer.get_best_treatment().params) == pytest.approx(incumbent)
    assert max(Counter(repr(point) for point, _ in expected).values()) <= 5


def test_a_search_runs_each_replicate_with_the_seed_it_has_in_all_trials() -> None:
    optimizer = race()
    experiment = search(optimizer)
    observations = optimizer.observations

    assert sum(len(each.replicates) for each in observations) == 40
    points = [repr(each.params) for each in observations]
    assert len(set(points)) == len(points)  # One observation for each configuration.
    counts = [len(each.replicates) for each in observations]
    assert max(counts) == 5
    assert counts.count(1) > len(counts) / 2
    for each in observations:
        assert isinstance(each.treatment, Treatment)
        assert not isinstance(each.treatment, RacedReplicate)
        assert [r.index for r in each.replicates] == list(range(len(each.replicates)))
        assert [r.seed for r in each.replicates] == [
            experiment.seed_plugin.seed_of(r.index) for r in each.replicates
        ]
        assert each["loss"] == pytest.approx(
            sum(noisy(each.params, r.index) for r in each.replicates) / len(each.replicates)
        )


def test_choices_and_conditions_race(tmp_path: Path) -> None:
    def loss(data: Any, ctx: FrozenContext, *, x: float, kind: Any) -> Any:
        ctx.as_dict()
        return data, {"loss": x + (kind == "a") + random.Random(f"{x} {ctx['replicate']}").gauss()}

    def run(trials: int) -> SMACOptimizer:
        optimizer = SMACOptimizer(MIXED, LOSS, seed=3, facade=RandomFacade, race=True)
        experiment_of(loss, seed=0).optimize(
            optimizer, trials, 4, storage=tmp_path / "runs.db", progress=False
        )
        return optimizer

    run(15)
    optimizer = run(40)
    points = [repr(each.params) for each in optimizer.observations]

    assert len(set(points)) == len(points)
    assert sum(len(each.replicates) for each in optimizer.observations) == 40
    assert list(map(exactly, History.load(tmp_path / "runs.db", space=MIXED))) == list(
        map(exactly, optimizer.observations)
    )


def test_a_lucky_trial_with_few_replicates_is_not_the_best() -> None:
    optimizer = race(race=3)
    for loss in (0.0, 0.5, 0.5, 1.0):
        (treatment,) = optimizer.ask()
        optimizer.tell({"loss": loss})
    del treatment
    counts = {each.treatment.name: len(each.replicates) for each in optimizer.observations}
    best = optimizer.history.best
    assert best is not None
    assert len(best.replicates) == max(counts.values()) > 1
    assert optimizer.get_best_treatment() is best.treatment


@pytest.mark.parametrize(
    "workers",
    [Workers("threads", 4), pytest.param(Workers("processes", 2), marks=pytest.mark.slow)],
)
def test_parallel_workers_race(workers: Workers) -> None:
    optimizer = race()
    search(optimizer, workers=workers)

    assert sum(len(each.replicates) for each in optimizer.observations) == 40
    assert {each.status for each in optimizer.observations} == {Status.COMPLETED}
    assert optimizer.facade.runhistory.finished == 40


def test_a_race_resumes_exactly_and_its_file_has_one_observation_for_a_configuration(
    tmp_path: Path,
) -> None:
    whole = race()
    search(whole, storage=tmp_path / "whole.db")
    for runs in (7, 20, 40):
        parts = race()
        search(parts, runs, storage=tmp_path / "parts.db")
    expected = list(map(exactly, whole.observations))

    assert list(map(exactly, parts.observations)) == expected
    history = History.load(tmp_path / "parts.db")
    assert list(map(exactly, history)) == expected
    assert history.best is not None
    assert history.best.treatment.name == whole.get_best_treatment().name
    assert len(set(history.to_frame()["replicates"])) > 1
    again = race(race=5)
    again.replay(whole.events)
    assert list(map(exactly, again.observations)) == expected

    other = RandomOptimizer(SQUARE, LOSS, seed=0)
    search_of_another(other, tmp_path / "parts.db")
    assert list(map(exactly, other.observations[: len(expected)])) == expected
    assert other.history.best is not None


def test_an_exported_study_grows_with_the_race() -> None:
    optuna = pytest.importorskip("optuna")
    from crystallize_opt.adapters.optuna import study_of

    optimizer, storage = race(race=5), optuna.storages.InMemoryStorage()
    for _ in range(3):
        by_hand(optimizer, 8)
        study = study_of(optimizer.history, storage=storage, study_name="race")
        best = optimizer.history.best
        assert best is not None
        assert study.best_trial.params == dict(best.params)
        assert len(study.trials) == len(optimizer.history)


def search_of_another(optimizer: RandomOptimizer, path: Path) -> None:
    from crystallize_opt import Storage

    experiment_of(step, seed=0).optimize(
        optimizer, 41, 5, storage=Storage(path, resume="attach"), progress=False
    )


def test_a_failed_replicate_fails_its_trial_and_ends_its_race() -> None:
    optimizer = race(race=5)
    first = True
    for _ in range(30):
        (treatment,) = optimizer.ask()
        assert isinstance(treatment, RacedReplicate)
        if first or (treatment.replicate == 2 and treatment.params["x"] > 0.5):
            optimizer.tell(Observation(treatment, status=Status.FAILED, error="boom"))
            if first:  # SMAC hears of it when there is a value that it can be worse than.
                statuses = {value.status for value in optimizer.facade.runhistory.values()}
                assert StatusType.CRASHED not in statuses
            first = False
        else:
            optimizer.tell({"loss": noisy(treatment.params, treatment.replicate)})
    failed = [each for each in optimizer.observations if each.status is Status.FAILED]

    assert failed
    best = optimizer.get_best_treatment()
    assert best.name not in {each.treatment.name for each in failed}
    incumbent = optimizer.facade.intensifier.get_incumbent()
    assert incumbent is not None
    assert dict(best.params) == pytest.approx(dict(incumbent))
    # Also the first failure, before which nothing was measured, costs more than any success.
    costs: dict[bool, list[float]] = {True: [], False: []}
    for value in optimizer.facade.runhistory.values():
        assert not isinstance(value.cost, list)
        costs[value.status is StatusType.SUCCESS].append(value.cost)
    assert len(costs[False]) == len(failed)
    assert min(costs[False]) > max(costs[True])


def test_an_abandoned_replicate_may_be_asked_for_again() -> None:
    optimizer = race(race=4)
    by_hand(optimizer, 5)
    (given_up,) = optimizer.ask()
    assert isinstance(given_up, RacedReplicate)
    optimizer.tell(Observation(given_up, status=Status.ABANDONED))
    runs = by_hand(optimizer, 12)

    assert (dict(given_up.params), given_up.replicate) in runs
    statuses = {each.treatment.name: each.status for each in optimizer.observations}
    assert statuses[given_up.condition] is Status.COMPLETED
    assert optimizer.facade.runhistory.finished == 17


def test_enqueued_and_attached_trials_race() -> None:
    optimizer = race(race=4)
    replicates = [Replicate(r, r, {"loss": noisy({"x": 0.3, "y": 0.5}, r)}) for r in range(2)]
    attached = Treatment("known", {"x": 0.3, "y": 0.5})
    optimizer.attach(Observation.of_replicates(attached, replicates))
    optimizer.enqueue({"x": 0.31, "y": 0.5})
    runs = by_hand(optimizer, 30)

    assert runs[0] == ({"x": 0.31, "y": 0.5}, 0)
    assert ({"x": 0.3, "y": 0.5}, 2) in runs  # It has the first two replicates already.
    assert ({"x": 0.3, "y": 0.5}, 0) not in runs
    assert len(optimizer.history["known"].replicates) > 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"facade": MultiFidelityFacade}, "takes a fidelity|cannot race|budget"),
        ({"race": 1}, "race= is a whole number, at least 2"),
    ],
)
def test_what_cannot_race_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        race(**options)


def test_a_fidelity_and_several_objectives_are_refused() -> None:
    with pytest.raises(UsageError, match=r"fidelity 'epochs'.*not both"):
        SMACOptimizer({**SQUARE, "epochs": Integer(1, 9, fidelity=True)}, LOSS, race=True)
    with pytest.raises(UsageError, match="one objective"):
        SMACOptimizer(SQUARE, [LOSS, Objective("cost", "minimize")], race=True)


@pytest.mark.parametrize(
    ("optimizer", "replicates", "settings", "why"),
    [
        (lambda: race(), 1, {}, r"needs replicates_per_trial= of 2 or more"),
        (lambda: race(race=4), 5, {}, "races up to 4 replicates"),
        (lambda: race(), Adaptive(2, 5), {}, r"replicates_per_trial=5, instead of"),
        (lambda: race(), 5, {"failures": Failures(min_share=0.5)}, "Leave out Failures"),
    ],
)
def test_settings_that_do_not_fit_a_race_are_refused(
    optimizer: Any, replicates: Any, settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        search(optimizer(), 10, replicates, **settings)


def test_an_interrupted_ask_does_not_end_the_race() -> None:
    found = []
    for at in (5, 10**9):
        optimizer = race(race=4, facade_options={"random_design": Interrupts(at)})
        replicates = [Replicate(r, r, {"loss": 0.1 * r}) for r in range(3)]
        optimizer.attach(
            Observation.of_replicates(Treatment("known", {"x": 0.3, "y": 0.5}), replicates)
        )
        interrupted = 0
        for number in range(16):
            try:
                (treatment,) = optimizer.ask()
            except KeyboardInterrupt:
                interrupted += 1
                (treatment,) = optimizer.ask()
            assert isinstance(treatment, RacedReplicate)
            loss = {"loss": noisy(treatment.params, treatment.replicate)}
            statuses = {3: Status.ABANDONED, 6: Status.FAILED}
            status = statuses.get(number, Status.COMPLETED)
            optimizer.tell(Observation(treatment, loss, status))
        assert interrupted == (at == 5)
        found.append(list(map(exactly, optimizer.observations)))

    assert found[0] == found[1]
