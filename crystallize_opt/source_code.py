"""The code of functions and classes: its digest, and the names that it uses.

Comments and layout do not count. Only the user's own code is read: the code of the standard
library and of installed distributions is known by name and version.
"""

from __future__ import annotations

import ast
import dis
import functools
import gc
import hashlib
import importlib.util
import inspect
import itertools
import linecache
import sys
import sysconfig
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path, PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

_BEGAN = time.time()
_KIND = 0x3FF  # The flags of code that say what it is, not which `__future__` it inherited.

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def digest(content: bytes) -> str:
    """Return a short digest of some bytes."""
    return hashlib.sha256(content).hexdigest()[:16]


def is_users(file: str | None) -> bool:
    """Whether a file holds the user's own code: not that of Python, a distribution or this package.

    Code without a file, typed at a prompt or in a notebook, is the user's.
    """
    if file is None or file.startswith("<frozen"):
        return False
    if file.startswith("<"):
        return True
    path = PurePath(file)
    if not {"site-packages", "dist-packages"}.isdisjoint(path.parts):
        return False
    return not any(path.is_relative_to(library) for library in _libraries())


@functools.cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    here = PurePath(__file__).parent
    return (*(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), str(here))


# Digests ------------------------------------------------------------------------------------------


def source_digest(code: Any) -> str | None:
    """Return a digest of the code of a function or class, without its comments and layout.

    Returns:
        None if the source is unknown: code typed at a prompt, or compiled code.
    """
    if isinstance(code, type):
        node = _class_node(code)
    else:
        code = getattr(code, "__code__", code)
        node = _function_node(code) if isinstance(code, CodeType) else None
    return None if node is None else digest(_shape(node).encode("utf-8", "surrogatepass"))


def bytecode_digest(code: CodeType) -> str:
    """Return a digest of compiled code; it holds within one version of Python."""
    return digest(repr(_compiled(code)).encode("utf-8", "surrogatepass"))


