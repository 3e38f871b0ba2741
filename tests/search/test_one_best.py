"""Which trial is the best: optimizer, histories, stop conditions, bar and study say the same."""

from __future__ import annotations

import contextlib
import io
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tqdm import tqdm

from crystallize_opt import (
    Constraint,
    FrozenContext,
    History,
    Integer,
    Objective,
    Observation,
    SearchState,
    SpaceOptimizer,
    Status,
    Treatment,
)
from crystallize_opt.adapters import RandomOptimizer, SMACOptimizer
from crystallize_opt.adapters.optuna.export import study_of
from crystallize_opt.errors import NoCompletedTrialError
from crystallize_opt.trials.best import ENOUGH
from tests.toy import experiment_of

LOSS, GAIN = Objective("loss", "minimize"), Objective("gain", "maximize")
LAG = Constraint("lag", "<=", 0.5)
SQUARE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
KINDS = ["constrained", "several objectives", "fidelity"]


def make(kind: str) -> SpaceOptimizer[Any]:
    if kind == "constrained":
        return RandomOptimizer(SQUARE, LOSS, constraints=[LAG], seed=0)
    if kind == "several objectives":
        return RandomOptimizer(SQUARE, [LOSS, GAIN], constraints=[LAG], seed=0)
    space = {**SQUARE, "epochs": Integer(1, 9, fidelity=True)}
    optimizer = SMACOptimizer(space, LOSS, seed=0, facade=multi_fidelity())
    assert isinstance(optimizer, SpaceOptimizer)
    return optimizer


def multi_fidelity() -> Any:
    SMACOptimizer(SQUARE, LOSS, seed=0)  # Imports SMAC without its warnings.
    from smac import MultiFidelityFacade

    return MultiFidelityFacade


def measure(
    data: Any, ctx: FrozenContext, *, x: float, y: float, epochs: int = 0
) -> tuple[Any, dict[str, float]]:
    """The lowest losses violate the constraint, have the lowest gain, and the fewest epochs."""
    return data, {"loss": (x - 0.3) ** 2 + 0.1 * epochs, "gain": x - y, "lag": 1.1 - x}


@dataclass
class Search:
    """A search that has ended, and what was said of its best on the way."""

    optimizer: SpaceOptimizer[Any]
    returned: str
    loaded: History
    bar: str
    at_each_ask: list[tuple[str | None, str | None]]


def best_of(optimizer: SpaceOptimizer[Any]) -> str | None:
    """The name of the best treatment."""
    try:
        return optimizer.get_best_treatment().name
    except NoCompletedTrialError:
        return None


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Search]:
    return {kind: search(kind, tmp_path_factory.mktemp("runs") / "runs.db") for kind in KINDS}


def search(kind: str, path: Path) -> Search:
    optimizer = make(kind)
    at_each_ask: list[tuple[str | None, str | None]] = []

    def look(state: SearchState) -> None:
        seen = state.best
        at_each_ask.append((None if seen is None else seen.treatment.name, best_of(optimizer)))

    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        returned = experiment_of(measure, seed=0).optimize(
            optimizer, 30, stop=look, storage=path, progress=True
        )
    bar = shown.getvalue().split("\r")[-1]
    return Search(optimizer, returned.name, History.load(path), bar, at_each_ask)


