"""Kills searches and resumes them, in another process: `python -m tests.recording.killed_runs`.

It prints, as JSON, what came of it. The searches run in forks, which die by SIGKILL: at a write of
the journal (before or after it), in the middle of a trial, or at any instruction by a timer.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from crystallize_opt import (
    Adaptive,
    Failures,
    FrozenContext,
    History,
    Objective,
    Observation,
    Pruned,
    SearchSpace,
    Storage,
    Workers,
)
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.space.choices import Categorical, Constant
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.storage.journal import Row, RunWriter
from tests.toy import experiment_of

LOSS = Objective("loss", "minimize")
SPACE = SearchSpace(
    {
        "x": Float(-5.0, 5.0),
        "rate": Float(1e-4, 1.0, log=True),
        "n": Integer(1, 9),
        "kind": Categorical([None, True, 1, (1, 2)]),
        "child": Float(0.0, 1.0).when(kind=True),
        "always": Constant("here"),
    }
)
UNCONDITIONAL = SearchSpace({name: each for name, each in SPACE.items() if name != "child"})
RUN = "run"
REPLICATES = 5
Moment = tuple[str, float]


def space_of(kind: str) -> SearchSpace:
    """Return the space of a search."""
    return UNCONDITIONAL if kind in ("baybe", "hebo", "neps") else SPACE


def make(kind: str) -> Any:
    """Return a fresh optimizer, each with models early in the search where it has any."""
    space = space_of(kind)
    if kind == "random":
        return RandomOptimizer(space, LOSS, seed=1)
    if kind == "remote":
        from crystallize_opt.adapters import RemoteOptimizer

        return RemoteOptimizer("crystallize_opt.adapters:OptunaOptimizer", space, LOSS, seed=1)
    if kind in ("baybe", "hebo", "neps"):
        return _make_model(kind, space)
    if kind == "ax":
        from crystallize_opt.adapters import AxOptimizer

        return AxOptimizer(space, LOSS, seed=1)
    if kind == "nevergrad":
        from crystallize_opt.adapters import NevergradOptimizer

        return NevergradOptimizer(space, LOSS, seed=1, budget=20)
    if kind == "smac":
        from crystallize_opt.adapters import SMACOptimizer

        return SMACOptimizer(space, LOSS, seed=1, n_init=3)
    from optuna import pruners, samplers

    from crystallize_opt.adapters import OptunaOptimizer

    if kind == "curves":
        halving = pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=2)
        tpe = samplers.TPESampler(seed=1, n_startup_trials=4)
        return OptunaOptimizer(space, LOSS, seed=1, sampler=tpe, pruner=halving)
    if kind == "pruned":
        sampler: Any = samplers.TPESampler(seed=1, n_startup_trials=4)
        pruner = pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=0)
        return OptunaOptimizer(space, LOSS, seed=1, sampler=sampler, pruner=pruner)
    samplers_of_kind: dict[str, Callable[[], Any]] = {
        "tpe": lambda: samplers.TPESampler(seed=1, n_startup_trials=5),
        "gp": lambda: samplers.GPSampler(seed=1, n_startup_trials=4),
        "cma": lambda: samplers.CmaEsSampler(
            seed=1, n_startup_trials=2, warn_independent_sampling=False
        ),
        "nsga": lambda: samplers.NSGAIISampler(seed=1, population_size=5),
    }
    return OptunaOptimizer(space, LOSS, seed=1, sampler=samplers_of_kind[kind]())


def _make_model(kind: str, space: SearchSpace) -> Any:
    """Return an optimizer that fits a model after three trials, and searches it quickly."""
    from crystallize_opt import adapters

    if kind == "baybe":
        from baybe.recommenders import BotorchRecommender, TwoPhaseMetaRecommender

        model = BotorchRecommender(n_restarts=2, n_raw_samples=16)
        recommender = TwoPhaseMetaRecommender(recommender=model, switch_after=3)
        return adapters.BayBEOptimizer(space, LOSS, seed=1, recommender=recommender)
    if kind == "hebo":
        options: Any = {"model_name": "rf", "hebo_options": {"rand_sample": 3}}
        return adapters.HEBOOptimizer(space, LOSS, seed=1, **options)
    quick = {"initial_design_size": 3, "num_restarts": 2, "n_initial_start_points": 16}
    return adapters.NePSOptimizer(space, LOSS, seed=1, algorithm_options=quick)


def measure(data: Any, ctx: FrozenContext, *, x: float, rate: float, n: int, log: str) -> Any:
    """Write down that it runs; fail sometimes."""
    ctx.as_dict()  # The other parameters of the space have no effect.
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(f"{ctx['condition']} {ctx['replicate']}\n")
    _die_in_trial()
    if n == 3 or (n == 4 and ctx["replicate"] == 1):
        raise ValueError("three")
    return data, {"loss": x * x + rate * (ctx["seed_used"] % 7) if n != 5 else math.nan}


def train(data: Any, ctx: FrozenContext, *, x: float, rate: float, n: int, log: str) -> Any:
    """Report a learning curve, and die between two of its points; fail sometimes."""
    ctx.as_dict()
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(f"{ctx['condition']} {ctx['replicate']}\n")
    loss = 0.0
    for epoch in range(6):
        _die_in_trial()
        loss = x * x + rate * (ctx["seed_used"] % 7) + (n % 4) / (epoch + 1)
        if n == 3 and epoch == 2:
            raise ValueError("three")
        if ctx.report("loss", loss, epoch):
            raise Pruned
    return data, {"loss": loss}


def search(path: Path, kind: str, trials: int, workers: int = 1, replicates: int = 1) -> Any:
    """Run or take up a search; return its optimizer.

    With `REPLICATES` or more, only trials that do well run so many, and some may fail.
    """
    is_adaptive = replicates >= REPLICATES
    optimizer = make(kind)
    options: dict[str, Any] = {}
    if workers > 1:
        options = {"workers": Workers("threads", workers)}
    step = train if kind == "curves" else measure
    experiment_of(step, seed=3, initial_ctx={"log": "log"}).optimize(
        optimizer,
        trials,
        Adaptive(2, replicates, alpha=0.3) if is_adaptive else replicates,
        storage=Storage(path, run=RUN),
        progress=False,
        failures=Failures(give_up_after=None, min_share=0.7 if is_adaptive else 1.0),
        **options,
    )
    return optimizer


# Dying ------------------------------------------------------------------------------------------

_trials_to_live: float = math.inf


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_in_trial() -> None:
    global _trials_to_live
    _trials_to_live -= 1
    if _trials_to_live < 0:
        _die()


def arm(where: str, when: float) -> None:
    """Let this process die at a moment.

    Args:
        where: `"before"` or `"after"` a write, in a `"trial"`, or by the `"timer"`.
        when: Before or after so many writes or trials; after so many seconds.
    """
    global _trials_to_live
    if where == "trial":
        _trials_to_live = when
        return
    if where == "timer":
        # Its signal is not handled, and so ends the process wherever it is, as SIGKILL does.
        signal.setitimer(signal.ITIMER_REAL, when)
        return
    append, writes = RunWriter.append, 0

    def counted(writer: RunWriter, rows: Sequence[Row], state: str | None = None) -> None:
        nonlocal writes
        writes += 1
        if where == "before" and writes > when:
            _die()
        append(writer, rows, state)
        if where == "after" and writes > when:
            _die()

    RunWriter.append = counted  # type: ignore[assignment,method-assign]


def dies(moment: Moment, work: Callable[[], Any]) -> bool:
    """Do some work in a fork that dies at a moment; return whether it did before it was done."""
    child = os.fork()
    if child == 0:
        try:
            arm(*moment)
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  (a fork must not go on with the parent's work)
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise AssertionError("The search failed; see above.")
    return os.WIFSIGNALED(status)


# What came of it --------------------------------------------------------------------------------


def exactly(observation: Observation) -> list[str]:
    """Return all of an observation that is not a time, so that equal means bit for bit."""
    treatment = observation.treatment
    replicates = [
        (r.index, r.seed, dict(r.metrics), str(r.status), r.error, r.curves)
        for r in observation.replicates
    ]
    told = (
        str(observation.status),
        dict(observation),
        observation.error,
        observation.beaten_by,
        replicates,
    )
    status = str(observation.status)
    return [treatment.name, repr(dict(treatment.params)), status, repr(told)]


def ran() -> list[str]:
    """Return which replicates have been run, in order."""
    return Path("log").read_text(encoding="utf-8").splitlines() if Path("log").exists() else []


def killed_search(
    kind: str, trials: int, moments: Iterable[Moment], workers: int, replicates: int
) -> dict[str, Any]:
    """Kill one search again and again, and then let it end."""
    path = Path("killed.db")
    deaths, rerun, lost = 0, [], []
    stored: list[list[str]] = []
    for moment in [*moments, None]:
        before = len(ran())
        if moment is None:
            search(path, kind, trials, workers, replicates)
        else:
            deaths += dies(moment, lambda: search(path, kind, trials, workers, replicates))
        finished = {name for name, *_ in stored}
        rerun += [line for line in ran()[before:] if line.split()[0] in finished]
        if path.exists() and RUN in History.runs(path):
            now = [
                exactly(observation)
                for observation in History.load(path, RUN, space=space_of(kind))
            ]
            lost += [each for each in stored if each not in now]
            stored = now
    return {"deaths": deaths, "rerun": rerun, "lost": lost, "observations": stored}


def whole_search(kind: str, trials: int, replicates: int) -> list[list[str]]:
    """Return what an uninterrupted search gives."""
    optimizer = search(Path("whole.db"), kind, trials, 1, replicates)
    return [exactly(observation) for observation in optimizer.observations]


def main() -> None:
    """Kill many searches; print what differs from those that were not."""
    kind, trials, workers, replicates, number, how, seed = sys.argv[1:]
    rng = random.Random(int(seed))
    result: dict[str, Any] = {"deaths": 0, "rerun": [], "lost": [], "names": [], "differ": []}
    folder = Path.cwd()
    whole = whole_search(kind, int(trials), int(replicates))
    for round_ in range(10_000):
        if result["deaths"] >= int(number):
            break
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            os.chdir(empty)
            moments = [_moment(how, rng) for _ in range(min(4, int(number) - result["deaths"]))]
            found = killed_search(kind, int(trials), moments, int(workers), int(replicates))
            os.chdir(folder)
        for name in ("deaths", "rerun", "lost"):
            result[name] += found[name]
        names = [name for name, *_ in found["observations"]]
        # There may be more than `trials`: a point that is suggested again is answered, not run.
        once = sorted(names) == sorted(f"trial_{i}" for i in range(len(names)))
        if not once or len(names) < int(trials):
            result["names"].append([round_, names])
        result["ended"] = sorted({status for _, _, status, _ in found["observations"]})
        if workers == "1" and found["observations"] != whole:
            result["differ"].append([round_, moments, found["observations"], whole])
    print(json.dumps(result))


def _moment(how: str, rng: random.Random) -> Moment:
    if how == "timer":
        return "timer", rng.uniform(0.001, float(os.environ.get("LONGEST", "0.3")))
    where = rng.choice(["before", "after", "trial"])
    return where, rng.randrange(0, 9 if where == "trial" else 18)


if __name__ == "__main__":
    main()