def _compiled(code: CodeType) -> tuple[Any, ...]:
    constants = [_compiled(c) if isinstance(c, CodeType) else _constant(c) for c in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return (sys.version_info[:2], code.co_code.hex(), names, code.co_flags & _KIND, constants)


def _constant(value: Any) -> str:
    items = sorted(map(repr, value)) if isinstance(value, frozenset) else value
    return f"{type(value).__name__} {items!r}"


def module_digest(name: str) -> str | None:
    """Return a digest of a module's file, which is not imported for it; None if it is no user's."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for depth in range(len(rest)):  # `find_spec` of a dotted name would import its parents.
            path = None if spec is None else spec.submodule_search_locations
            inner = ".".join([top, *rest[: depth + 1]])
            spec = None if path is None else PathFinder.find_spec(inner, path)
    except (ImportError, ValueError):
        return None
    return _file_digest(None if spec is None or not spec.has_location else spec.origin)


def loaded_module_digest(module: ModuleType) -> str | None:
    """Return a digest of the file of a module that is imported; None if it is no user's."""
    return _file_digest(getattr(module, "__file__", None))


def _file_digest(file: str | None) -> str | None:
    if file is None or not file.endswith(".py") or not is_users(file):
        return None
    linecache.checkcache(file)
    tree = _parsed("".join(linecache.getlines(file)))
    return None if tree is None else digest(_shape(tree).encode("utf-8", "surrogatepass"))


@functools.lru_cache(maxsize=64)
def _parsed(source: str) -> ast.Module | None:
    # Python 3.11 raises SystemError if an object that is garbage collected meanwhile parses code,
    # too, as the report of a forgotten asyncio task does:
    # https://github.com/python/cpython/issues/106905
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    finally:
        if was_enabled:
            gc.enable()


@functools.lru_cache(maxsize=64)
def _definitions(source: str) -> Mapping[tuple[str, int], list[_Definition]]:
    """Return the functions of a source, by name and first line."""
    found: dict[tuple[str, int], list[_Definition]] = {}
    for node in ast.walk(_parsed(source) or ast.Module([], [])):
        if isinstance(node, ast.Lambda):
            found.setdefault(("<lambda>", node.lineno), []).append(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            found.setdefault((node.name, first), []).append(node)
    return found


def _function_node(code: CodeType) -> ast.AST | None:
    source = _source_of(code)
    if source and _was_edited(code.co_filename):
        written = [each for each in _compiled_from(source) if _is_same(each, code)]
        if not written:
            return None
        code = written[0]
    nodes = _definitions(source).get((code.co_name, code.co_firstlineno), []) if source else []
    if len(nodes) == 1:
        return nodes[0]
    # Several lambdas begin in one line: find the one with the positions of this code.
    places = [p for p in code.co_positions() if p[2] is not None and p[3] and p[0] is not None]
    within = [n for n in nodes if isinstance(n, ast.Lambda) and _contains(n.body, places)]
    return min(within, key=lambda n: len(ast.unparse(n)), default=None)


def _was_edited(file: str) -> bool:
    """Whether a file was written after this process began: what runs may be older than its text."""
    try:
        return Path(file).stat().st_mtime > _BEGAN
    except OSError:  # A cell of a notebook, whose text does not change.
        return False


@functools.lru_cache(maxsize=64)
def _compiled_from(source: str) -> tuple[CodeType, ...]:
    try:
        return tuple(_codes(compile(source, "<source>", "exec", dont_inherit=True)))
    except (SyntaxError, ValueError):
        return ()


def _is_same(code: CodeType, other: CodeType) -> bool:
    """Whether two codes do the same under the same name, wherever they are written."""
    return code.co_qualname == other.co_qualname and _compiled(code) == _compiled(other)


def _contains(node: ast.AST, places: Iterable[tuple[int | None, ...]]) -> bool:
    start, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
    return all(start <= (p[0], p[2]) and (p[1], p[3]) <= end for p in places)


def _class_node(cls: type) -> ast.AST | None:
    source = _source_of(cls)
    if not source:  # In a notebook, only the functions know in which cell they were written.
        own = [each for each in functions_of(cls) if each.__qualname__.startswith(cls.__qualname__)]
        source = _source_of(own[0].__code__) if own else None
    found = None
    for node in _nodes_named(_parsed(source or "") or ast.Module([], []), cls.__qualname__):
        found = node  # The last definition of a name is the one in use.
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or ""
    if found is not None and _was_edited(file) and not _is_made_by(found, cls):
        return None
    return found


def _is_made_by(node: ast.ClassDef, cls: type) -> bool:
    """Whether the functions and the plain values of a class are those of its definition."""
    for each in node.body:
        if isinstance(each, (ast.Assign, ast.AnnAssign)) and isinstance(each.value, ast.Constant):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if any(vars(cls).get(name, each.value.value) != each.value.value for name in names):
                return False
    own = [each.__code__ for each in functions_of(cls) if each.__module__ == cls.__module__]
    return all(_function_node(code) is not None for code in own)


def _nodes_named(tree: ast.AST, name: str, above: str = "") -> Iterator[ast.ClassDef]:
    for node in ast.iter_child_nodes(tree):
        inner = above
        if isinstance(node, ast.ClassDef):
            if above + node.name == name:
                yield node
            inner = f"{above}{node.name}."
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner = f"{above}{node.name}.<locals>."
        yield from _nodes_named(node, name, inner)


def _source_of(code: Any) -> str | None:
    try:
        if isinstance(code, type):
            file = inspect.getsourcefile(code)
            linecache.checkcache(file)
            lines = linecache.getlines(file) if file else []
        else:
            lines, _ = inspect.findsource(code)
    except (OSError, TypeError):
        return None
    source = "".join(lines)
    return source if _parsed(source) is not None else textwrap.dedent(source)


def _shape(node: ast.AST) -> str:
    """Return a text of a syntax tree that is the same in every version of Python."""
    parts = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        if value is None or value == [] or name in ("kind", "ctx", "type_comment"):
            continue
        items = value if isinstance(value, list) else [value]
        shown = [_shape(each) if isinstance(each, ast.AST) else _constant(each) for each in items]
        parts.append(f"{name}=[{','.join(shown)}]")
    return f"({' '.join(parts)})"


# Names --------------------------------------------------------------------------------------------


_PARTS_OF_METHODS = ("__func__", "fget", "fset", "fdel", "func")


def functions_of(cls: type) -> list[FunctionType]:
    """Return the functions in the namespace of a class, also those within descriptors.

    Not those that dataclasses, attrs and named tuples generate: they follow from the fields.
    """
    found: list[FunctionType] = []
    for value in vars(cls).values():
        parts = [value, *(getattr(value, name, None) for name in _PARTS_OF_METHODS)]
        if not isinstance(value, FunctionType) and hasattr(type(value), "__get__"):
            parts += getattr(value, "__dict__", {}).values()  # Of a descriptor of the user's.
        found += [each for each in parts if isinstance(each, FunctionType)]
    for function in found:  # The list grows meanwhile, until no function wraps another.
        inner = getattr(function, "__wrapped__", None)
        found += [inner] if isinstance(inner, FunctionType) else []
    if any(hasattr(cls, name) for name in _HAS_FIELDS):
        found = [f for f in found if not f.__code__.co_filename.startswith(_GENERATED)]
    return found


_HAS_FIELDS = ("__dataclass_fields__", "__attrs_attrs__", "_field_defaults")
_GENERATED = ("<string>", "<attrs generated")


def is_in_body(function: FunctionType, cls: type) -> bool:
    """Whether a function is written in the body of a class, not put there by a decorator or so."""
    is_of_module = function.__globals__.get("__name__") == cls.__module__
    return is_of_module and function.__code__.co_qualname.startswith(f"{cls.__qualname__}.")


def globals_of_body(cls: type) -> dict[str, Any]:
    """Return the global names that a class uses outside of its functions, and their values.

    Those are in its decorators, bases and default values, and in the decorators and default values
    of its functions. Empty if the source is unknown.
    """
    node = _class_node(cls)
    space = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    found = dict(_named(node, space)) if node is not None else {}
    return {path: value for path, value in found.items() if not _is_of_library(value)}


def _named(node: ast.AST, space: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names in a syntax tree outside of functions, as `_paths` does."""
    if isinstance(node, (ast.Name, ast.Attribute)):
        value = _value_of(node, space)
        if value is not _UNKNOWN:
            yield ast.unparse(node), value
            return
    inner: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        defaults = [*node.args.defaults, *node.args.kw_defaults]
        inner = [*node.decorator_list, *(each for each in defaults if each is not None)]
    for each in inner:
        yield from _named(each, space)


_UNKNOWN = object()


def _value_of(node: ast.expr, space: Mapping[str, Any]) -> Any:
    """Return the value of a global name, or of one in a user's module."""
    if isinstance(node, ast.Name):
        return space.get(node.id, _UNKNOWN) if isinstance(node.ctx, ast.Load) else _UNKNOWN
    if isinstance(node, ast.Attribute) and is_users_module(owner := _value_of(node.value, space)):
        return getattr(owner, node.attr, None)
    return _UNKNOWN


def closure_of(function: FunctionType) -> dict[str, Any]:
    """Return the variables of outer functions that a function uses, and their values."""
    found = {}
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # Not assigned yet.
            continue
    return found


def globals_of(function: FunctionType) -> dict[str, Any]:
    """Return the global names that a function uses, and their values.

    Of a module of the user, the attributes that the function uses; the module itself only if the
    function does something else with it. A module that the function imports when it runs is not
    imported here: its value is a digest of its file.
    """
    space = function.__globals__
    found: dict[str, Any] = {}
    for code in _codes(function.__code__):
        instructions = [each for each in dis.get_instructions(code) if each.opname not in _PASSED]
        found.update(_paths(instructions, space))
        found.update(_imports(instructions, space))
    return {path: value for path, value in found.items() if not _is_of_library(value)}


def _is_of_library(value: Any) -> bool:
    return isinstance(value, ModuleType) and not is_users_module(value)


def is_users_module(value: Any) -> bool:
    """Whether a value is a module of the user."""
    if not isinstance(value, ModuleType):
        return False
    folders = getattr(value, "__path__", ())  # All that a package without an `__init__` has.
    return is_users(getattr(value, "__file__", None) or next(iter(folders), None))


def _paths(code: Sequence[dis.Instruction], space: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the global names in some code, and the names in the user's modules, as `a.b`."""
    path, module = "", None  # Of the user, and loaded by the instruction before.
    for each, following in itertools.pairwise(code):  # The last one leaves the code.
        name = str(each.argval)
        if each.opname in _OF_ATTRIBUTES and module is not None:
            path, value = f"{path}.{name}", getattr(module, name, None)
        elif each.opname in ("LOAD_GLOBAL", "LOAD_NAME") and name in space:
            path, value = name, space[name]
        else:
            module = None
            continue
        module = value if is_users_module(value) else None
        if module is None or following.opname not in _OF_ATTRIBUTES:
            yield path, value


_OF_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
# Instructions that may stand between a module and the attribute that is taken from it.
_PASSED = frozenset({"CACHE", "EXTENDED_ARG", "PUSH_NULL", "NOP"})


def _imports(
    code: Sequence[dis.Instruction], space: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield the user's modules that some code may import, as `import a.b`, and their digests.

    Those are also the names that are taken from a package, as far as they are modules.
    """
    for number, each in enumerate(code):
        if each.opname != "IMPORT_NAME":
            continue
        # The instructions before it load the dots of a relative import, and the names or None.
        level, taken = code[number - 2].argval, code[number - 1].argval or ()
        try:
            written = "." * level + str(each.argval)
            name = importlib.util.resolve_name(written, space.get("__package__"))
        except ImportError:  # A relative import outside of a package.
            continue
        for imported in (name, *(f"{name}.{inner}" for inner in taken)):
            if (made := module_digest(imported)) is not None:
                yield f"import {imported}", made


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
