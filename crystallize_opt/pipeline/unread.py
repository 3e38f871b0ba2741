"""Finds parameters that a treatment sets and no step reads: usually a misspelt name."""

from __future__ import annotations

from collections.abc import Sequence

from crystallize_opt.errors import UnreadParameterError
from crystallize_opt.pipeline.recipe import REPLICATE_KEYS, Recipe
from crystallize_opt.pipeline.replicate import ReplicateRun
from crystallize_opt.trials.treatment import Treatment


class UnreadCheck:
    """Checks each parameter once: in the first completed trial that has the parameter.

    A trial whose reads are not all known is left out; the next one with the parameter is checked.

    Args:
        recipe: The experiment's recipe.
        advice: What to do if the check is mistaken; the end of the message.
    """

    def __init__(self, recipe: Recipe, advice: str) -> None:
        self._recipe = recipe
        self._advice = advice
        self._checked: set[str] = set()

    def check(self, treatment: Treatment, runs: Sequence[ReplicateRun]) -> None:
        """Check the parameters of a treatment whose replicates have completed.

        Raises:
            UnreadParameterError: No data source, step or plugin asked for a parameter.
        """
        params = treatment.params
        if self._checked.issuperset(params):
            return
        asked_for: set[str] = set()
        for run in runs:
            if run.asked_for is None:
                return
            asked_for.update(run.asked_for)
        unread = [name for name in params if name not in asked_for and name not in self._checked]
        self._checked.update(params)
        if unread:
            raise UnreadParameterError(self._message(treatment.name, unread, asked_for))

    def _message(self, trial: str, unread: list[str], asked_for: set[str]) -> str:
        others = sorted(name for name in asked_for if name not in REPLICATE_KEYS)
        import difflib  # Only this message needs it.

        text = (
            f"No step read {', '.join(map(repr, unread))} in {trial!r}. The steps asked for: "
            f"{', '.join(map(repr, others)) or 'nothing'}."
        )
        for name in unread:
            for step in self._recipe.pipeline.parts:
                if name in step.params:
                    text += f" {name!r} is fixed where its step was built: {step!r}."
            if close := difflib.get_close_matches(name, others, 1):
                text += f" Did you mean {close[0]!r} instead of {name!r}?"
        return f"{text} {self._advice}"
