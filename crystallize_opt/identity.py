"""The identity of any value, as plain data: what is compared when a stored run is resumed.

The rule, for all values alike:

- Values that `encode` writes exactly are those values, with their types.
- Any other object is its class and what `pickle` would store of it.
- Functions and classes are their code and what the code reaches: default values, the variables it
  closes over, and the global names it uses, if the code is the user's own. Library code is a name.
- Arrays, tensors and tables are their type, shape and a digest of their content.
- An object that `pickle` cannot store has no identity: its description says so.

The identity of a value is the same in every process, whatever PYTHONHASHSEED is.
"""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import enum
import functools
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from crystallize_opt.described_code import Code, as_text, digested, tell_apart, unordered, write
from crystallize_opt.errors import UsageError
from crystallize_opt.plain_data import described, encode, is_of
from crystallize_opt.source_code import (
    bytecode_digest,
    closure_of,
    digest,
    functions_of,
    globals_of,
    globals_of_body,
    is_in_body,
    is_users,
    loaded_module_digest,
    source_digest,
)

NO_IDENTITY = "(no identity)"
"""The key of a description of an object that has no identity."""

SOURCE = "(source)"
"""The key of a digest of code."""

_LONG = 1000  # Longer texts, and longer lists of single values, are a digest.


def describe(value: Any, known: Mapping[int, str] | None = None) -> Any:
    """Return the identity of a value as plain data, in which each part has a name.

    Equal values have equal descriptions, and values that differ in any part do not. Lists and dicts
    of texts are lists and dicts; all else is a dict whose keys are in parentheses.

    Args:
        value: The value.
        known: The `id` of objects that are described elsewhere, and their names.

    Raises:
        UsageError: The value is nested too deep, or is a list, tuple or dict that contains itself.

    Example:
        >>> describe({"rate": 0.1, "layers": (8, 8)})
        {'rate': 0.1, 'layers': {'(tuple)': [8, 8]}}
        >>> describe(len)
        {'(function)': 'builtins.len'}
    """
    try:
        return _Describer(known or {}).describe(value)
    except RecursionError:
        raise UsageError(
            "A value that contains itself, or is nested more than 100 levels deep or so, has no "
            "identity."
        ) from None


def identity(value: Any) -> str:
    """Return the identity of a value as a text.

    Equal values have equal texts, whatever PYTHONHASHSEED and the order of a dict or set are.
    Values of different types, as 1, 1.0 and True, are distinct, and so are values that `encode`
    writes differently, as `Decimal("1.0")` and `Decimal("1.00")`.

    Raises:
        UsageError: As `describe`.

    Example:
        >>> identity({"b": (1,), "a": 1.0})
        '{"a":1.0,"b":{"(tuple)":[1]}}'
    """
    return as_text(describe(value))


