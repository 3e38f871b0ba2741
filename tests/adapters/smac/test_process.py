"""What SMAC does to a process, and what an upgrade of it may break."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from smac import HyperbandFacade
from smac.acquisition.maximizer import LocalAndSortedRandomSearch
from smac.facade.abstract_facade import AbstractFacade
from smac.initial_design import AbstractInitialDesign
from smac.intensifier import Intensifier, SuccessiveHalving
from smac.main.config_selector import ConfigSelector
from smac.model.random_forest.random_forest import RandomForest
from smac.runhistory import RunHistory
from smac.runhistory.encoder.abstract_encoder import AbstractRunHistoryEncoder

from crystallize_opt import Integer
from crystallize_opt.adapters import SMACOptimizer
from crystallize_opt.adapters.smac import components
from crystallize_opt.adapters.smac import facade as facade_module
from tests.adapters.parity import search
from tests.adapters.smac.native import LOSS, SQUARE


@pytest.fixture(autouse=True)
def _no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test of this module leaves a file in the working directory."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


# What an upgrade of SMAC may break -------------------------------------------------------------


def test_the_private_names_of_smac_are_still_there() -> None:
    facade = SMACOptimizer(SQUARE, LOSS, seed=0).facade
    budgets = SMACOptimizer(
        {**SQUARE, "t": Integer(1, 9, fidelity=True)}, LOSS, seed=0, facade=HyperbandFacade
    )
    instances: dict[type, Any] = {
        AbstractFacade: facade,
        AbstractInitialDesign: facade._initial_design,
        AbstractRunHistoryEncoder: facade._runhistory_encoder,
        Intensifier: facade.intensifier,
        RunHistory: facade.runhistory,
        SuccessiveHalving: budgets.facade.intensifier,
        LocalAndSortedRandomSearch: facade._acquisition_maximizer,
        RandomForest: facade._model,
        ConfigSelector: facade.intensifier.config_selector,
    }
    for owner, name in facade_module.PRIVATE_NAMES:
        assert hasattr(owner, name) or hasattr(instances[owner], name), f"{owner.__name__}.{name}"


def test_the_forest_is_smacs_forest() -> None:
    """A tenth of the time and memory, but not one leaf that is another."""
    rng = np.random.RandomState(0)
    vectors, costs = rng.rand(30, 2), rng.rand(30, 1)
    new = rng.rand(50, 2)
    predictions = []
    for lean in (True, False):
        facade = SMACOptimizer(SQUARE, LOSS, seed=0).facade
        model = facade._model
        assert isinstance(model, components.LeanForest)
        if not lean:
            model.__class__ = RandomForest  # type: ignore[assignment]  # back to what it was
        model.train(vectors, costs)
        predictions.append(model.predict_marginalized(new))
        assert model.meta["max_leaf_nodes"] == 2**20
    for ours, theirs in zip(*predictions, strict=True):
        assert np.array_equal(ours, theirs)


# Nothing else happens --------------------------------------------------------------------------

SCRIPT = """
    import sys
    from crystallize_opt import Categorical, Float, Objective, Observation, Ordinal, Status
    from crystallize_opt.adapters import SMACOptimizer

    facade = None
    if sys.argv[1:]:
        import smac
        facade = getattr(smac, sys.argv[1])
    space = {
        "x": (0.0, 1.0),
        "kind": Categorical(["a", None, (1, 2)]),
        "size": Ordinal(["s", "m"]),
        "child": Float(1e-3, 1.0, log=True).when(kind="a"),
    }
    optimizer = SMACOptimizer(
        space, Objective("loss", "minimize"), seed=0, facade=facade, n_trials=16,
        facade_options={"acquisition_maximizer": {"challengers": 50, "local_search_iterations": 2}},
    )
    for number in range(9):
        treatments = optimizer.ask(2 if number == 5 else 1)
        for treatment in treatments[::-1]:
            print(repr(dict(treatment.params)))
            loss = treatment.params["x"] + treatment.params.get("child", 0.5)
            status = Status.FAILED if number == 2 else Status.COMPLETED
            optimizer.tell(Observation(treatment, {"loss": loss}, status))
"""


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  (our own)
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    "facade",
    [
        "HyperparameterOptimizationFacade",
        pytest.param("BlackBoxFacade", marks=pytest.mark.slow),
    ],
)
def test_suggestions_are_the_same_in_every_process(facade: str) -> None:
    """SMAC's own change with PYTHONHASHSEED right after the initial design."""
    outputs = {run(SCRIPT, facade, PYTHONHASHSEED=seed).stdout for seed in ("1", "2")}

    assert len(outputs) == 1
    assert len(outputs.pop().splitlines()) == 10


