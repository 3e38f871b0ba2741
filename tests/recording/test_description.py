"""An exact resume is refused if the experiment or the optimizer has changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from crystallize_opt import Constraint, Experiment, FrozenContext, Objective, PipelineStep
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer
from crystallize_opt.errors import RunChanged
from crystallize_opt.source_code import source_digest
from tests.recording.killed_runs import LOSS, SPACE
from tests.recording.resuming import FLOAT, Optimizer, another, one, piped, rand, search


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


# What a search itself changes ---------------------------------------------------------------------

CACHE: dict[float, float] = {}
SETTINGS = {"scale": 1.0}


class Counts(PipelineStep):
    """Fills a cache in a global name, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        ctx.as_dict()
        self.calls += 1
        value = CACHE.setdefault(ctx["x"], ctx["x"] ** 2)
        return data, {"loss": value * SETTINGS["scale"]}


def test_what_a_search_itself_changes_does_not_count_as_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache is as the last search left it, or, in another process, as at the beginning."""
    path, step = tmp_path / "runs.db", Counts()
    monkeypatch.setitem(SETTINGS, "scale", 1.0)
    CACHE.clear()

    search(path, rand(), 2, piped(step))
    assert len(CACHE) == step.calls == 2
    search(path, rand(), 4, piped(step))
    search(tmp_path / "other.db", rand(), 3, piped(step))
    search(path, rand(), 5, piped(Counts()))  # The calls are as at the beginning.
    CACHE[7.0] = 49.0
    with pytest.raises(RunChanged, match=r"\(uses\)\.CACHE.*") as caught:
        search(path, rand(), 6, piped(step))
    assert str(caught.value).count(" became ") == 1, "the other entries are those of the search"
    assert "give the part that uses it a version" in str(caught.value)
    del CACHE[7.0]
    SETTINGS["scale"] = 2.0
    with pytest.raises(RunChanged, match=r"SETTINGS\.scale: 1\.0 became 2\.0") as caught:
        search(path, rand(), 6, piped(step))
    assert str(caught.value).count(" became ") == 1
    SETTINGS["scale"] = 1.0
    CACHE.clear()
    assert len(search(path, rand(), 6, piped(Counts())).observations) == 6
