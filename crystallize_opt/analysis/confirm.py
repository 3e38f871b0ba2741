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
from dataclasses import dataclass
from typing import Any

from crystallize_opt.analysis.confirmation import Confirmation, Effect, Verdict, values_of
from crystallize_opt.analysis.paired import (
    Test,
    Tested,
    checked_alpha,
    checked_test,
    chosen_test,
    evidence,
    holm,
    paired_test,
)
from crystallize_opt.errors import (
    NoCompletedTrialError,
    SpaceExhausted,
    TeardownError,
    TrialsFailedError,
    UsageError,
)
from crystallize_opt.history.history import History
from crystallize_opt.pipeline.hypothesis import Hypothesis
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.result import BASELINE, HypothesisResult
from crystallize_opt.plain_data import encode
from crystallize_opt.runtime.checks import whole_number
from crystallize_opt.runtime.extras import needs
from crystallize_opt.search.search import Search
from crystallize_opt.storage.settings import Storage
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.objective import (
    Constraint,
    Objective,
    as_constraints,
    as_objectives,
)
from crystallize_opt.trials.observation import Observation, Replicate, Status
from crystallize_opt.trials.treatment import SingleReplicate, Treatment

_BLOCK = 4
"""After how many pairs the sequential test looks at the data."""


@dataclass(frozen=True)
class Candidate:
    """A treatment to confirm, and its observation in the search, if that is known."""

    treatment: Treatment
    searched: Observation | None = None


@dataclass(frozen=True)
class Question:
    """What is to be confirmed, checked before anything runs.

    Attributes:
        candidates: The candidates, with distinct names.
        baseline: What they are compared with; its name is "baseline".
        criterion: Objectives and constraints.
        replicates: The number of pairs, at most.
        alpha: The error rate.
        test: The test; not "auto".
        hypotheses: Checked on the fresh replicates.
        seeds: One for each pair.
    """

    candidates: tuple[Candidate, ...]
    baseline: Treatment
    criterion: Criterion
    replicates: int
    alpha: float
    test: Test
    hypotheses: tuple[Hypothesis, ...]
    seeds: tuple[int, ...]

    @property
    def comparisons(self) -> int:
        """How many effects are tested."""
        return len(self.candidates) * len(self.criterion.objectives)


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

    found, history = _candidates(candidates, known)
    criterion = _criterion(objective, constraints, history)
    replicates = whole_number("replicates", replicates, 2)
    alpha = checked_alpha(alpha)
    comparisons = len(found) * len(criterion.objectives)
    question = Question(
        candidates=found,
        baseline=_baseline(baseline, history),
        criterion=criterion,
        replicates=replicates,
        alpha=alpha,
        test=chosen_test(checked_test(test), replicates, alpha, comparisons),
        hypotheses=tuple(hypotheses),
        seeds=_fresh_seeds(recipe, replicates, found, history),
    )
    plan = Plan(question)
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


# What is asked ------------------------------------------------------------------------------------


def _candidates(
    given: Any, known: Sequence[History]
) -> tuple[tuple[Candidate, ...], History | None]:
    """Return the candidates, and the history that chose them, if it is known."""
    if isinstance(given, History):
        best = given.best
        if best is None:
            raise NoCompletedTrialError(f"{given!r} has no best trial that could be confirmed.")
        return (Candidate(best.treatment, best),), given
    several = [given] if isinstance(given, (Treatment, Observation)) else given
    if isinstance(several, (str, Mapping)) or not isinstance(several, Sequence) or not several:
        raise UsageError(
            "confirm() takes a Treatment, an Observation, a list of them, or a History, not "
            f"{given!r}."
        )
    for each in several:
        if not isinstance(each, (Treatment, Observation)):
            raise UsageError(f"A candidate is a Treatment or an Observation, not {each!r}.")
    treatments = [each if isinstance(each, Treatment) else each.treatment for each in several]
    names = [each.name for each in treatments]
    if len({BASELINE, *names}) <= len(names):
        raise UsageError(
            f"The candidates need distinct names, none of them {BASELINE!r}: {names!r}."
        )
    # The last search that tried one of the candidates; it knows what the search was for.
    history: History | None = None
    for past in known:
        if any(_searched(each, past) is not None for each in treatments):
            history = past
            break
    found = [
        Candidate(each, given if isinstance(given, Observation) else _searched(each, history))
        for each, given in zip(treatments, several, strict=True)
    ]
    return tuple(found), history


def _searched(treatment: Treatment, known: History | None) -> Observation | None:
    """Return the observation of a treatment in a search."""
    for each in known or ():
        if each.treatment is treatment or (
            each.treatment.name == treatment.name
            and treatment.function is None
            and each.params == treatment.params
        ):
            return each
    return None


def _criterion(
    objective: Objective | Sequence[Objective] | None,
    constraints: Sequence[Constraint] | None,
    history: History | None,
) -> Criterion:
    if objective is None and (history is None or not history.objectives):
        raise UsageError(
            "confirm() does not know the objective. Give objective=Objective('loss', 'minimize'), "
            "a History, or a treatment that optimize() of this experiment returned."
        )
    objectives = as_objectives(objective) if objective is not None else history.objectives  # type: ignore[union-attr]
    if constraints is None:
        constraints = () if history is None else history.constraints
    return Criterion(tuple(objectives), as_constraints(constraints))


