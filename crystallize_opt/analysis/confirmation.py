"""What a confirmation found: numbers, a sentence, a table, a frame and a notebook's view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from crystallize_opt.pipeline.result import HypothesisResult
from crystallize_opt.runtime.extras import needs
from crystallize_opt.runtime.shown import cut, html_table, html_text, number, text_table
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["better", "worse", "no difference shown", "failed"]
"""What the test of one metric says about a candidate. "failed": there is nothing to test."""

_TESTS = {
    "t": "paired t-test",
    "wilcoxon": "Wilcoxon's signed-rank test",
    "permutation": "permutation test",
    "sequential": "sequential test",
}


@dataclass(frozen=True)
class Effect:
    """The comparison of one candidate with the baseline, in one metric.

    Attributes:
        candidate: The candidate's name.
        metric: The objective's metric.
        verdict: "better" or "worse" if the corrected p-value is at most alpha; else "no difference
            shown". "failed" if a replicate of the candidate or of the baseline failed.
        mean: The candidate's mean over the fresh replicates; None if one failed.
        baseline_mean: That of the baseline.
        effect: The mean of the paired differences, candidate minus baseline.
        interval: The interval of the effect, at the level 1 - alpha / number of comparisons.
        p_value: The two-sided p-value, corrected by Holm's method for the number of comparisons.
        raw_p_value: The p-value before that.
        searched: The mean in the search that chose the candidate, which is flattered; None if it is
            not known.
    """

    candidate: str
    metric: str
    verdict: Verdict
    mean: float | None = None
    baseline_mean: float | None = None
    effect: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    raw_p_value: float | None = None
    searched: float | None = None


@dataclass(frozen=True, repr=False)
class Confirmation:
    """The outcome of `Experiment.confirm`.

    Printed, it says in words what was found. With a single candidate and objective, `verdict`,
    `effect`, `interval` and `p_value` are those of the one comparison.

    Attributes:
        baseline: The baseline's fresh replicates. Its status is that of a failed one, if any.
        candidates: Those of each candidate, in the order given.
        effects: One for each candidate and objective.
        criterion: The objectives and constraints.
        alpha: The probability of at most this is an error among all verdicts.
        test: The test that was made.
        replicates: How many pairs of replicates were run; a sequential test may stop early.
        planned: How many there would have been at most.
        hypotheses: The results of the given hypotheses, on the fresh replicates.
        seeds: The fresh seeds, one for each pair.
    """

    baseline: Observation
    candidates: Sequence[Observation]
    effects: Sequence[Effect]
    criterion: Criterion
    alpha: float
    test: str
    replicates: int
    planned: int
    hypotheses: Sequence[HypothesisResult] = ()
    seeds: Sequence[int] = field(default=(), compare=False)

    def __getitem__(self, candidate: str) -> list[Effect]:
        """Return the comparisons of a candidate.

        Raises:
            KeyError: There is no such candidate.
        """
        if found := [each for each in self.effects if each.candidate == candidate]:
            return found
        names = ", ".join(repr(each.treatment.name) for each in self.candidates)
        raise KeyError(f"No candidate is called {candidate!r}; there are {names}.")

    @property
    def verdict(self) -> Verdict:
        """The verdict of the first comparison."""
        return self.effects[0].verdict

    @property
    def effect(self) -> float | None:
        """The effect of the first comparison."""
        return self.effects[0].effect

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of the first comparison."""
        return self.effects[0].interval

    @property
    def p_value(self) -> float | None:
        """The p-value of the first comparison, corrected for their number."""
        return self.effects[0].p_value

    @property
    def winner(self) -> Treatment | None:
        """The best candidate that is confirmed, or None.

        A candidate is confirmed if it is better than the baseline in one objective and worse in
        none, and if its means satisfy the constraints.
        """
        best = self.criterion.best(
            [each for each in self.candidates if self._is_confirmed(each.treatment.name)]
        )
        return None if best is None else best.treatment

    @property
    def best(self) -> Treatment | None:
        """The candidate with the best fresh mean that satisfies the constraints, or None.

        Unlike `winner`, it need not be better than the baseline: of several candidates that are to
        be compared with each other, this is the one to choose.
        """
        if self.criterion.lacks_baseline:
            return None  # The baseline failed, so that the constraints cannot be judged.
        best = self.criterion.best(self.candidates)
        return None if best is None else best.treatment

    def _is_confirmed(self, candidate: str) -> bool:
        verdicts = [each.verdict for each in self[candidate]]
        return "better" in verdicts and not {"worse", "failed"} & {*verdicts}

    def violations(self, candidate: str) -> dict[str, float]:
        """Return the constraints that a candidate's means violate, and by how much."""
        (found,) = [each for each in self.candidates if each.treatment.name == candidate]
        if found.status is not Status.COMPLETED or self.criterion.lacks_baseline:
            return {}  # There is nothing to check, or the baseline failed.
        violations = self.criterion.violations(found)
        return {text: value for text, value in violations.items() if value > 0}

    # Shown ----------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        verdicts = ", ".join(f"{e.candidate}: {e.metric} {e.verdict}" for e in self.effects)
        return f"<Confirmation: {cut(verdicts)}; {self.replicates} pairs>"

    def __str__(self) -> str:
        lines = self._sentences()
        lines.append(self._how())
        if len(self.effects) > 1:
            return text_table("\n".join(lines), *self._table())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show the sentences and a table in a notebook."""
        shown = "".join(f"<p>{html_text(line)}</p>" for line in self._sentences())
        return shown + html_table(self._how(), *self._table())

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row for each candidate and objective (extra `analysis`)."""
        with needs("Tables need", "pandas", extra="analysis"):
            import pandas as pd
        rows = []
        for each in self.effects:
            low, high = each.interval or (None, None)
            row = {**vars(each), "low": low, "high": high}
            row.pop("interval")
            rows.append(row | {"violates": "; ".join(self.violations(each.candidate))})
        return pd.DataFrame(rows)

    def _how(self) -> str:
        pairs = f"{self.replicates} pairs of replicates on fresh seeds"
        if self.test == "sequential":
            pairs += f", of at most {self.planned}"
        count = len(self.effects)
        holm = f"; p-values corrected for {count} comparisons (Holm)" if count > 1 else ""
        return f"({_TESTS[self.test]}, two-sided, alpha {self.alpha:g}; {pairs}{holm})"

    def _sentences(self) -> list[str]:
        lines = [self._sentence(each) for each in self.effects]
        for each in self.candidates:
            name = each.treatment.name
            for text, violation in self.violations(name).items():
                lines.append(f"{name!r} violates {text}, by {number(violation)}.")
        return lines

    def _sentence(self, each: Effect) -> str:
        name = repr(each.candidate)
        if each.verdict == "failed":
            return f"{name} cannot be judged by {each.metric!r}: {self._why_failed(each)}"
        level = f"{100 * (1 - self.alpha / len(self.effects)):.4g} %"
        low, high = each.interval or (0.0, 0.0)
        begin = {
            "better": f"{name} is better than the baseline",
            "worse": f"{name} is worse than the baseline",
        }.get(each.verdict, f"No difference between {name} and the baseline is shown")
        sentence = (
            f"{begin}: {each.metric} {number(each.mean)} against {number(each.baseline_mean)}, a "
            f"difference of {number(each.effect)} ({level} interval {number(low)} to "
            f"{number(high)}, p = {each.p_value:.2g})."
        )
        if each.searched is not None:
            sentence += f" In the search, {name} had {number(each.searched)}{self._luck(each)}."
        return sentence

    def _luck(self, each: Effect) -> str:
        (objective,) = [o for o in self.criterion.objectives if o.metric == each.metric]
        luck = objective.sign * ((each.mean or 0.0) - (each.searched or 0.0))
        return f", which flattered it by {number(luck)}" if luck > 0 else ""

    def _why_failed(self, each: Effect) -> str:
        named = {o.treatment.name: o for o in self.candidates}
        parts = []
        for who, found in (("of its", named[each.candidate]), ("of the baseline's", self.baseline)):
            failed = [r for r in found.replicates if r.status is not Status.COMPLETED]
            if failed:
                first = (failed[0].error or str(failed[0].status)).splitlines()[0]
                parts.append(
                    f"{len(failed)} {who} {len(found.replicates)} replicates failed, the first "
                    f"with {cut(first)}"
                )
        return f"{'; '.join(parts)}. Nothing is left out of a mean."

    def _table(self) -> tuple[list[str], list[list[str]]]:
        head = ["candidate", "metric", "verdict", "mean", "baseline", "effect", "from", "to", "p"]
        head.append("in the search")
        rows = []
        for each in self.effects:
            values = [each.mean, each.baseline_mean, each.effect, *(each.interval or (None, None))]
            shown = [number(value) for value in (*values, each.p_value, each.searched)]
            rows.append([each.candidate, each.metric, each.verdict, *shown])
        return head, rows


def values_of(observation: Observation) -> Mapping[str, list[float]]:
    """Return the values of each metric over the completed replicates, for hypotheses."""
    done = [each for each in observation.replicates if each.status is Status.COMPLETED]
    names = dict.fromkeys(name for each in done for name in each)
    return {name: [each[name] for each in done if name in each] for name in names}