def test_a_process_is_left_as_it_was(tmp_path: Path) -> None:
    """Importing, building, asking, telling: nothing but the suggestions is printed or written."""
    script = """
        import logging, os, random, sys, warnings
        import numpy as np
        from crystallize_opt import Float, Objective, Observation, Status, Treatment
        from crystallize_opt.adapters import SMACOptimizer

        def loggers():
            return {
                name: (logger.level, logger.propagate, [
                    handler for handler in logger.handlers
                    if not isinstance(handler, logging.NullHandler)
                ])
                for name, logger in {"": logging.root, **logging.root.manager.loggerDict}.items()
                if isinstance(logger, logging.Logger)
            }

        def world():
            return {
                "random": random.getstate(),
                "numpy": repr(np.random.get_state()),
                "errors": np.geterr(),
                "filters": list(warnings.filters),
                "hooks": (warnings.showwarning, sys.excepthook, logging.lastResort),
                "folder": (os.getcwd(), os.listdir()),
                "environment": dict(os.environ),
                "path": list(sys.path),
            }

        def changed(before):
            after = world()
            return [name for name in before if before[name] != after[name]]

        assert "smac" not in sys.modules
        before, before_loggers = world(), loggers()
        space = {"x": (0.0, 1.0), "n": (1, 9)}
        options = {
            "acquisition_maximizer": {"challengers": 50, "local_search_iterations": 1},
            "random_design": {"probability": 0.0},
        }
        given = repr(options)
        optimizer = SMACOptimizer(
            space, Objective("loss", "minimize"), seed=0, n_init=2, facade_options=options
        )
        assert changed(before) == [], changed(before)
        assert space == {"x": (0.0, 1.0), "n": (1, 9)}
        assert repr(options) == given
        for number in range(4):
            (treatment,) = optimizer.ask()
            assert changed(before) == [], changed(before)
            optimizer.tell({"loss": treatment.params["x"]})
            assert changed(before) == [], changed(before)
        (treatment,) = optimizer.ask()
        optimizer.tell(Observation(treatment, status=Status.FAILED))
        optimizer.attach(Observation(Treatment("a", {"x": 0.5, "n": 2}), {"loss": 1.0}))
        assert changed(before) == [], changed(before)
        for name, state in loggers().items():
            assert state == before_loggers.get(name, (0, True, [])), name
    """
    done = run(script)

    assert done.stdout == done.stderr == ""


@pytest.mark.slow  # runtime/test_quiet_import.py has the text; this starts a process for SMAC.
def test_the_first_one_says_that_importing_takes_seconds() -> None:
    script = """
        import logging
        logging.basicConfig(format="%(name)s %(levelname)s %(message)s", level=logging.INFO)
        from crystallize_opt import Objective
        from crystallize_opt.adapters import SMACOptimizer
        print("imported", "smac" in __import__("sys").modules)
        for _ in range(2):
            SMACOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=0)
    """
    done = run(script)
    lines = [line for line in done.stderr.splitlines() if "crystallize_opt" in line]

    assert done.stdout == "imported False\n"
    assert len(lines) == 1
    assert lines[0].startswith("crystallize_opt INFO Importing SMAC")


def test_without_smac_the_extra_is_named() -> None:
    script = """
        import sys
        sys.modules["smac"] = None
        from crystallize_opt.errors import MissingExtraError
        try:
            from crystallize_opt.adapters import SMACOptimizer
        except MissingExtraError as error:
            print(error)
    """
    assert 'pip install "crystallize-opt[smac]"' in run(script).stdout


def test_warnings_of_smac_do_not_reach_stderr() -> None:
    """Where few points are left, it warns several times for each suggestion."""
    script = """
        from crystallize_opt import Objective
        from crystallize_opt.adapters import SMACOptimizer
        space = {"a": (1, 3), "b": (1, 2)}
        optimizer = SMACOptimizer(space, Objective("loss", "minimize"), seed=0, n_trials=8)
        for _ in range(6):
            (treatment,) = optimizer.ask()
            optimizer.tell({"loss": treatment.params["a"]})
    """
    done = run(script)

    assert done.stdout == done.stderr == ""


def test_loggers_and_filters_of_others_stay(caplog: pytest.LogCaptureFixture) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), list(warnings.filters))
    search(SMACOptimizer(SQUARE, LOSS, seed=0), 2)

    assert (root.level, list(root.handlers), list(warnings.filters)) == before