def _baseline(given: Any, history: History | None) -> Treatment:
    if given is None:
        stored = None if history is None else history.baseline
        return Treatment(BASELINE) if stored is None else stored.treatment
    if given is True:
        return Treatment(BASELINE)
    if isinstance(given, Observation):
        given = given.treatment
    if not isinstance(given, Treatment):
        raise UsageError(
            "baseline= is a Treatment, an Observation, or True for the untreated experiment, not "
            f"{given!r}."
        )
    return given.named(BASELINE)


def _fresh_seeds(
    recipe: Recipe, replicates: int, candidates: Sequence[Candidate], history: History | None
) -> tuple[int, ...]:
    """Return one fresh seed for each pair.

    `SeedPlugin` keeps them apart from those of searches by construction. A plugin of another class
    may not, so compare them with all seeds of the search that are known.
    """
    plugin = recipe.seed_plugin
    seeds = tuple(map(plugin.confirmation_seed_of, range(replicates)))
    known = [each.searched for each in candidates if each.searched is not None] + list(
        history or ()
    )
    used = {replicate.seed for each in known for replicate in each.replicates}
    used |= set(map(plugin.seed_of, range(replicates)))
    if len(set(seeds)) < len(seeds) or used & set(seeds):
        raise UsageError(
            f"{type(plugin).__name__} has no fresh seed for each replicate (it gives several the "
            "same one, or one of the search). Use SeedPlugin(seed), with auto_seed=True."
        )
    return seeds


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


class Plan:
    """Suggests every replicate of the baseline and the candidates, as an optimizer does.

    Replicate by replicate, so that a sequential test has all pairs so far.
    """

    version = (
        "1"  # The question may know more of the search each time; the run's name has the rest.
    )

    def __init__(self, question: Question) -> None:
        self._question = question
        metrics = {each.metric: each for each in question.criterion.objectives}
        for each in question.criterion.constraints:
            metrics.setdefault(each.metric, Objective(each.metric, "minimize", reduce=each.reduce))
        self.objective = [
            dataclasses.replace(each, reduce=question.criterion.reductions[each.metric])
            for each in metrics.values()
        ]
        self._treatments = (question.baseline, *(each.treatment for each in question.candidates))
        self.replicates: dict[str, list[Replicate]] = {t.name: [] for t in self._treatments}
        self._asked = 0  # pairs

    def ask(self) -> list[Treatment]:
        """Return the next block of pairs; without a sequential test, all of them.

        Raises:
            SpaceExhausted: All pairs have run, or the evidence suffices.
        """
        question = self._question
        block = _BLOCK if question.test == "sequential" else question.replicates
        pairs = range(self._asked, min(self._asked + block, question.replicates))
        if not pairs or self._is_decided():
            raise SpaceExhausted("the evidence suffices")
        self._asked = pairs.stop
        return [
            SingleReplicate(treatment, index, question.seeds[index])
            for index in pairs
            for treatment in self._treatments
        ]

    def tell(self, observation: Any) -> None:
        """Keep one replicate with the status it has as a trial; an abandoned one is not kept."""
        treatment = observation.treatment
        if observation.status is Status.ABANDONED:
            return
        (run,) = observation.replicates
        self.replicates[treatment.condition].append(
            dataclasses.replace(
                run, index=treatment.replicate, status=observation.status, error=observation.error
            )
        )

    def get_best_treatment(self) -> Treatment:
        """Return a treatment: a plan has no best one."""
        return self._treatments[-1]

    @property
    def is_complete(self) -> bool:
        """Whether every pair that was asked for has run, and no more is needed."""
        done = min(map(len, self.replicates.values()))
        return done == self._asked and (done == self._question.replicates or self._is_decided())

    def _is_decided(self) -> bool:
        """Whether the sequential test has an answer to every comparison, or a replicate failed."""
        question = self._question
        if question.test != "sequential" or not self._asked:
            return False
        enough = question.comparisons / question.alpha
        for candidate in question.candidates:
            for objective in question.criterion.objectives:
                differences = self.differences(candidate.treatment.name, objective.metric)
                if differences is not None and max(evidence(differences)) < enough:
                    return False
        return True

    def differences(self, candidate: str, metric: str) -> list[float] | None:
        """Return candidate minus baseline for each pair; None if a replicate of them failed."""
        both = (self.replicates[candidate], self.replicates[BASELINE])
        if any(each.status is not Status.COMPLETED for side in both for each in side):
            return None
        ours, theirs = ({each.index: each[metric] for each in side} for side in both)
        return [ours[index] - theirs[index] for index in sorted(ours.keys() & theirs.keys())]


# What is found ------------------------------------------------------------------------------------


def _judged(question: Question, plan: Plan) -> Confirmation:
    observed = {
        name: Observation.of_replicates(treatment, sorted(replicates, key=lambda r: r.index))
        for (name, replicates), treatment in zip(
            plan.replicates.items(),
            (question.baseline, *(each.treatment for each in question.candidates)),
            strict=True,
        )
    }
    baseline = observed.pop(BASELINE)
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
    plan: Plan,
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
    differences = plan.differences(name, metric)
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
