"""What a person sees of the objects of this package, in a terminal and in a notebook."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import Any

import pytest

import crystallize_opt
from crystallize_opt import (
    DataSource,
    Experiment,
    FrozenContext,
    History,
    Hypothesis,
    Objective,
    Observation,
    Pipeline,
    PipelineStep,
    Replicate,
    Status,
    Treatment,
    pipeline_step,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from tests.search.grids import grid
from tests.toy import add_delta, experiment_of, numbers, record_sum, toy_experiment

LOSS = Objective("loss", "minimize")


def half(baseline: Any, treatment: Any) -> dict[str, float]:
    return {"p_value": 0.5}


RESULT = toy_experiment(seed=0).run(
    treatments=[Treatment("plus one", {"delta": 1.0})],
    hypotheses=[Hypothesis(half, "sum", name="h")],
    replicates=3,
)


def search() -> OptunaOptimizer:
    optimizer = OptunaOptimizer({"delta": (0.0, 1.0)}, Objective("sum", "minimize"), seed=0)
    toy_experiment(seed=0).optimize(optimizer, 3, 2)
    return optimizer


class Source(DataSource):
    def fetch(self, ctx: FrozenContext) -> Any:
        return None


class Step(PipelineStep):
    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        return data


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (
            Experiment(numbers(), Pipeline([add_delta(delta=2.0), record_sum()]), seed=7, name="a"),
            "<Experiment 'a': numbers() | add_delta(delta=2.0) | record_sum(); seed 7>",
        ),
        (
            Experiment(Source(), Pipeline(Step()), seed=7),
            "<Experiment: Source() | Step(); seed 7>",
        ),
        (
            RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0),
            "<RandomOptimizer: minimize loss over 1 parameter; 0 trials>",
        ),
        (
            Observation(
                Treatment("trial_20"),
                {"accuracy": 0.98123456},
                sem={"accuracy": 0.00512},
                replicates=[Replicate(i, None, {}) for i in range(5)],
            ),
            "<Observation trial_20: accuracy=0.981235 ± 0.0051, completed, 5 replicates>",
        ),
        (
            Observation(Treatment("t"), {}, Status.FAILED, error="ValueError: no\nIn step 'a'."),
            "<Observation t: failed, ValueError: no>",
        ),
        (Replicate(3, 1, {"loss": 1.0}), "<Replicate 3: loss=1, completed>"),
        (RESULT, "<Result: baseline; 1 treatment; metrics sum; hypotheses h>"),
        (Hypothesis(half, "loss", name="h"), "<Hypothesis 'h': half of metrics 'loss'>"),
        (History([], [LOSS], name="night"), "<History 'night': 0 trials>"),
    ],
)
def test_one_line_says_what_it_is(shown: object, text: str) -> None:
    assert repr(shown) == text


def test_an_optimizer_tells_its_trials_and_its_best() -> None:
    optimizer = search()
    optimizer.ask()

    best = optimizer.history.best
    assert best is not None
    assert repr(optimizer) == (
        "<OptunaOptimizer: minimize sum over 1 parameter; 3 trials, 1 pending, "
        f"best sum={best['sum']:.6g}>"
    )


def test_a_result_is_a_table() -> None:
    assert [line.rstrip() for line in str(RESULT).splitlines()] == [
        "Result: baseline; 1 treatment; metrics sum; hypotheses h",
        "            sum          h",
        "  baseline  6 ± 0 (n=3)",
        "  plus one  9 ± 0 (n=3)  {'p_value': 0.5}",
    ]


class Text(HTMLParser):
    """Collects the text of a page, and which of it a notebook may typeset as mathematics."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.typeset: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.tags.pop() == tag

    def handle_data(self, data: str) -> None:
        assert "code" in self.tags or "$" not in data, data


@pytest.mark.parametrize("name", ["optimizer", "history", "observation", "result", "space"])
def test_a_notebook_gets_whole_tables_without_mathematics(name: str) -> None:
    def fail(data: Any, ctx: FrozenContext, *, cost: str) -> Any:
        if cost == "$5 <b>":
            raise ValueError("$x$ & <i>")
        return data, {"$sum$": 1.0}

    optimizer = RandomOptimizer({"cost": ["$1", "$5 <b>"]}, Objective("$sum$", "minimize"), seed=1)
    experiment_of(fail, seed=0).optimize(optimizer, 2)
    shown: dict[str, Any] = {
        "optimizer": optimizer,
        "history": optimizer.history,
        "observation": optimizer.observations[0],
        "result": experiment_of(fail, seed=0).run(treatments=[Treatment("$<a>", {"cost": "$1"})])
        if name == "result"
        else RESULT,
        "space": optimizer.space,
    }

    text = shown[name]._repr_html_()

    parser = Text()
    parser.feed(text)
    assert not parser.tags, "every tag is closed"
    assert len(text) < 5000
    assert "<i>" not in text
    assert "<b>" not in text


