"""A look at the source of a workflow, when it is registered, for calls whose answer a replay could not repeat.

What a name means is looked up where the function would find it, and a call is told by what it is, not by how it is
spelled: `from time import time as t` is found, a function of one's own called `random` is not. What cannot be looked up
without running code is left alone: a warning that is wrong would teach people to overlook it.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from dramaturg.nondeterminism import CALLS, ENVIRON, advice_on

#: On a line with this comment nothing is warned of.
SILENCE: Final = "# dramaturg: ok"


class DeterminismWarning(UserWarning):
    """Workflow code calls something whose answer a replay could not repeat; the message names line and replacement."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One call.

    Attributes:
      what: the call, as in ``time.time()``.
      advice: what to do instead.
      line: in its file.
    """

    what: str
    advice: str
    line: int


def warn_of(fn: Callable[..., Any], workflow: str) -> None:
    """Warn of each call in a workflow's function that a replay could not repeat."""
    file = fn.__code__.co_filename
    for found in findings_in(fn):
        text = (
            f"workflow {workflow!r} ({file}:{found.line}) uses {found.what}, which a replay could not repeat: "
            f"{found.advice}; or say {SILENCE!r} on that line"
        )
        noted = fn.__globals__.setdefault("__warningregistry__", {})
        warnings.warn_explicit(text, DeterminismWarning, file, found.line, fn.__module__, noted)


def findings_in(fn: Callable[..., Any]) -> list[Finding]:
    """The calls in a function that a replay could not repeat, in order of their lines."""
    tree = _tree_of(fn)
    if tree is None:
        return []
    file = fn.__code__.co_filename
    found = _Look(_Names(fn, tree)).findings(tree)
    return [each for each in sorted(found, key=lambda each: each.line) if not _is_silenced(file, each.line)]


def _is_silenced(file: str, line: int) -> bool:
    return SILENCE in " ".join(linecache.getline(file, line).split())


def _tree_of(fn: Callable[..., Any]) -> ast.AsyncFunctionDef | None:
    try:
        lines, first = inspect.getsourcelines(fn)
        # Whatever the function is indented by, it is one level within this.
        module = ast.parse("if True:\n" + "".join(lines) if lines[0][:1].isspace() else "".join(lines))
    except (OSError, TypeError, SyntaxError, IndexError):  # typed into a console, or made by a program
        return None
    ast.increment_lineno(module, first - (2 if lines[0][:1].isspace() else 1))
    found = (node for node in ast.walk(module) if isinstance(node, ast.AsyncFunctionDef))
    return next(found, None)


class _Names:
    """What the names in a function mean."""

    def __init__(self, fn: Callable[..., Any], tree: ast.AsyncFunctionDef) -> None:
        self._globals = fn.__globals__
        self._closure = _closure_of(fn)
        self._imported: dict[str, str] = {}
        self._own: set[str] = set()
        for node in ast.walk(tree):
            match node:
                case ast.Import():
                    self._imported |= {each.asname or each.name.partition(".")[0]: _top(each) for each in node.names}
                case ast.ImportFrom(level=0):
                    self._imported |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
                case ast.Name(ctx=ast.Store() | ast.Del()):
                    self._own.add(node.id)
                case ast.arg():
                    self._own.add(node.arg)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if node is not tree:
                    self._own.add(node.name)
                case _:
                    pass

    def meaning(self, node: ast.expr) -> tuple[str, object]:
        """The dotted name of what an expression means, empty where it is not known; and the thing itself if it is there."""
        if isinstance(node, ast.Name):
            return self._of_name(node.id)
        if isinstance(node, ast.Attribute):
            name, thing = self.meaning(node.value)
            return _attribute(name, thing, node.attr)
        return "", None

    def _of_name(self, name: str) -> tuple[str, object]:
        if name in self._own:
            return "", None
        if name in self._imported:
            dotted = self._imported[name]
            return dotted, _loaded(dotted)
        for place in (self._closure, self._globals, vars(builtins)):
            if name in place:
                return _dotted(place[name]), place[name]
        return "", None


def _top(each: ast.alias) -> str:
    return each.name if each.asname else each.name.partition(".")[0]


def _closure_of(fn: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # it is assigned later
            found[name] = None
    return found


def _loaded(dotted: str) -> object:
    """What is there already under a dotted name; nothing is imported for it."""
    module, _, name = dotted.rpartition(".")
    return sys.modules.get(dotted) or getattr(sys.modules.get(module), name, None)


def _attribute(name: str, thing: object, attribute: str) -> tuple[str, object]:
    if not name:
        return "", None
    found = None
    if isinstance(thing, (ModuleType, type)):
        found = inspect.getattr_static(thing, attribute, None)
    # Under the name of the module that people know it by, and not of the one that it was defined in.
    dotted = _dotted(found) if found is not None and not isinstance(thing, type) else ""
    known = f"{name}.{attribute}"
    return (known if advice_on(known) or not dotted else dotted), found


def _dotted(thing: object) -> str:
    """The name of a thing by which the table knows it."""
    known = CALLS.get(id(thing))
    if known is not None:
        return known
    if isinstance(thing, ModuleType):
        return thing.__name__
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    return f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else ""


class _Look(ast.NodeVisitor):
    """Gathers the calls."""

    def __init__(self, names: _Names) -> None:
        self._names = names
        self._found: list[Finding] = []
        self._passed: set[str] = set()

    def findings(self, tree: ast.AsyncFunctionDef) -> list[Finding]:
        """All in the body of a function."""
        self._passed = {name for node in ast.walk(tree) for name in self._passed_to_side_effect(node)}
        for node in tree.body:
            self.visit(node)
        return self._found

    def visit_Call(self, node: ast.Call) -> None:
        name, _ = self._names.meaning(node.func)
        advice = advice_on(name) or self._advice_on_path(node.func)
        if advice:
            shown = name if advice_on(name) else ast.unparse(node.func)
            self._found.append(Finding(f"{shown.removeprefix('builtins.')}()", advice, node.lineno))
        if name.startswith("os.environ."):
            self._note_environ(name.removeprefix("os.environ."), node)
        is_recorded = _is_side_effect(name)
        for child in ast.iter_child_nodes(node):
            # What is passed to side_effect() is called once, and its answer is recorded.
            if not (is_recorded and isinstance(child, ast.Lambda)):
                self.visit(child)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load) and self._names.meaning(node.value)[0] == "os.environ":
            self._found.append(Finding("os.environ, to write", ENVIRON, node.lineno))
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        names = [
            self._names.meaning(each.func if isinstance(each, ast.Call) else each)[0] for each in node.decorator_list
        ]
        is_other = any(name in ("dramaturg.steps.step", "dramaturg.workflows.workflow") for name in names)
        if not is_other and node.name not in self._passed:
            self.generic_visit(node)

    def _passed_to_side_effect(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Call) and _is_side_effect(self._names.meaning(node.func)[0]):
            yield from (each.id for each in node.args[:1] if isinstance(each, ast.Name))

    def _note_environ(self, method: str, node: ast.Call) -> None:
        if method in ("update", "setdefault", "pop", "popitem", "clear"):
            self._found.append(Finding(f"os.environ.{method}()", ENVIRON, node.lineno))

    def _advice_on_path(self, func: ast.expr) -> str:
        """Of a method of ``Path(…)``, whose value is not known but what it is."""
        if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Call):
            name, _ = self._names.meaning(func.value.func)
            if name.startswith("pathlib."):
                return advice_on(f"pathlib.Path.{func.attr}")
        return ""


def _is_side_effect(name: str) -> bool:
    return name == "dramaturg.inside.side_effect"
