"""What a traceback shows: the user's own lines, not those of this package."""

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from crystallize_opt import Experiment, FrozenContext, Objective, Search, Treatment
from crystallize_opt.adapters import GridOptimizer
from crystallize_opt.errors import CrystallizeOptError
from crystallize_opt.runtime.tracebacks import is_own
from tests.search.grids import grid
from tests.toy import experiment_of


def fail(data: Any, ctx: FrozenContext, *, delta: float = 0.0) -> Any:
    raise ValueError("boom")


def own_frames(error: BaseException) -> int:
    return sum(is_own(each.filename) for each in traceback.extract_tb(error.__traceback__))


async def afail(data: Any, ctx: FrozenContext, *, delta: float = 0.0) -> Any:
    await asyncio.sleep(0)
    raise ValueError("boom")


async def fail_in_a_group(data: Any, ctx: FrozenContext, *, delta: float = 0.0) -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(afail(data, ctx))


DOORS: dict[str, Callable[[Experiment], Any]] = {
    "run": lambda experiment: experiment.run(),
    "apply": lambda experiment: experiment.apply(Treatment("a", {"delta": 1.0})),
    "optimize": lambda experiment: experiment.optimize(grid([1.0]), 1, failures="raise"),
    "search": lambda experiment: Search(experiment, grid([1.0]), 1, failures="raise").run(),
    "loop": lambda experiment: list(Search(experiment, grid([1.0]), 1, failures="raise")),
    "aoptimize": lambda experiment: asyncio.run(
        experiment.aoptimize(grid([1.0]), 1, failures="raise")
    ),
}


@pytest.mark.parametrize("step", [fail, afail, fail_in_a_group])
@pytest.mark.parametrize("door", DOORS)
def test_frames_of_this_package_are_hidden(
    door: str, step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CRYSTALLIZE_OPT_FULL_TRACEBACKS")
    with pytest.raises((ValueError, CrystallizeOptError, ExceptionGroup)) as caught:
        DOORS[door](experiment_of(step))

    error = caught.value
    # What is left is the frame of each door, which says itself that it is to be left out.
    assert own_frames(error) <= 2
    own = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert all(
        "__tracebackhide__" in each.f_locals for each in own if is_own(each.f_code.co_filename)
    )
    shown = "".join(traceback.format_exception(error))
    assert door == "aoptimize" or "asyncio/base_events" not in shown, "nor those of its event loop"
    assert 'raise ValueError("boom")' in shown, "the user's own line is there"


def test_a_fault_of_this_package_keeps_all_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRYSTALLIZE_OPT_FULL_TRACEBACKS")

    class Broken(GridOptimizer):
        def _suggest(self) -> Any:
            return self.ledger.find(None)  # type: ignore[arg-type]

    optimizer = Broken({"delta": [1.0]}, Objective("sum", "minimize"))
    with pytest.raises(AttributeError) as caught:
        experiment_of(fail).optimize(optimizer, 1)

    assert own_frames(caught.value) > 5


def test_all_frames_can_be_shown() -> None:
    """The tests of this package set the variable."""
    with pytest.raises(ValueError, match="boom") as caught:
        experiment_of(fail).apply()

    assert own_frames(caught.value) > 5
