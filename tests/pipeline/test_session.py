"""`after_run` is called for every run that has begun, even if the run ends in an error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from crystallize_opt import (
    BasePlugin,
    Experiment,
    Failures,
    FrozenContext,
    Pipeline,
    PipelineStep,
    Search,
)
from crystallize_opt.errors import TrialsFailedError
from crystallize_opt.pipeline.result import Result
from tests.search.ways import VALUES, Calls, record
from tests.toy import experiment_of, numbers
from tests.workers.pools import grid


@pytest.mark.parametrize("how", ["run", "apply", "optimize", "setup", "hand"])
def test_after_run_is_called_where_a_run_ends_in_an_error(how: str) -> None:
    """`run` raises only for what is wrong with the run itself, here in a hypothesis."""

    class Fails(PipelineStep):
        def setup(self, ctx: FrozenContext) -> None:
            if how == "setup":
                raise ValueError("set-up")

        def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            if how == "run":
                raise KeyboardInterrupt
            raise ValueError("boom")

    plugin = Calls()
    experiment = Experiment(numbers(), Pipeline([Fails()]), [plugin])
    failures = Failures(give_up_after=2)

    def by_hand() -> None:
        for _ in Search(experiment, grid(VALUES), 5, failures=failures):
            pass

    calls: dict[str, Callable[[], Any]] = {
        "run": experiment.run,
        "apply": experiment.apply,
        "optimize": lambda: experiment.optimize(grid(VALUES), 5, failures=failures),
        "setup": experiment.run,
        "hand": by_hand,
    }
    with pytest.raises((ValueError, TrialsFailedError, KeyboardInterrupt)):
        calls[how]()

    assert plugin.calls == ["before_run", "after_run"]
    errors = [str(error) for error in plugin.results[0].errors.values()]
    assert errors == {"apply": ["boom"], "optimize": ["boom"] * 2, "hand": ["boom"] * 2}.get(
        how, []
    )


def test_an_error_of_after_run_does_not_hide_the_one_that_ended_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Looks(BasePlugin):
        def after_run(self, experiment: Experiment, result: Result) -> None:
            raise KeyError("no metrics")

    plugin = Calls()

    def step(data: Any, ctx: FrozenContext) -> Any:
        raise ValueError("boom")

    with (
        caplog.at_level(logging.ERROR, "crystallize_opt"),
        pytest.raises(ValueError, match="boom"),
    ):
        experiment_of(step, plugins=[Looks(), plugin]).apply()

    assert plugin.calls == ["before_run", "after_run"]
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_only_plugins_that_began_are_ended() -> None:
    first, last = Calls(), Calls()

    class Refuses(Calls):
        def before_run(self, experiment: Experiment) -> None:
            raise ValueError("no")

    refuses = Refuses()
    with pytest.raises(ValueError, match="no"):
        experiment_of(record, plugins=[first, refuses, last]).run()

    assert (first.calls, refuses.calls, last.calls) == (["before_run", "after_run"], [], [])


def test_a_hook_of_an_instance_counts_as_one_of_a_class() -> None:
    """A search keeps its results only for an `after_run` that reads them."""
    found: list[Result] = []

    def after_run(experiment: Experiment, result: Result) -> None:
        found.append(result)

    plugin = BasePlugin()
    plugin.after_run = after_run  # type: ignore[method-assign]
    experiment = experiment_of(record, plugins=[plugin])

    experiment.optimize(grid(VALUES), len(VALUES))

    (result,) = found
    assert len(result.metrics.treatments) == len(VALUES)
