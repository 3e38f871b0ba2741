"""Values as plain data and back.

Plain data are the values JSON keeps: None, bool, int, float, str, lists, and dicts of strings.
`encode` writes everything else with a tag, a dict with one key: `{"tuple": [1, 2]}`. Dicts are
tagged too, so that no value looks like a tag. User objects are never serialised, only described by
a text, and `decode` imports and runs no user code.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

from crystallize_opt.errors import UsageError

_DEEPEST = 100  # Levels of containers. Each takes up to three in JSON, which fails near 1000.
_SHOWN_DEPTH = 20  # Levels of containers in a description.
_OBJECT_DEPTH = 2  # Levels of objects within objects whose attributes are described.
_SHOWN = 200  # Characters of a description.
_BITS = 14_000  # Python converts integers of up to 4300 digits from and to text.
_SCALARS = (bool, int, float, str)

Other = Callable[[Any], Any]
"""Encodes a value that has no exact form."""

P = ParamSpec("P")
R = TypeVar("R")


def _bounded(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the recursion error for a value that contains itself into a `UsageError`."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RecursionError:
            raise _too_deep() from None

    return call


def _too_deep() -> UsageError:
    return UsageError(
        f"A value that contains itself, or is nested more than {_DEEPEST} levels deep, cannot be "
        "written as plain data."
    )


@dataclasses.dataclass(frozen=True)
class StoredObject:
    """Stands for an object that was not stored; `text` describes the object."""

    text: str

    def __repr__(self) -> str:
        return f"<{self.text}>"


def as_description(value: Any) -> dict[str, str]:
    """Return the description of an object, tagged as `encode` writes it."""
    return {"object": described(value)}


# Encoding and decoding ----------------------------------------------------------------------------


def encode(value: Any, *, other: Other = as_description) -> Any:
    """Return a value as plain data, from which `decode` restores the value with all its types.

    None, bool, int, float, complex, str, bytes, Decimal, Fraction, range, UUID, paths, dates, times
    and durations of the standard library are exact, and so are lists, tuples, dicts, sets and
    frozensets of these. Instances of subclasses, such as an `enum.StrEnum`, are other objects. The
    members of a set are written in one order, whatever PYTHONHASHSEED is.

    Args:
        value: The value.
        other: Encodes every other object.

    Raises:
        UsageError: The value contains itself, or is nested more than 100 levels deep.

    Example:
        >>> encode({"layers": (8, 8.0), "at": float("inf")})
        {'dict': [['layers', {'tuple': [8, 8.0]}], ['at', {'float': 'inf'}]]}
        >>> decode(encode({"layers": (8, 8.0)}))
        {'layers': (8, 8.0)}
        >>> decode(encode(len))
        <builtins.len>
    """
    try:  # `_bounded` would double the time for a short value.
        return _encode(value, other, 0)
    except RecursionError:
        raise _too_deep() from None


def _encode(value: Any, other: Other, level: int) -> Any:
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    if kind is int:
        return value if value.bit_length() < _BITS else {"int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind in _CONTAINERS:
        if level == _DEEPEST:
            raise _too_deep()
        return _encode_container(value, kind, other, level + 1)
    if kind is StoredObject:
        return {"object": value.text}
    if (written := _encode_standard(value, kind)) is not None:
        return written
    return other(value)


_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})


def _encode_container(value: Any, kind: type, other: Other, level: int) -> Any:
    if kind is dict:
        pairs = value.items()
        return {"dict": [[_encode(k, other, level), _encode(v, other, level)] for k, v in pairs]}
    items = [_encode(item, other, level) for item in value]
    if kind is set or kind is frozenset:
        items.sort(key=_to_text)
    return items if kind is list else {kind.__name__: items}


def _to_text(written: Any) -> str:
    import json

    return json.dumps(written, separators=(",", ":"), sort_keys=True, default=repr)


def _encode_standard(value: Any, kind: type) -> dict[str, Any] | None:
    """Return a tagged value of the standard library, or None if it has no exact form."""
    module = kind.__module__.partition(".")[0]  # `pathlib._local` in Python 3.13
    tag, write = _WRITERS.get((module, kind.__qualname__), ("", None))
    if write is None:
        return None
    content = write(value)
    return None if content is None else {tag: content}


def _moment(value: Any) -> str | None:
    """Return a time or datetime as text, or None if the text would lose a part."""
    zone = value.tzinfo
    is_offset = zone is None or (type(zone).__module__, type(zone).__name__) == _OFFSET
    return value.isoformat() if is_offset and not value.fold else None


_OFFSET = ("datetime", "timezone")
# Name the classes, because importing their modules takes longer than importing this package.
_WRITERS: Mapping[tuple[str, str], tuple[str, Callable[[Any], Any]]] = {
    ("builtins", "bytes"): ("bytes", bytes.hex),
    ("builtins", "complex"): ("complex", lambda z: [encode(z.real), encode(z.imag)]),
    ("builtins", "range"): ("range", lambda r: [encode(int(n)) for n in (r.start, r.stop, r.step)]),
    ("decimal", "Decimal"): ("decimal", str),
    ("fractions", "Fraction"): ("fraction", lambda q: [encode(q.numerator), encode(q.denominator)]),
    ("uuid", "UUID"): ("uuid", str),
    ("datetime", "date"): ("date", lambda date: date.isoformat()),
    ("datetime", "time"): ("time", _moment),
    ("datetime", "datetime"): ("datetime", _moment),
    ("datetime", "timedelta"): ("timedelta", lambda d: [d.days, d.seconds, d.microseconds]),
    **{
        ("pathlib", name): ("path", lambda path: [type(path).__name__, str(path)])
        for name in ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")
    },
}


def decode(data: Any) -> Any:
    """Return the value that `encode` wrote; a `StoredObject` if it was only described.

    A value that is not plain data is returned unchanged. A path of another operating system is
    returned as a pure path.

    Raises:
        UsageError: The data are not what `encode` writes.
    """
    kind = type(data)
    if kind is list:
        return [decode(item) for item in data]
    if kind is not dict:
        return data
    try:
        ((tag, content),) = data.items()
        return _READERS[tag](content)
    except UsageError:
        raise
    except _NOT_PLAIN as error:
        raise UsageError(f"Not plain data as encode() writes them ({error!r}): {data!r}") from error


_NOT_PLAIN = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def _stored_object(text: Any) -> StoredObject:
    if type(text) is not str:
        raise TypeError(f"a description is a text, not {text!r}")
    return StoredObject(text)


def _path(content: Any) -> Any:
    import pathlib

    name, text = content
    if name not in ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath"):
        raise ValueError(f"{name!r} is no class of paths")
    if name != type(pathlib.Path()).__name__ and not name.startswith("Pure"):
        name = f"Pure{name}"
    return getattr(pathlib, name)(text)


def _of_module(module: str, name: str, method: str = "") -> Callable[[Any], Any]:
    """Return a function that builds a value of a class of the standard library."""

    def make(content: Any) -> Any:
        maker = getattr(import_module(module), name)
        maker = getattr(maker, method) if method else maker
        return maker(*decode(content)) if type(content) is list else maker(content)

    return make


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "object": _stored_object,
    "int": lambda text: int(text, 16),
    "float": float,
    "tuple": lambda items: tuple([decode(item) for item in items]),
    "dict": lambda pairs: {decode(key): decode(item) for key, item in pairs},
    "set": lambda items: {decode(item) for item in items},
    "frozenset": lambda items: frozenset([decode(item) for item in items]),
    "bytes": bytes.fromhex,
    "complex": lambda parts: complex(*decode(parts)),
    "range": lambda numbers: range(*decode(numbers)),
    "decimal": _of_module("decimal", "Decimal"),
    "fraction": _of_module("fractions", "Fraction"),
    "uuid": _of_module("uuid", "UUID"),
    "date": _of_module("datetime", "date", "fromisoformat"),
    "time": _of_module("datetime", "time", "fromisoformat"),
    "datetime": _of_module("datetime", "datetime", "fromisoformat"),
    "timedelta": _of_module("datetime", "timedelta"),
    "path": _path,
}


# Describing ---------------------------------------------------------------------------------------


@_bounded
def described(value: Any) -> str:
    """Return a description of an object: without addresses, and the same in every process.

    Functions and classes are described by name; enums by class and name; dataclasses and named
    tuples by class and fields; numpy arrays by type, shape and a digest of their content; other
    objects by their `repr`, or by class and attributes if their class defines no `repr`.

    Example:
        >>> described(len), described(2), described({"b", "a"})
        ('builtins.len', 'builtins.int: 2', "builtins.set: {'a', 'b'}")
    """
    if type(value) is StoredObject:
        return value.text
    if type(getattr(value, "__qualname__", None)) is str:
        return _qualified(value)
    text = _text(value, _SHOWN_DEPTH, _OBJECT_DEPTH)
    if len(text) > _SHOWN:
        text = f"{text[:_SHOWN]}… ({_digest(text.encode('utf-8', 'surrogatepass'))})"
    return f"{_qualified(type(value))}: {text}"


def _qualified(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}.{value.__qualname__}"


def _text(value: Any, levels: int, depth: int) -> str:
    """Return a `repr` that is the same in every process.

    Args:
        value: The value.
        levels: How many levels of containers to show.
        depth: How many levels of objects within objects to show.
    """
    kind = type(value)
    if kind is int and value.bit_length() >= _BITS:
        return hex(value)
    if value is None or kind in _SCALARS:
        return repr(value)
    if kind is StoredObject:
        return value.text  # type: ignore[no-any-return]
    if inspect.isroutine(value):
        return described(value)

    def shown(items: Iterable[Any]) -> list[str]:
        return [_text(item, levels - 1, depth) for item in items]

    if kind in _CONTAINERS or isinstance(value, (set, frozenset)):
        return _container_text(value, kind, shown) if levels else "..."
    return _object_text(value, levels, depth)


def _object_text(value: Any, levels: int, depth: int) -> str:
    kind: Any = type(value)
    if is_of(kind, "numpy", "generic"):
        item = value.item()
        return repr(item) if type(item) is kind else _text(item, levels, depth)
    if is_of(kind, "numpy", "ndarray"):
        return f"array({', '.join(f'{k}={v!r}' for k, v in _array(value).items())})"
    if isinstance(value, enum.Enum) and type(value.value) not in _SCALARS:
        return f"<{kind.__name__}.{value.name}>"
    if (fields := _fields(value)) is not None and _has_generated_repr(value):
        name = kind.__name__ if isinstance(value, tuple) else kind.__qualname__
        return f"{name}({_fields_text(fields, levels - 1, depth) if levels else '...'})"
    if kind.__repr__ is not object.__repr__:
        try:
            return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
        except ValueError:  # A fraction or range of integers with too many digits for `repr`.
            return str(_encode_standard(value, kind))
    shown = _fields_text(_attributes(value), levels, depth - 1) if depth else ""
    return f"<{_qualified(kind)} object{' ' if shown else ''}{shown}>"


def _fields_text(fields: Mapping[str, Any], levels: int, depth: int) -> str:
    return ", ".join(f"{name}={_text(item, levels, depth)}" for name, item in fields.items())


def _container_text(value: Any, kind: type, shown: Callable[[Iterable[Any]], list[str]]) -> str:
    if kind is dict:
        pairs = zip(shown(value), shown(value.values()), strict=True)
        return f"{{{', '.join(f'{key}: {item}' for key, item in pairs)}}}"
    if kind is list:
        return f"[{', '.join(shown(value))}]"
    if kind is tuple:
        return f"({', '.join(shown(value))}{',' * (len(value) == 1)})"
    members = f"{{{', '.join(sorted(shown(value)))}}}" if value else ""
    return members if members and kind is set else f"{kind.__name__}({members})"


def _digest(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()[:16]


def is_of(kind: type, library: str, name: str) -> bool:
    """Whether a class is a class of a library or derived from it; imports nothing."""
    return any(
        each.__qualname__ == name and each.__module__.partition(".")[0] == library
        for each in kind.__mro__
    )


def _array(array: Any) -> dict[str, Any]:
    if array.dtype.hasobject or array.dtype.kind == "T":  # their memory holds addresses
        content = _text(array.tolist(), _SHOWN_DEPTH, _OBJECT_DEPTH).encode("utf-8", "replace")
    else:
        content = array.tobytes()
    dtype = str(array.dtype if array.dtype.names else array.dtype.str)
    return {"dtype": dtype, "shape": list(array.shape), "digest": _digest(content)}


def _fields(value: Any) -> dict[str, Any] | None:
    """Return the fields of a named tuple or dataclass; None for other objects."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=True))
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return None
    names = [field.name for field in dataclasses.fields(value)]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _has_generated_repr(value: Any) -> bool:
    written = type(value).__repr__
    if isinstance(value, tuple):
        return written.__module__ == "collections"
    return hasattr(written, "__wrapped__")  # the recursion guard of a dataclass' `repr`


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes in the `__dict__` and the slots of an object."""
    found = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            is_private = name.startswith("__") and not name.endswith("__")
            name = f"_{cls.__name__.lstrip('_')}{name}" if is_private else name
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found.setdefault(name, getattr(value, name))
    return found
