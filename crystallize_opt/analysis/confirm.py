"""Tests the winner of a search on fresh seeds, paired with the baseline: `Experiment.confirm`.

The best of many noisy trials looks better than it is, also on the seeds of the search. Here each
candidate and the baseline run on common seeds that no search has used (`SeedPlugin` keeps a part of
its stream for confirmations), each replicate as a trial of a search: with the same workers, limits,
storage and resume.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.analysis.confirmation import Confirmation, Effect, Verdict, values_of
from crystallize_opt.analysis.paired import (
    Tested,
    checked_alpha,
    checked_test,
    chosen_test,
    evidence,
    holm,
    paired_test,
)
from crystallize_opt.analysis.plan import Plan, goals_of
from crystallize_opt.analysis.question import (
    Candidate,
    Question,
    baseline_of,
    candidates_of,
    criterion_of,
    fresh_seeds,
)
from crystallize_opt.errors import (
    NoCompletedTrialError,
    TeardownError,
    TrialsFailedError,
)
from crystallize_opt.history.history import History
from crystallize_opt.pipeline.hypothesis import Hypothesis, as_hypotheses
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.result import HypothesisResult
from crystallize_opt.plain_data import encode
from crystallize_opt.runtime.checks import whole_number
from crystallize_opt.runtime.extras import needs
from crystallize_opt.search.search import Search
from crystallize_opt.storage.settings import Storage
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import SingleReplicate, Treatment

_BLOCK = 4
"""After how many pairs the sequential test looks at the data."""


def confirm(
    recipe: Recipe,
    candidates: Any,
    *,
    replicates: Any,
    baseline: Any,
    objective: Any,
    constraints: Sequence[Constraint] | None,
    alpha: Any,
    test: str,
    hypotheses: Sequence[Hypothesis],
    workers: Any,
    storage: Any,
    progress: Any,
    known: Sequence[History],
) -> Confirmation:
    """Do what `Experiment.confirm` documents; `known` are the experiment's last searches."""
    # Before hours of replicates: the tests need SciPy.
    with needs("confirm() needs", "scipy", "numpy", extra="analysis"):
        import scipy.stats  # noqa: F401

    found, history = candidates_of(candidates, known)
    criterion = criterion_of(objective, constraints, history)
    replicates = whole_number("replicates", replicates, 2)
    alpha = checked_alpha(alpha)
    comparisons = len(found) * len(criterion.objectives)
    question = Question(
        candidates=found,
        baseline=baseline_of(baseline, history),
        criterion=criterion,
        replicates=replicates,
        alpha=alpha,
        test=chosen_test(checked_test(test), replicates, alpha, comparisons),
        hypotheses=as_hypotheses(hypotheses),
        seeds=fresh_seeds(recipe, replicates, found, history),
    )
    plan = Pairs(question)
    conditions = len(question.candidates) + 1
    if storage is not None:
        storage = _named(Storage.of(storage), recipe, question)
    search = Search(
        recipe,
        plan,
        conditions * replicates,
        workers=workers,
        storage=storage,
        progress=progress,
    )
    teardown_error: TeardownError | None = None
    try:
        search.run()
    except TeardownError as error:
        teardown_error = error
    except (TrialsFailedError, NoCompletedTrialError) as error:
        error.add_note(
            "This happened in a confirmation. If the experiment cannot run untreated, say what to "
            "compare with: confirm(..., baseline=Treatment('default', {...}))."
        )
        raise
    if not plan.is_complete:
        raise KeyboardInterrupt(
            f"The confirmation was interrupted: {search.stop_reason}. With storage=, the same call "
            "continues it."
        ) from teardown_error
    confirmation = _judged(question, plan)
    if teardown_error is not None:
        teardown_error.result = confirmation
        raise teardown_error
    return confirmation


def _named(storage: Storage, recipe: Recipe, question: Question) -> Storage:
    """Return the storage with the name of the run: another question is another run."""
    if storage.run is not None:
        return storage
    asked = [
        [each.name, {name: encode(value) for name, value in each.params.items()}]
        for each in (question.baseline, *(each.treatment for each in question.candidates))
    ]
    text = json.dumps([asked, question.replicates, question.test, question.alpha])
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return dataclasses.replace(storage, run=f"{recipe.name or 'run'}, confirmation {digest}")


# What is run --------------------------------------------------------------------------------------