def test_the_searches_tell_apart_what_could_be_the_best(searches: dict[str, Search]) -> None:
    """The lowest loss of all is nowhere the best, or the other tests would say nothing."""
    for kind, found in searches.items():
        lowest = min(found.optimizer.observations, key=lambda o: o["loss"])
        assert lowest.treatment.name != found.returned, kind
        assert found.returned == best_of(found.optimizer), kind
    epochs = {
        observation.treatment.name: observation.treatment.params["epochs"]
        for observation in searches["fidelity"].optimizer.observations
    }
    assert epochs[searches["fidelity"].returned] == max(epochs.values()) > min(epochs.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_history_of_the_optimizer_has_the_best(kind: str, searches: dict[str, Search]) -> None:
    best = searches[kind].optimizer.history.best

    assert best is not None
    assert best.treatment.name == searches[kind].returned


@pytest.mark.parametrize("kind", KINDS)
def test_the_stored_run_has_the_best(kind: str, searches: dict[str, Search]) -> None:
    best = searches[kind].loaded.best

    assert best is not None
    assert best.treatment.name == searches[kind].returned


@pytest.mark.parametrize("kind", KINDS)
def test_all_fronts_are_the_same(kind: str, searches: dict[str, Search]) -> None:
    found = searches[kind]
    fronts = [
        [observation.treatment.name for observation in front]
        for front in (
            found.optimizer.pareto_front(),
            found.optimizer.history.pareto_front,
            found.loaded.pareto_front,
        )
    ]

    assert found.returned in fronts[0]
    assert fronts[0] == fronts[1] == fronts[2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_condition_sees_the_best_at_every_moment(
    kind: str, searches: dict[str, Search]
) -> None:
    at_each_ask = searches[kind].at_each_ask

    assert len(at_each_ask) == 30
    assert [seen for seen, _ in at_each_ask] == [best for _, best in at_each_ask]


@pytest.mark.parametrize("kind", KINDS)
def test_the_bar_shows_the_best(kind: str, searches: dict[str, Search]) -> None:
    found = searches[kind]
    shown = re.search(r"best loss=([^,\]]+)", found.bar)

    assert "30/30" in found.bar
    if kind == "several objectives":
        assert shown is None
    else:
        (best,) = (o for o in found.optimizer.observations if o.treatment.name == found.returned)
        assert shown is not None
        assert shown[1] == tqdm.format_num(best["loss"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_study_has_the_best_trials(kind: str, searches: dict[str, Search]) -> None:
    """Optuna's own word for them: its plots and its dashboard show these."""
    found = searches[kind]
    front = [observation.treatment.name for observation in found.optimizer.pareto_front()]
    for history in (found.optimizer.history, found.loaded):
        assert [trial.user_attrs["trial"] for trial in study_of(history).best_trials] == front


# Of trials of any kind ------------------------------------------------------------------------

few_values = st.sampled_from([-1.5, 0.0, 0.25, 1.0, 2.0, 1e300])
outcomes = st.fixed_dictionaries(
    {"loss": few_values, "gain": few_values, "lag": few_values},
    optional={"failed": st.just(True)},
)


def observed(number: int, outcome: dict[str, Any], **fidelity: int) -> Observation:
    metrics = {name: value for name, value in outcome.items() if name != "failed"}
    status = Status.FAILED if "failed" in outcome else Status.COMPLETED
    point = {"x": (number + 1) / 100, "y": 0.5, **fidelity}
    return Observation(Treatment(f"old_{number}", point), metrics, status)


def assert_one_best(optimizer: SpaceOptimizer[Any]) -> None:
    best = optimizer.history.best
    assert (None if best is None else best.treatment.name) == best_of(optimizer)
    assert optimizer.history.pareto_front == optimizer.pareto_front()


@pytest.mark.parametrize("kind", ["constrained", "several objectives"])
@given(told=st.lists(outcomes, max_size=12))
def test_the_history_has_the_best_of_any_trials(kind: str, told: list[dict[str, Any]]) -> None:
    optimizer = make(kind)
    optimizer.attach([observed(number, outcome) for number, outcome in enumerate(told)])

    assert_one_best(optimizer)


def test_the_history_has_the_best_of_trials_of_any_fidelity() -> None:
    """After each of 60 trials, of one optimizer: to build SMAC takes long."""
    optimizer = make("fidelity")
    rng = random.Random(0)
    completed: dict[int, list[float]] = {}
    for number in range(60):
        level = rng.choices([1, 3, 9], [30, 10, 5])[0]
        outcome: dict[str, Any] = {"loss": rng.choice([-1.5, 0.0, 0.25, 1.0])}
        if rng.random() < 0.3:
            outcome["failed"] = True
        else:
            completed.setdefault(level, []).append(outcome["loss"])
        optimizer.attach(observed(number, outcome, epochs=level))

        assert_one_best(optimizer)
        best = optimizer.history.best
        if completed:
            assert best is not None
            counts = max(completed, key=lambda each: (len(completed[each]) >= ENOUGH, each))
            assert best.treatment.params["epochs"] == counts
            assert best["loss"] == min(completed[counts])
    assert min(map(len, completed.values())) >= ENOUGH
    assert completed.keys() == {1, 3, 9}
