"""Names and values as MLflow takes them: nothing is lost, and distinct names stay distinct."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Container, Iterable, Mapping

from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_TAG_VAL_LENGTH

from crystallize_opt.trials.curves import Curve
from crystallize_opt.trials.observation import Observation

PREFIX = "crystallize_opt."
"""Begins the names of the tags that only this package reads or explains."""

_LONGEST = 200  # MLflow takes 250 characters; some tags put a word before or after a name.
_CHARACTERS = r"/\w.\- " if os.name == "nt" else r"/\w.\- :"
_ALLOWED = re.compile(f"[{_CHARACTERS}]+")
_OTHERS = re.compile(f"[^{_CHARACTERS}]+")
_DIGITS = 12
_WITH_DIGEST = re.compile(rf".*-[0-9a-f]{{{_DIGITS}}}", re.DOTALL)


def safe_name(name: str) -> str:
    """Return the name under which MLflow takes a metric, a param or a tag.

    MLflow refuses some characters, long names, and names such as `../x` that lead elsewhere as a
    path. Such a name gets a digest of the original, so that distinct names stay distinct. So does a
    name that looks as if it had one.

    Example:
        >>> safe_name("acc"), safe_name("acc@5 (%)"), safe_name("../x")
        ('acc', 'acc_5 _-9b1f991037b1', '_x-d6b96a97d147')
    """
    is_path = posixpath.normpath(name) == name and name != "." and not name.startswith(("/", ".."))
    is_allowed = is_path and len(name) <= _LONGEST and _ALLOWED.fullmatch(name)
    if is_allowed and not _WITH_DIGEST.fullmatch(name):
        return name
    shown = _OTHERS.sub("_", name)
    if not is_path:
        shown = re.sub(r"[./]*/[./]*|^\.+", "_", shown)
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{shown[: _LONGEST - _DIGITS - 1]}-{digest}"


def sem_name(metric: str, metrics: Container[str]) -> str:
    """Return the name for the standard error of a metric; no other metric has this name."""
    name = f"{metric}.sem"
    while name in metrics:
        name += ".sem"
    return name


def curve_names(observation: Observation) -> dict[str, Curve]:
    """Return the learning curves of a trial by the names they have in MLflow.

    With one replicate, that is the metric's name; with several, each replicate has its own name.
    """
    found: dict[str, Curve] = {}
    for replicate in observation.replicates:
        for metric, curve in replicate.curves.items():
            name = metric
            while len(observation.replicates) > 1 and (name in observation or name == metric):
                name += f".replicate_{replicate.index}"
            found[name] = curve
    return found


def as_params(values: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """Return values as MLflow's params, and the tags that hold what the params cannot."""
    params, tags = {}, original_names(values)
    for name, value in values.items():
        key, text = safe_name(name), plain_text(value)
        if len(text) > MAX_PARAM_VAL_LENGTH:
            tags |= as_tags(f"{PREFIX}value.{key}", text)
            text = f"{text[: MAX_PARAM_VAL_LENGTH - 3]}..."
        params[key] = text
    return params, tags


def original_names(names: Iterable[str]) -> dict[str, str]:
    """Return a tag with the original of each name that MLflow takes in another form only."""
    tags: dict[str, str] = {}
    for name in names:
        if (key := safe_name(name)) != name:
            tags |= as_tags(f"{PREFIX}name.{key}", name)
    return tags


def as_tags(name: str, value: object) -> dict[str, str]:
    """Return a text as a tag; if it is too long for one, the rest as more tags: `….1.name`."""
    text = plain_text(value)
    parts = [text[i : i + MAX_TAG_VAL_LENGTH] for i in range(0, len(text), MAX_TAG_VAL_LENGTH)]
    return {f"{PREFIX}{i}.{name}" if i else name: part for i, part in enumerate(parts or [""])}


def plain_text(value: object) -> str:
    """Return a value as a text that every database takes: without NUL and lone surrogates."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001  (the user's code; the record goes on without this text)
        text = f"<{type(value).__name__}>"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