def without_identity(description: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the reason of each object in a description that has no identity."""
    if isinstance(description, dict):
        if NO_IDENTITY in description:
            yield path, description[NO_IDENTITY]
        for key, item in description.items():
            yield from without_identity(item, f"{path}.{key}".lstrip("."))
    elif isinstance(description, list):
        for number, item in enumerate(description):
            yield from without_identity(item, f"{path}[{number}]")


class _Describer:
    """Describes one value; code and objects that it meets again are described once."""

    def __init__(self, known: Mapping[int, str]) -> None:
        self._known = dict(known)
        self._done: dict[int, Any] = {}
        self._open: dict[int, int] = {}
        self._kept: list[Any] = []  # Keeps temporary objects alive, whose `id` must not be reused.
        self._codes: list[Code] = []

    def describe(self, value: Any) -> Any:
        found = self.of(value)
        for code in self._codes:  # The list grows meanwhile, by what the code reaches.
            of = code.value
            code.content = self._class(of) if isinstance(of, type) else self._function(of)
        tell_apart([code for code in self._codes if len(code.content) > 1])
        return write(found, set()) if self._codes else found

    def of(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is float:
            return encode(value + 0.0)  # 0.0 and -0.0 are equal.
        if kind is list or kind is tuple:
            return self._sequence(value, kind)
        if kind is dict:
            return self._mapping(value)
        if kind is set or kind is frozenset:
            return {f"({kind.__name__})": unordered([self.of(item) for item in value])}
        if kind is complex:
            return {"(complex)": [self.of(value.real), self.of(value.imag)]}
        written = encode(value, other=lambda _: _OTHER)
        if written is _OTHER:
            return self._once(value)
        if type(written) is dict:
            ((tag, content),) = written.items()
            return {f"({tag})": _short(content)}
        return _short(written)

    def _sequence(self, value: list[Any] | tuple[Any, ...], kind: type) -> Any:
        items = [self.of(item) for item in value]
        if len(items) > _LONG and not any(type(item) in _NOT_SINGLE for item in items):
            items = [f"{len(items)} items", digest(as_text(items).encode())]
            return {f"({kind.__name__} digest)": items}
        return items if kind is list else {"(tuple)": items}

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        if all(type(key) is str and not key.startswith("(") for key in value):
            return {key: self.of(item) for key, item in value.items()}
        pairs = [[self.of(key), self.of(item)] for key, item in value.items()]
        return {"(dict)": unordered(pairs)}

    def _once(self, value: Any) -> Any:
        """Describe an object; again only by its place, if it contains itself."""
        key = id(value)
        if key in self._known:
            return {"(known)": self._known[key]}
        if key in self._open:
            return {"(contains itself)": len(self._open) - self._open[key]}
        if key not in self._done:
            self._kept.append(value)
            if isinstance(value, (type, types.FunctionType)):
                self._done[key] = Code(value, described(value))
                self._codes.append(self._done[key])
                return self._done[key]
            self._open[key] = len(self._open)
            try:
                found = self._of_code(value)
                if found is None:
                    found = self._of_standard(value) or _content(value, self.of)
                if found is None:
                    found = self._object(value)
            finally:
                del self._open[key]
            self._done[key] = found
        return self._done[key]

    # Code -------------------------------------------------------------------------------------

    def _of_code(self, value: Any) -> dict[str, Any] | None:
        """Describe an object that stands for code, such as a method."""
        if isinstance(value, types.MethodType):
            return {"(method)": self.of(value.__func__), "(of)": self.of(value.__self__)}
        if isinstance(value, (classmethod, staticmethod)):
            return {f"({type(value).__name__})": self.of(value.__func__)}
        if isinstance(value, property):
            return {"(property)": [self.of(f) for f in (value.fget, value.fset, value.fdel)]}
        if isinstance(value, types.ModuleType):
            source = loaded_module_digest(value)
            return {"(module)": value.__name__, **({SOURCE: source} if source else {})}
        is_builtin = isinstance(value, types.BuiltinFunctionType)
        owner = getattr(value, "__self__", None)
        if isinstance(value, _METHODS) or (
            is_builtin and (owner is None or isinstance(owner, (types.ModuleType, type)))
        ):
            return {"(function)": described(value)}
        if isinstance(inner := getattr(value, "__wrapped__", None), types.FunctionType):
            return {"(class)": described(type(value)), "(wraps)": self.of(inner)}
        return None

    def _function(self, function: types.FunctionType) -> dict[str, Any]:
        found: dict[str, Any] = {"(function)": described(function)}
        code = function.__code__
        if _is_written_by_user(function):
            source = source_digest(code)
            found |= {SOURCE: source} if source else {"(bytecode)": bytecode_digest(code)}
            defaults = [*(function.__defaults__ or ()), function.__kwdefaults__ or {}]
            if defaults != [{}]:
                found["(defaults)"] = self.of(defaults)
            found |= self._reached("(uses)", globals_of(function))
        found |= self._reached("(closes over)", closure_of(function))
        own = {k: v for k, v in vars(function).items() if k != "__wrapped__"}
        return found | self._reached("(attributes)", own)

    def _class(self, cls: type) -> dict[str, Any]:
        found: dict[str, Any] = {"(code)": described(cls)}
        if not _is_of_users_module(cls):
            return found
        functions = [each for each in functions_of(cls) if _is_written_by_user(each)]
        source = source_digest(cls)
        if source is None:
            found |= self._reached("(methods)", {each.__name__: each for each in functions})
        else:
            found[SOURCE] = source
            uses: dict[str, Any] = globals_of_body(cls)
            for function in functions:
                if is_in_body(function, cls):
                    uses |= globals_of(function) | closure_of(function)
            uses.pop("__class__", None)  # The cell of `super()`.
            found |= self._reached("(uses)", uses)
            added = [self.of(each) for each in functions if not is_in_body(each, cls)]
            found |= {"(added functions)": added} if added else {}
        if issubclass(cls, enum.Enum):
            values = {name: member.value for name, member in cls.__members__.items()}
        else:
            values = {k: v for k, v in vars(cls).items() if _is_value(k, v)}
        found |= self._reached("(values)", values)
        bases = [self.of(base) for base in cls.__bases__ if base is not object]
        return found | ({"(bases)": bases} if bases else {})

    def _reached(self, key: str, names: Mapping[str, Any]) -> dict[str, Any]:
        found = {
            name: {SOURCE: value} if name.startswith("import ") else self.of(value)
            for name, value in sorted(names.items())
        }
        return {key: found} if found else {}

    # Objects ----------------------------------------------------------------------------------

    def _of_standard(self, value: Any) -> dict[str, Any] | None:
        """Describe an object whose parts `pickle` would give no names."""
        kind = type(value)
        if isinstance(value, enum.Enum):
            return {"(class)": self.of(kind), "(name)": value.name, "(value)": self.of(value.value)}
        if isinstance(value, functools.partial):
            parts = {"function": value.func, "args": value.args, "keywords": value.keywords}
            own = self._reached("(attributes)", vars(value))
            return {"(class)": self.of(kind), **self._mapping(parts), **own}
        return None

    def _object(self, value: Any) -> dict[str, Any]:
        kind = type(value)
        try:
            reduce = copyreg.dispatch_table.get(kind)
            reduced: Any = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        except RecursionError:
            raise
        except Exception as error:  # noqa: BLE001  (foreign code)
            return {NO_IDENTITY: f"{described(kind)} ({error})"}
        if isinstance(reduced, str):
            return {"(global)": f"{kind.__module__}.{kind.__qualname__} {reduced}"}
        parts: list[Any] = [*reduced, None, None, None]
        make, arguments, state, items, pairs = parts[:5]
        found = {"(class)": self.of(kind)}
        if make in _OF_CLASS and arguments:
            arguments = arguments[1:]
        elif make is not kind:
            found["(made by)"] = self.of(make)
        if arguments:
            found["(arguments)"] = self.of(list(arguments))
        found |= self._state(value, state)
        listed = list(items or ())
        paired = dict(pairs or ())
        is_ordered = isinstance(value, collections.OrderedDict)
        inner = listed or (list(paired.items()) if is_ordered else paired)
        return found | ({"(items)": self.of(inner)} if inner else {})

    def _state(self, value: Any, state: Any) -> dict[str, Any]:
        if state is None:
            return {}
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
            state = {**(state[0] or {}), **state[1]}  # The `__dict__` and the slots.
        elif dataclasses.is_dataclass(value) and isinstance(state, (list, tuple)):
            names = [field.name for field in dataclasses.fields(value)]
            if len(names) == len(state):
                state = dict(zip(names, state, strict=True))
        if isinstance(state, dict):
            # The version of scikit-learn is not a part of an estimator.
            state = {name: item for name, item in state.items() if name != "_sklearn_version"}
            written = self._mapping(state)
            return written if "(dict)" not in written else {"(state)": written}
        return {"(state)": self.of(state)}


_OTHER = {"": ""}
_NOT_SINGLE = (list, dict, Code)
_OF_CLASS = (copyreg.__newobj__, copyreg.__newobj_ex__)  # type: ignore[attr-defined]
_METHODS = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)


def _short(content: Any) -> Any:
    if isinstance(content, str) and len(content) > _LONG:
        return f"{len(content)} characters, {digest(content.encode('utf-8', 'surrogatepass'))}"
    return content


def _is_value(name: str, value: Any) -> bool:
    """Whether an entry of a class' namespace is a value, not a method or an entry of Python."""
    if name.startswith("_") and (name.endswith("_") or name in _OF_PYTHON):
        return False
    # A partial has `__get__` since Python 3.13, although it is no method yet.
    return isinstance(value, functools.partial) or not hasattr(type(value), "__get__")


_OF_PYTHON = ("_abc_impl", "_is_protocol", "_is_runtime_protocol")


def _is_of_users_module(cls: type) -> bool:
    module = sys.modules.get(cls.__module__)
    if cls.__module__ == "__main__" and not hasattr(module, "__file__"):
        return True
    return is_users(getattr(module, "__file__", None))


def _is_written_by_user(function: types.FunctionType) -> bool:
    return is_users(function.__code__.co_filename)


# Content that is not described part by part -------------------------------------------------------


def _content(value: Any, of: Callable[[Any], Any]) -> dict[str, Any] | None:
    """Describe an array, a tensor, a table, a lock or an enum; None for other objects."""
    kind = type(value)
    found = {"(class)": described(kind)}
    if is_of(kind, "numpy", "ndarray"):
        return found | _array(value, of)
    if is_of(kind, "numpy", "generic"):
        item = value.item()
        shown = repr(item) if type(item) is kind else of(item)
        return found | {"(dtype)": str(value.dtype), "(value)": shown}
    if is_of(kind, "torch", "Tensor") and str(value.layout) == "torch.strided":
        memory = value.detach().cpu().contiguous()
        content = memory.reshape(-1).view(_torch_bytes(memory)).numpy().tobytes()
        return found | {
            "(dtype)": str(value.dtype),
            "(shape)": list(value.shape),
            "(digest)": digest(content),
        }
    if is_of(kind, "pandas", "DataFrame"):
        columns = [_column(value.iloc[:, number], of) for number in range(value.shape[1])]
        return found | {"(columns)": columns, **_labels(value, of), "names": of(value.columns)}
    if is_of(kind, "pandas", "Series"):
        return found | {
            "(column)": _column(value, of),
            **_labels(value, of),
            "name": of(value.name),
        }
    if is_of(kind, "pandas", "Index"):
        return found | {"(column)": _column(value, of), "names": of(list(value.names))}
    if kind.__module__ == "_thread" and kind.__name__ in ("lock", "RLock"):
        return found  # A lock holds no value.
    if isinstance(value, types.MappingProxyType):
        return found | {"(items)": of(dict(value))}
    return None


def _array(array: Any, of: Callable[[Any], Any]) -> dict[str, Any]:
    if array.dtype.hasobject or array.dtype.kind == "T":  # Their memory holds addresses.
        content = digested(of(array.tolist()))
    else:
        content = digest(array.tobytes())
    dtype = str(array.dtype if array.dtype.names else array.dtype.str)
    return {"(dtype)": dtype, "(shape)": list(array.shape), "(digest)": content}


def _torch_bytes(tensor: Any) -> Any:
    import torch

    return torch.uint8 if tensor.numel() else tensor.dtype


def _column(column: Any, of: Callable[[Any], Any]) -> dict[str, Any]:
    dtype = column.dtype
    found = {"(dtype)": str(dtype), **_array(column.to_numpy(), of)}
    if is_of(type(dtype), "pandas", "CategoricalDtype"):
        found |= {"(categories)": of(dtype.categories), "(ordered)": of(dtype.ordered)}
    return found


def _labels(table: Any, of: Callable[[Any], Any]) -> dict[str, Any]:
    return {"index": of(table.index), "attrs": of(table.attrs)}
