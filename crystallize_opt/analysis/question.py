"""What a confirmation is asked: candidates, baseline, objectives and fresh seeds, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crystallize_opt.analysis.paired import Test
from crystallize_opt.errors import NoCompletedTrialError, UsageError
from crystallize_opt.history.history import History
from crystallize_opt.pipeline.hypothesis import Hypothesis
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.result import BASELINE
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.objective import (
    Constraint,
    Objective,
    as_constraints,
    as_objectives,
)
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment


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


def candidates_of(
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


def criterion_of(
    objective: Objective | Sequence[Objective] | None,
    constraints: Sequence[Constraint] | None,
    history: History | None,
) -> Criterion:
    """Return objectives and constraints: those given, or those of the search."""
    if objective is None and (history is None or not history.objectives):
        raise UsageError(
            "confirm() does not know the objective. Give objective=Objective('loss', 'minimize'), "
            "a History, or a treatment that optimize() of this experiment returned."
        )
    objectives = as_objectives(objective) if objective is not None else history.objectives  # type: ignore[union-attr]
    if constraints is None:
        constraints = () if history is None else history.constraints
    return Criterion(tuple(objectives), as_constraints(constraints))


def baseline_of(given: Any, history: History | None) -> Treatment:
    """Return the baseline: the one given, that of the search, or the untreated experiment."""
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


def fresh_seeds(
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