class Pairs(Plan):
    """Every replicate of the baseline and the candidates, as a trial.

    Replicate by replicate, so that a sequential test has all pairs so far.
    """

    def __init__(self, question: Question) -> None:
        super().__init__()
        self._question = question
        self.objective = goals_of(question.criterion)
        self._treatments = (question.baseline, *(each.treatment for each in question.candidates))

    def next_batch(self) -> list[Treatment]:
        """Return the next block of pairs; without a sequential test, all of them."""
        question = self._question
        if self._is_decided():
            return []
        first = len(self.asked) // len(self._treatments)
        block = _BLOCK if question.test == "sequential" else question.replicates
        return [
            SingleReplicate(treatment, index, question.seeds[index])
            for index in range(first, min(first + block, question.replicates))
            for treatment in self._treatments
        ]

    def _is_decided(self) -> bool:
        """Whether the sequential test has an answer to every comparison, or a replicate failed."""
        question = self._question
        if question.test != "sequential" or not self.asked:
            return False
        enough = question.comparisons / question.alpha
        for candidate in question.candidates:
            for objective in question.criterion.objectives:
                differences = self.differences(candidate.treatment, objective.metric)
                if differences is not None and max(evidence(differences)) < enough:
                    return False
        return True

    def differences(self, candidate: Treatment, metric: str) -> list[float] | None:
        """Return candidate minus baseline for each pair; None if a replicate of them failed."""
        both = (self.replicates(candidate), self.replicates(self._question.baseline))
        if any(each.status is not Status.COMPLETED for side in both for each in side):
            return None
        ours, theirs = ({each.index: each[metric] for each in side} for side in both)
        return [ours[index] - theirs[index] for index in sorted(ours.keys() & theirs.keys())]


# What is found ------------------------------------------------------------------------------------


def _judged(question: Question, plan: Pairs) -> Confirmation:
    baseline, *candidates = (
        Observation.of_replicates(treatment, plan.replicates(treatment))
        for treatment in (question.baseline, *(each.treatment for each in question.candidates))
    )
    observed = {each.treatment.name: each for each in candidates}
    raw = [
        _effect(question, plan, candidate, objective, observed, baseline)
        for candidate in question.candidates
        for objective in question.criterion.objectives
    ]
    # A comparison that failed counts with the p-value 1, so that it makes no other one easier.
    corrected = holm([1.0 if found is None else found.p_value for _, found in raw])
    signs = {each.metric: each.sign for each in question.criterion.objectives}
    effects = []
    for (effect, found), p_value in zip(raw, corrected, strict=True):
        if found is None or effect.effect is None:
            effects.append(effect)
            continue
        verdict: Verdict = "no difference shown"
        if p_value <= question.alpha:
            verdict = "better" if signs[effect.metric] * effect.effect < 0 else "worse"
        effects.append(dataclasses.replace(effect, verdict=verdict, p_value=p_value))
    if baseline.status is Status.COMPLETED:
        question.criterion.set_baseline(baseline)
    pairs = len(baseline.replicates)
    return Confirmation(
        baseline,
        tuple(observed.values()),
        tuple(effects),
        question.criterion,
        question.alpha,
        question.test,
        pairs,
        question.replicates,
        tuple(_checked(each, baseline, observed) for each in question.hypotheses),
        question.seeds[:pairs],
    )


def _effect(
    question: Question,
    plan: Pairs,
    candidate: Candidate,
    objective: Objective,
    observed: Mapping[str, Observation],
    baseline: Observation,
) -> tuple[Effect, Tested | None]:
    """Return the effect before the correction, and what the test found."""
    name, metric = candidate.treatment.name, objective.metric
    searched = candidate.searched
    before = (
        searched.metrics.get(metric) if searched is not None and searched.status.has_value else None
    )
    mean, against = (
        each[metric] if each.status is Status.COMPLETED else None
        for each in (observed[name], baseline)
    )
    differences = plan.differences(candidate.treatment, metric)
    if differences is None:
        return Effect(name, metric, "failed", mean, against, searched=before), None
    found = paired_test(differences, question.test, question.alpha / question.comparisons)
    effect = math.fsum(each / len(differences) for each in differences)
    return (
        Effect(
            name,
            metric,
            "no difference shown",
            mean,
            against,
            effect,
            found.interval,
            raw_p_value=found.p_value,
            searched=before,
        ),
        found,
    )


def _checked(
    hypothesis: Hypothesis, baseline: Observation, observed: Mapping[str, Observation]
) -> HypothesisResult:
    """Return the result of a hypothesis; a candidate or baseline that failed is not checked."""
    ours = values_of(baseline)
    results = {
        name: hypothesis.verify(ours, values_of(each))
        for name, each in observed.items()
        if each.status is Status.COMPLETED and baseline.status is Status.COMPLETED
    }
    return HypothesisResult(hypothesis.name, results, hypothesis.rank_treatments(results))
