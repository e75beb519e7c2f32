"""Functions that the code of a run binds for others to call: queries, which look, and updates, which may change its state.

A query is no matter of the history: it is called on the code as it stands, and leaves no trace. An update is, from the
moment in which its validator let it pass: ``update.accepted`` tells the code to call it, in a task of its own, and
``update.completed`` is a command, like everything that the code asks for. One that is told before its function is
bound (a retry or reset keeps those that came later) waits for that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from dramaturg_coordinator.failures import error_info
from dramaturg_coordinator.limited_waits import Waits
from dramaturg_coordinator.loop import WorkflowLoop
from dramaturg_coordinator.read_only import ReadOnly
from dramaturg_protocol import events as e
from dramaturg_protocol.payloads import Payload, encode_value
from dramaturg_protocol.signatures import CallSchema
from dramaturg_protocol.waits import Wait, WaitKind


class Unknown(Exception):
    """No query of that name is bound; the message names those that are."""


class Rejected(Exception):
    """The validator of an update, or its parameters, refuse it."""


class Bound(Waits, Protocol):
    """What is needed of the scope of the run."""

    loop: WorkflowLoop

    @property
    def max_payload(self) -> int: ...

    def emit(self, body: e.EventBody) -> None: ...


@dataclass(frozen=True, slots=True)
class _Update:
    fn: Callable[..., Any]
    validator: Callable[..., Any] | None
    schema: CallSchema
    since: datetime


class Questions:
    """What is bound in one run."""

    def __init__(self, scope: Bound, read_only: ReadOnly) -> None:
        self._scope = scope
        self._read_only = read_only
        self._queries: dict[str, tuple[Callable[..., Any], CallSchema]] = {}
        self._updates: dict[str, _Update] = {}
        self._unbound: dict[str, list[e.UpdateAccepted]] = {}

    # What workflow code calls.

    def on_query(self, name: str, fn: Callable[..., Any]) -> None:
        """Answer a query with a function, from now on."""
        self._read_only.check("bind a function")
        self._queries[name] = (fn, CallSchema.of(fn, f"query {name!r}"))

    def on_update(self, name: str, fn: Callable[..., Any], validator: Callable[..., Any] | None) -> None:
        """Have a function called for each update of a name, from now on."""
        self._read_only.check("bind a function")
        if self._scope.is_muted:
            return
        update = _Update(fn, validator, CallSchema.of(fn, f"update {name!r}"), self._scope.now())
        self._updates[name] = update
        for body in self._unbound.pop(name, ()):
            self._begin(update, body)

    # What the owner of the run calls.

    def answer(self, name: str, call: Payload) -> Payload:
        """What a query gives now.

        Raises:
          Unknown: there is no such query.
          Exception: what its function raises.
        """
        if name not in self._queries:
            known = ", ".join(map(repr, sorted(self._queries))) or "none so far"
            raise Unknown(f"the run answers no query {name!r}; it answers: {known}")
        fn, schema = self._queries[name]
        with self._read_only.during(f"query {name!r}"):
            args, kwargs = schema.decode_call(call)
            value = fn(*args, **kwargs)
            if inspect.isawaitable(value):
                if inspect.iscoroutine(value):
                    value.close()
                raise TypeError("a query is a plain function that looks at variables: what it gave is to be awaited")
            return self._encoded(value, f"the answer to query {name!r}")

    @property
    def is_updatable(self) -> bool:
        """Whether a function is bound for any update."""
        return bool(self._updates)

    def has_update(self, name: str) -> bool:
        """Whether a function is bound for it."""
        return name in self._updates

    def validate(self, name: str, call: Payload) -> None:
        """Whether an update may be accepted.

        Raises:
          Rejected: it may not.
        """
        update = self._updates[name]
        with self._read_only.during(f"the validator of update {name!r}"):
            try:
                args, kwargs = update.schema.decode_call(call)
                update.schema.check_call(args, kwargs)
                if update.validator is not None:
                    update.validator(*args, **kwargs)
            except Exception as error:
                raise Rejected(f"update {name!r} is refused: {_words(error)}") from error

    def accept(self, body: e.UpdateAccepted) -> None:
        """An update was accepted: its function begins, as soon as it is bound."""
        update = self._updates.get(body.name)
        if update is None:
            self._unbound.setdefault(body.name, []).append(body)
        else:
            self._begin(update, body)

    def waits(self) -> Iterator[Wait]:
        """What may bring the run on."""
        return (Wait(WaitKind.UPDATE, name, update.since) for name, update in self._updates.items())

    def _begin(self, update: _Update, body: e.UpdateAccepted) -> None:
        self._scope.loop.create_task(self._run(update, body), name=f"update {body.name}")

    async def _run(self, update: _Update, body: e.UpdateAccepted) -> None:
        try:
            args, kwargs = update.schema.decode_call(body.input)
            value = update.fn(*args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
            result = self._encoded(value, f"the result of update {body.name!r}")
        except Exception as error:  # noqa: BLE001 - a function of the user's: who asked hears of it
            self._scope.emit(e.UpdateCompleted(body.message_id, body.name, error=error_info(error)))
        else:
            self._scope.emit(e.UpdateCompleted(body.message_id, body.name, result))

    def _encoded(self, value: object, where: str) -> Payload:
        return encode_value(value, Any, where=where, limit=self._scope.max_payload)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
