"""An import that leaves the process as it was."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from crystallize_opt.runtime.quiet_import import quiet_import

LOUD = """
import logging, os, sys, warnings
warnings.filterwarnings("always", "a filter of its own")
warnings.warn("deprecated", DeprecationWarning)
os.environ["ADDED"] = "1"
os.environ.setdefault("KEPT", "2")
chatty = logging.getLogger("loud.chatty")
chatty.addHandler(logging.StreamHandler())
chatty.warning("installed")
for name in ("loud", "known"):
    logger = logging.getLogger(name)
    logger.addHandler(logging.StreamHandler())
    logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.ERROR)
    logger.propagate = False
"""


@pytest.fixture
def loud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "loud.py").write_text(LOUD, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.delenv("ADDED", raising=False)
    yield
    sys.modules.pop("loud", None)
    for name in ("loud", "loud.chatty", "known"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


def states() -> list[tuple[int, bool, int]]:
    loggers = map(logging.getLogger, ("loud", "known"))
    return [(each.level, each.propagate, len(each.handlers)) for each in loggers]


@pytest.mark.usefixtures("loud")
def test_an_import_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("known").setLevel(logging.INFO)
    filters, variables = list(warnings.filters), dict(os.environ)

    with caplog.at_level(logging.INFO, "crystallize_opt"):
        for _ in range(2):
            with quiet_import("Loud", "loud", undo_logging=True, drop_messages_of=("loud.chatty",)):
                import loud  # type: ignore[import-not-found]  # noqa: F401

    assert list(warnings.filters) == filters
    assert dict(os.environ) == variables
    # What a null handler does is nothing, and it keeps messages from stderr.
    assert states() == [(logging.NOTSET, True, 1), (logging.INFO, True, 1)]
    assert caplog.messages == ["Importing Loud, which takes some seconds; once in a process."]
    assert logging.getLogger("loud.chatty").filters == []


@pytest.mark.usefixtures("loud")
def test_logging_is_undone_only_where_wanted(caplog: pytest.LogCaptureFixture) -> None:
    with quiet_import("Loud", "loud"):
        import loud  # noqa: F401

    assert states() == [(logging.ERROR, False, 2)] * 2
    assert "installed" in caplog.messages


def import_what_is_missing() -> None:
    with quiet_import("Loud", "loud", undo_logging=True, drop_messages_of=("loud.chatty",)):
        import loud  # noqa: F401
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401


@pytest.mark.usefixtures("loud")
def test_an_import_that_fails_leaves_no_trace_either() -> None:
    filters, variables = list(warnings.filters), dict(os.environ)

    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        import_what_is_missing()

    assert (list(warnings.filters), dict(os.environ)) == (filters, variables)
    assert states() == [(logging.NOTSET, True, 1)] * 2
    assert logging.getLogger("loud.chatty").filters == []


@pytest.mark.skipif(sys.platform == "win32", reason="no C library that ctypes finds by None")
def test_openmp_still_finds_the_variables() -> None:
    """They are gone from `os.environ`, and not from the environment of the C library."""
    code = (
        "import ctypes, os\n"
        "from crystallize_opt.runtime.quiet_import import quiet_import\n"
        "with quiet_import('Loud', 'sys'):\n"
        "    os.environ['KMP_ADDED'] = 'yes'\n"
        "getenv = ctypes.CDLL(None).getenv\n"
        "getenv.restype = ctypes.c_char_p\n"
        "print('KMP_ADDED' in os.environ, getenv(b'KMP_ADDED'))\n"
    )
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "False b'yes'\n"
