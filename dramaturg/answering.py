"""What others may ask of a run while it is under way: functions that its code binds."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

from dramaturg_protocol.ambient import workflow_scope
from dramaturg_protocol.talk_names import check_name

F = TypeVar("F", bound=Callable[..., Any])


@overload
def on_query(name: F, /) -> F: ...
@overload
def on_query(name: str, /) -> Callable[[F], F]: ...
@overload
def on_query(name: str, fn: F, /) -> F: ...
def on_query(name: Any, fn: Any = None, /) -> Any:
    """Answer a query with a function: ``on_query("name", fn)``, or as a decorator inside the workflow.

    It is plain, and only looks at variables of the workflow: it is called whenever somebody asks (`Handle.query`), until
    the workflow ends and after that. What it would change or ask for is refused, or not there the next time.

    Parameters:
      name: of the query; as a decorator without one it is the function's.

    Raises:
      TypeError: the function is async, or none.
      RuntimeError: called outside a workflow.
    """
    if fn is None and isinstance(name, str):
        return _decorator(lambda decorated: on_query(name, decorated))
    name, fn = _named("query", name, fn)
    if inspect.iscoroutinefunction(fn):
        raise TypeError(f"on_query() takes a plain function, and {name!r} is async: a query only looks")
    workflow_scope("on_query()").dialogue.on_query(name, fn)
    return fn


@overload
def on_update(name: F, /) -> F: ...
@overload
def on_update(name: str | None = None, /, *, validator: Callable[..., object] | None = None) -> Callable[[F], F]: ...
@overload
def on_update(name: str, fn: F, /, validator: Callable[..., object] | None = None) -> F: ...
def on_update(name: Any = None, fn: Any = None, /, validator: Callable[..., object] | None = None) -> Any:
    """Have a function called for each update: ``on_update("name", fn)``, or as a decorator inside the workflow.

    It may change variables of the workflow, and as ``async def`` await steps; what it returns is the answer of
    `Handle.update`. Updates that come before wait for it.

    Parameters:
      name: of the update; as a decorator without one it is the function's.
      validator: a plain function that is called first, with the same arguments, and only looks: where it raises, the
        update is refused (`UpdateRejected`) and nothing of it is in the history.

    Raises:
      TypeError: the validator is async, or the function is none.
      RuntimeError: called outside a workflow.
    """
    if fn is None and (name is None or isinstance(name, str)):
        return _decorator(lambda decorated: on_update(*_named("update", name, decorated), validator))
    name, fn = _named("update", name, fn)
    if inspect.iscoroutinefunction(validator):
        raise TypeError(f"on_update() of {name!r}: the validator is a plain function, not {validator!r}")
    workflow_scope("on_update()").dialogue.on_update(name, fn, validator)
    return fn


def _decorator(bind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return bind


def _named(what: str, name: Any, fn: Any) -> tuple[str, Any]:
    if fn is None:
        name, fn = None, name
    if name is None:
        name = getattr(fn, "__name__", repr(fn))
    if not callable(fn):
        raise TypeError(f"on_{what}() takes a name and a function, not {fn!r}")
    return check_name(what, name), fn
