"""`Experiment.confirm`: fresh paired seeds, honest failures, every way to run, resumable."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from crystallize_opt import (
    Constraint,
    Experiment,
    History,
    Hypothesis,
    Objective,
    Observation,
    Replicate,
    SeedPlugin,
    Status,
    Treatment,
)
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.analysis.confirm import Pairs
from crystallize_opt.analysis.paired import paired_test
from crystallize_opt.analysis.question import Candidate, Question
from crystallize_opt.errors import MissingExtraError, TrialsFailedError, UsageError
from crystallize_opt.trials.best import Criterion
from tests.search.ways import WAYS, each_way
from tests.toy import exact, experiment_of

LOSS = Objective("loss", "minimize")
GOOD, SAME = Treatment("good", {"x": -3.0}), Treatment("same", {"x": 1e-9})


def noisy(data: Any, ctx: Any, *, x: float = 0.0) -> Any:
    own = random.Random(f"{ctx['seed_used']} {x}").gauss(0, 1)
    return data, {"loss": x + own, "fold": float(ctx["replicate"]), "size": 2 - x}


async def noisy_asynchronously(data: Any, ctx: Any, *, x: float = 0.0) -> Any:
    return noisy(data, ctx, x=x)


def experiment(function: Any = noisy, seed: int = 7) -> Experiment:
    return experiment_of(function, seed=seed)


@each_way
def test_candidates_and_baseline_run_on_the_same_fresh_seeds(way: str) -> None:
    function, workers = WAYS[way]
    function = noisy if function.__name__ == "record" else noisy_asynchronously
    found = experiment(function).confirm([GOOD, SAME], 8, objective=LOSS, workers=workers)

    sides = [found.baseline, *found.candidates]
    seeds = [[each.seed for each in side.replicates] for side in sides]
    assert seeds == [list(found.seeds)] * 3
    assert [each["fold"] for each in found.baseline.replicates] == list(range(8))
    plugin = SeedPlugin(7)
    assert not {plugin.seed_of(r) for r in range(1000)} & set(found.seeds)
    assert [each.verdict for each in found.effects] == ["better", "no difference shown"]
    assert found.winner is not None
    assert found.winner.name == "good"
    # The same as one after the other: the order of the trials decides nothing.
    alone = experiment().confirm([GOOD, SAME], 8, objective=LOSS)
    assert found.effects == alone.effects


def test_the_winner_of_the_last_search_needs_nothing_else() -> None:
    subject = experiment()
    optimizer = RandomOptimizer({"x": (-3.01, -3.0)}, LOSS, seed=0)
    best = subject.optimize(
        optimizer, 20, 2, baseline=Treatment("usual", {"x": -1.0}), progress=False
    )
    found = subject.confirm(best, 10)

    (effect,) = found.effects
    searched = optimizer.history.best
    assert searched is not None
    assert effect.searched == searched["loss"]
    assert effect.searched < found.candidates[0]["loss"] == effect.mean
    assert found.baseline.params == {"x": -1.0}
    used = {each.seed for o in optimizer.observations for each in o.replicates}
    assert not used & set(found.seeds)
    assert "is better than the baseline" in str(found)
    assert "which flattered it by" in str(found)
    # A later search of something else does not hide the one that found the treatment.
    subject.optimize(RandomOptimizer({"x": (1.0, 2.0)}, LOSS, seed=1), 1, progress=False)
    assert subject.confirm(best, 10).effects == found.effects
    for same in (optimizer.history, searched):
        again = subject.confirm(same, 10, baseline=found.baseline, objective=LOSS)
        assert again.effects == found.effects


def test_the_objective_must_be_known() -> None:
    with pytest.raises(UsageError, match=r"objective=Objective"):
        experiment().confirm(GOOD, 4)


def test_a_failed_replicate_never_leaves_the_mean() -> None:
    def fails_once(data: Any, ctx: Any, *, x: float = 0.0) -> Any:
        if x < 0 and ctx["replicate"] == 2:
            raise ValueError("too cold")
        return noisy(data, ctx, x=x)

    found = experiment(fails_once).confirm([GOOD, SAME], 6, objective=LOSS)

    assert [each.verdict for each in found.effects] == ["failed", "no difference shown"]
    failed = found["good"][0]
    assert (failed.mean, failed.effect, failed.p_value) == (None, None, None)
    assert found.candidates[0].status is Status.FAILED
    assert "'good' cannot be judged by 'loss': 1 of its 6 replicates failed" in str(found)
    assert "too cold" in str(found)
    assert found.winner is None


def test_a_failed_replicate_of_the_baseline_judges_nothing() -> None:
    def fails_once(data: Any, ctx: Any, *, x: float = 0.0) -> Any:
        return data, {"loss": float("nan") if x == 0 and ctx["replicate"] == 3 else x}

    found = experiment(fails_once).confirm(GOOD, 6, objective=LOSS)

    assert found.verdict == "failed"
    assert "1 of the baseline's 6 replicates failed" in str(found)


def test_an_experiment_that_cannot_run_untreated_says_what_to_give() -> None:
    def needs_x(data: Any, ctx: Any, *, x: float) -> Any:
        return data, {"loss": x}

    with pytest.raises(TrialsFailedError) as caught:
        experiment(needs_x).confirm(GOOD, 4, objective=LOSS)
    assert "baseline=Treatment" in "".join(caught.value.__notes__)


def test_a_violated_constraint_is_no_win() -> None:
    limits = [Constraint("size", "<=", 4.5)]
    found = experiment().confirm(GOOD, 8, objective=LOSS, constraints=limits)

    assert found.verdict == "better"
    assert found.violations("good") == {"size <= 4.5": 0.5}
    assert found.winner is None
    assert "'good' violates size <= 4.5, by 0.5" in str(found)


def test_several_objectives_count_as_several_comparisons() -> None:
    goals = [LOSS, Objective("size", "minimize")]
    found = experiment().confirm(GOOD, 10, objective=goals)

    assert [each.verdict for each in found.effects] == ["better", "worse"]
    assert found.winner is None
    for each in found.effects:
        assert each.raw_p_value is not None
        assert each.p_value in (each.raw_p_value, 2 * each.raw_p_value)


@pytest.mark.parametrize(("percent", "feasible"), [(50, False), (150, True)])
def test_a_relative_constraint_is_judged_by_the_fresh_baseline(
    percent: float, feasible: bool
) -> None:
    limit = Constraint("size", "<=", percent, relative_to_baseline=True)
    found = experiment().confirm(GOOD, 8, objective=LOSS, constraints=[limit])

    # The baseline has the size 2, and the candidate 5.
    assert found.baseline["size"] == 2.0
    assert found.verdict == "better"
    assert found.violations("good") == ({} if feasible else {limit.text: 2.0})
    assert (found.winner is not None) is feasible
    assert ("violates size <= baseline + 50 %, by 2." in str(found)) is not feasible


def test_the_best_ones_are_run_again_and_the_best_of_them_is_chosen() -> None:
    optimizer = RandomOptimizer({"x": (-0.3, 0.3)}, LOSS, seed=0)
    subject = experiment()
    subject.optimize(optimizer, 12, progress=False)
    found = subject.confirm(optimizer.history.top(3), 6, baseline=Treatment("low", {"x": -3.0}))

    fresh = {each.treatment.name: each["loss"] for each in found.candidates}
    assert list(fresh) == [each.treatment.name for each in optimizer.history.top(3)]
    assert found.best is not None
    assert fresh[found.best.name] == min(fresh.values())
    assert found.winner is None  # The baseline is better.
    failing = subject.confirm(GOOD, 2, objective=LOSS, constraints=[Constraint("loss", ">=", 0.0)])
    assert failing.best is None


def test_hypotheses_see_the_fresh_replicates() -> None:
    def lower(baseline: Any, treatment: Any) -> Any:
        assert len(baseline["loss"]) == len(treatment["loss"]) == 5
        return {"p_value": float(sum(treatment["loss"]) > sum(baseline["loss"]))}

    claim = Hypothesis(lower, "loss", name="lower")
    found = experiment().confirm([GOOD, SAME], 5, objective=LOSS, hypotheses=[claim])

    (result,) = found.hypotheses
    assert result.results["good"] == {"p_value": 0.0}
    assert result.ranking["ranked"][0][0] == "good"


def test_the_sequential_test_stops_early_and_says_so() -> None:
    found = experiment().confirm(GOOD, 100, objective=LOSS, test="sequential")

    assert found.verdict == "better"
    assert found.replicates < 20
    assert found.p_value is not None
    assert found.p_value <= 0.05
    assert "of at most 100" in str(found)
    # Without an effect it runs to the end.
    idle = experiment().confirm(SAME, 14, objective=LOSS, test="sequential")
    assert (idle.replicates, idle.verdict) == (14, "no difference shown")


@pytest.mark.parametrize(("candidates", "pairs"), [(1, 8), (3, 12)])
def test_the_sequential_test_stops_when_every_comparison_is_decided(
    candidates: int, pairs: int
) -> None:
    """Equal differences are worth 4.0 after four pairs, 42 after eight, and 555 after twelve."""

    def exactly(data: Any, ctx: Any, *, x: float = 0.0) -> Any:
        return data, {"loss": x}

    several = [Treatment(f"good {i}", {"x": -1.0 - i}) for i in range(candidates)]
    found = experiment(exactly).confirm(several, 40, objective=LOSS, test="sequential")

    assert found.replicates == pairs == len(found.seeds)
    assert {each.verdict for each in found.effects} == {"better"}


def test_evidence_that_was_reached_counts_although_the_last_pair_speaks_against_it() -> None:
    def turns(data: Any, ctx: Any, *, x: float = 0.0) -> Any:
        return data, {"loss": x if ctx["replicate"] % 8 == 7 else -x}

    found = experiment(turns).confirm(
        Treatment("good", {"x": 1.0}), 40, objective=LOSS, test="sequential"
    )

    assert (found.replicates, found.verdict) == (8, "better")


@pytest.mark.parametrize("test", ["auto", "sequential"])
def test_a_stopped_confirmation_continues_where_it_was(tmp_path: Path, test: str) -> None:
    path, calls = tmp_path / "runs.db", [0]

    def interrupted(data: Any, ctx: Any, *, x: float = 0.0) -> Any:
        calls[0] += 1
        if calls[0] == 7:
            raise KeyboardInterrupt
        return noisy(data, ctx, x=x)

    with pytest.raises(KeyboardInterrupt):
        experiment(interrupted).confirm(GOOD, 16, objective=LOSS, storage=path, test=test)
    before = calls[0]
    found = experiment(interrupted).confirm(GOOD, 16, objective=LOSS, storage=path, test=test)
    whole = experiment().confirm(GOOD, 16, objective=LOSS, test=test)

    assert found.effects == whole.effects
    assert before - 1 + calls[0] - before == 2 * whole.replicates
    again = experiment(interrupted).confirm(GOOD, 16, objective=LOSS, storage=path, test=test)
    assert exact(again.baseline) == exact(found.baseline)
    other = experiment().confirm(SAME, 4, objective=LOSS, storage=path)
    assert len(History.runs(path)) == 2
    assert other.verdict == "no difference shown"


@pytest.mark.parametrize(
    ("candidates", "options", "message"),
    [
        ([GOOD, GOOD], {}, "distinct names"),
        (Treatment("baseline", {"x": 1.0}), {}, "none of them 'baseline'"),
        ("good", {}, "a Treatment, an Observation, a list"),
        ([1], {}, "A candidate is"),
        (GOOD, {"alpha": 1.0}, "error rate between 0 and 1"),
        (GOOD, {"replicates": 1}, "replicates"),
        (GOOD, {"test": "z"}, "test= is one of"),
        (GOOD, {"baseline": "usual"}, "baseline= is a Treatment"),
    ],
)
def test_wrong_arguments_are_refused(candidates: Any, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        experiment().confirm(candidates, **{"replicates": 3, "objective": LOSS, **options})


def test_seeds_that_cannot_be_fresh_are_refused() -> None:
    subject = experiment_of(noisy, plugins=[SeedPlugin(1, auto_seed=False)])
    with pytest.raises(UsageError, match="has no fresh seed for each replicate"):
        subject.confirm(GOOD, 3, objective=LOSS)


@pytest.mark.parametrize("step", [0, 1], ids=["one seed", "the search's"])
def test_seeds_of_another_plugin_must_be_fresh(step: int) -> None:
    """Neither one seed for all replicates, nor those of the search."""

    class Others(SeedPlugin):
        def seed_of(self, replicate: int) -> int:
            return 1000 + replicate

        def confirmation_seed_of(self, replicate: int) -> int:
            return (1000 if step else 5) + step * replicate

    with pytest.raises(UsageError, match="Others has no fresh seed for each replicate"):
        experiment_of(noisy, plugins=[Others(0)]).confirm(GOOD, 6, objective=LOSS)


def test_it_is_shown_in_a_notebook_and_as_a_frame() -> None:
    found = experiment().confirm([GOOD, SAME], 6, objective=LOSS)

    assert "<table>" in found._repr_html_()
    assert "is better than the baseline" in found._repr_html_()
    frame = found.to_frame()
    assert list(frame["candidate"]) == ["good", "same"]
    assert "corrected for 2 comparisons (Holm)" in str(found)
    assert repr(found).startswith("<Confirmation: good: loss better")


def test_an_experiment_is_pickled_without_its_last_search() -> None:
    subject = experiment()
    subject._searched = (History([Observation(GOOD, {"loss": 1.0})], [LOSS]),)
    assert cloudpickle.loads(cloudpickle.dumps(subject))._searched == ()


def test_a_missing_scipy_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r"confirm\(\) needs scipy.*\[analysis\]"):
        experiment().confirm(GOOD, 3, objective=LOSS)


# How comparisons are judged -----------------------------------------------------------------------


def test_a_higher_value_of_what_is_maximized_is_better() -> None:
    more = Treatment("more", {"x": -3.0})
    for direction, verdict in (("maximize", "better"), ("minimize", "worse")):
        searched = Observation(more, {"size": 9.0})
        found = experiment().confirm(searched, 8, objective=Objective("size", direction))  # type: ignore[arg-type]
        assert found.verdict == verdict
        # Fresh, it is 5.
        assert ("which flattered it by 4" in str(found)) is (direction == "maximize")


def test_a_failed_comparison_makes_no_other_one_easier() -> None:
    """It counts with the p-value 1: each interval and p-value is that of two comparisons."""

    def fails(data: Any, ctx: Any, *, x: float = 0.0) -> Any:
        if x == 9:
            raise ValueError("boom")
        return noisy(data, ctx, x=x)

    bad, fair = Treatment("bad", {"x": 9.0}), Treatment("fair", {"x": -0.5})
    found = experiment(fails).confirm([bad, fair], 8, objective=LOSS, test="t")

    failed, judged = found.effects
    assert failed.verdict == "failed"
    assert judged.raw_p_value is not None
    assert judged.p_value == pytest.approx(min(1.0, 2 * judged.raw_p_value))
    base = {each.index: each["loss"] for each in found.baseline.replicates}
    ours = found.candidates[1].replicates
    differences = [each["loss"] - base[each.index] for each in ours]
    assert judged.interval == paired_test(differences, "t", 0.05 / 2).interval
    assert "97.5 % interval" in str(found)


@pytest.mark.parametrize("changed", [{"replicates": 5}, {"test": "wilcoxon"}, {"alpha": 0.01}])
def test_another_question_is_another_run(changed: dict[str, Any], tmp_path: Path) -> None:
    asked: dict[str, Any] = {"replicates": 4, "test": "t", "alpha": 0.05}
    for options in (asked, asked | changed, asked):
        experiment().confirm(GOOD, objective=LOSS, storage=tmp_path / "runs.db", **options)

    assert len(History.runs(tmp_path / "runs.db")) == 2


def test_a_sequential_plan_is_complete_only_when_it_is_decided() -> None:
    """After a whole block that says nothing, as when Ctrl-C comes between two blocks."""
    same = Treatment("same", {"x": 1.0})
    criterion = Criterion((LOSS,))
    seeds = tuple(range(8))
    question = Question(
        (Candidate(same),), Treatment("baseline"), criterion, 8, 0.05, "sequential", (), seeds
    )
    plan = Pairs(question)
    for complete in (False, True):
        for treatment in plan.ask():
            run = Replicate(0, treatment.seed, {"loss": 1.0})  # type: ignore[attr-defined]
            plan.tell(Observation.of_replicates(treatment, [run]))
        assert plan.is_complete is complete


def test_thresholds_of_the_search_are_no_matter_of_a_confirmation() -> None:
    goals = [
        Objective("loss", "minimize", threshold=9.0),
        Objective("total", "minimize", threshold=9.0),
    ]
    limits = [Constraint("seconds", "<=", 5.0)]

    def both(x: float) -> dict[str, float]:
        return {"loss": x, "total": x + 1, "seconds": 2.0}

    found = Experiment.of(both, seed=0).confirm(
        Treatment("t", {"x": 0.5}),
        4,
        baseline=Treatment("b", {"x": 1.0}),
        objective=goals,
        constraints=limits,
    )
    assert [each.effect for each in found.effects] == [-0.5, -0.5]