def test_a_long_choice_is_cut_in_the_table_and_whole_under_the_pointer() -> None:
    long = "<a long choice>" * 20
    history = grid([long]).history
    trial = Treatment("t", {"delta": long})
    history = History([Observation(trial, {"sum": 1.0}, error="e " * 30)], history.objectives)

    shown = history._repr_html_()

    whole = html.escape(long)
    assert f' title="{whole}">' in shown
    cells = re.findall(r"<td[^>]*>(.*?)</td>", shown)
    assert [len(html.unescape(cell)) for cell in cells] == [4, 1, 9, 1, 39, 60]
    assert (
        '<th style="text-align: left; white-space: nowrap">delta</th>' in shown
    )  # Texts to the left,
    assert "<td>1</td>" in shown  # and numbers to the right, as notebooks have it.


def test_the_errors_of_trials_are_in_the_table() -> None:
    def fail(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta:
            raise ValueError("boom")
        return data, {"sum": 1.0}

    optimizer = grid([0.0, 1.0])
    experiment_of(fail).optimize(optimizer, 2)

    assert "ValueError: boom" in optimizer.history._repr_html_()


def test_a_history_is_read_by_name() -> None:
    history = search().history

    assert history["trial_1"] is history[1]
    assert history.best is not None
    assert history.best_params == history.best.params == history.best.treatment.params
    assert History([], [LOSS]).best_params is None
    with pytest.raises(KeyError, match="No trial is called 'trial_9'; there are 3 trials"):
        history["trial_9"]


def test_the_front_is_spelled_alike() -> None:
    optimizer = search()

    fronts = [optimizer.pareto_front, optimizer.pareto_front(), optimizer.history.pareto_front]
    fronts.append(optimizer.history.pareto_front())
    assert [list(front) for front in fronts] == [list(fronts[0])] * 4
    assert isinstance(fronts[0], list)


def test_decorators_need_no_parentheses() -> None:
    @pipeline_step
    def bare(data: Any, ctx: FrozenContext, *, delta: float = 1.0) -> Any:
        return data, {"sum": delta}

    @pipeline_step()
    def called(data: Any, ctx: FrozenContext, *, delta: float = 1.0) -> Any:
        return data, {"sum": delta}

    for step in (bare(), called(), bare(delta=1.0)):
        metrics = Experiment(numbers(), Pipeline(step)).run().metrics.baseline.metrics
        assert metrics == {"sum": [1.0]}


# Tab completion ---------------------------------------------------------------------------------


def completed(value: Any) -> set[str]:
    """Return what a prompt or notebook offers after a dot."""
    return {name for name in dir(value) if not name.startswith("_")}


def test_tab_completion_of_an_optimizer_shows_what_users_call() -> None:
    optimizer = OptunaOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)

    assert completed(optimizer) >= {
        *("ask", "attach", "capabilities", "constraints", "enqueue", "events"),
        *("get_best_treatment", "history", "objective", "objectives", "observations"),
        *("pareto_front", "pending", "replay", "report", "seed", "space", "study", "tell"),
        "versions",
    }
    assert not completed(optimizer) & {
        *("adopt_seed", "asks_in_a_row", "calls", "can_be_copied", "criterion", "is_seed_drawn"),
        *("ledger", "libraries", "may_use_global_random_state", "measured"),
        *("hears_curve", "pairs_replicates", "report_replicate"),
        *("required_metrics", "restore_state", "saved_state", "searched", "settings"),
    }
    assert optimizer.ledger.pending == {}  # Adapters still have these names.


def test_tab_completion_shows_no_machinery() -> None:
    observation = Observation(Treatment("t", {"x": 1.0}), {"loss": 1.0})
    assert {"params", "sem", "status", "get"} <= completed(observation)
    assert not {"checked", "ended_at", "ended_early", "of_replicates"} & completed(observation)
    context = FrozenContext({"x": 1})
    assert completed(context) == {
        *("add", "as_dict", "checkpoint", "curves", "get", "logger", "metrics", "report")
    }

    shown = {name for name in dir(crystallize_opt) if not name.startswith("_")}
    assert set(crystallize_opt.__all__) <= shown
    assert not {"Any", "TYPE_CHECKING", "logging", "lazy_names", "plain_data"} & shown
    assert "__version__" in dir(crystallize_opt)
