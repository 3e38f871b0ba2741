"""The ways in which a search runs its trials, and a plugin that records the calls of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from crystallize_opt import BasePlugin, Experiment, FrozenContext, Workers
from crystallize_opt.pipeline.result import Result

VALUES = [3.0, 1.0, 2.0, 0.0, 4.0]


def record(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    if x < 0:
        raise ValueError("boom")
    return data, {"loss": x}


async def record_asynchronously(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    await asyncio.sleep(0)
    return data, {"loss": x}


class Calls(BasePlugin):
    """Writes down when a run begins and ends."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.results: list[Result] = []

    def before_run(self, experiment: Experiment) -> None:
        self.calls.append("before_run")

    def after_run(self, experiment: Experiment, result: Result) -> None:
        self.calls.append("after_run")
        self.results.append(result)


WAYS: dict[str, tuple[Callable[..., Any], Any]] = {
    "one after the other": (record, None),
    "asynchronous steps": (record_asynchronously, None),
    "asynchronous trials": (record_asynchronously, Workers(None, 2)),
    "threads": (record, Workers("threads", 2)),
    "processes": (record, 2),
}


each_way = pytest.mark.parametrize("way", WAYS)
each_place = pytest.mark.parametrize("in_a_running_loop", [False, True])


def somewhere(work: Callable[[], Any], in_a_running_loop: bool) -> Any:
    async def main() -> Any:
        return work()

    return asyncio.run(main()) if in_a_running_loop else work()
