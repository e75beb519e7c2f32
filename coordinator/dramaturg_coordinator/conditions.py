"""Conditions that the code of a run waits for: looked at again after all that happens to it, until none has come true."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Iterator
from typing import Any

from dramaturg_coordinator.limited_waits import LimitedWait, Waits
from dramaturg_coordinator.read_only import ReadOnly
from dramaturg_protocol.dialogue import TimeLimit
from dramaturg_protocol.waits import Wait, WaitKind


class Conditions:
    """Who waits for what to come true.

    Parameters:
      scope: of the run.
      read_only: in which predicates are called: they may look, and ask for nothing.
    """

    def __init__(self, scope: Waits, read_only: ReadOnly) -> None:
        self._scope = scope
        self._read_only = read_only
        self._waiting: dict[LimitedWait, Callable[[], object]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def wait(
        self, predicate: Callable[[], object], limit: TimeLimit | None
    ) -> Generator[asyncio.Future[Any], None, None]:
        """Wait until a function gives something true."""
        if not self._scope.is_muted and self._holds(predicate):
            return
        name = getattr(predicate, "__qualname__", repr(predicate)).rpartition("<locals>.")[2]
        waiter = LimitedWait(self._scope, WaitKind.CONDITION, name)
        self._waiting[waiter] = predicate
        try:
            yield from waiter.wait(limit, f"{name} of wait_until() did not come true")
        finally:
            self._waiting.pop(waiter, None)
            waiter.leave()

    def look(self) -> bool:
        """Wake those whose condition has come true; whether there are any."""
        has_woken = False
        for waiter, predicate in list(self._waiting.items()):
            if waiter.future.done():
                continue
            try:
                if not self._holds(predicate):
                    continue
                waiter.future.set_result(None)
            except Exception as error:  # noqa: BLE001 - a function of the user's: whoever waits hears of it
                waiter.future.set_exception(error)
            has_woken = True
        return has_woken

    def waits(self) -> Iterator[Wait]:
        """Who waits, in the order in which they asked."""
        return (waiter.as_wait() for waiter in self._waiting)

    def _holds(self, predicate: Callable[[], object]) -> bool:
        with self._read_only.during("the predicate of wait_until()"):
            answer = predicate()
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError(
                "wait_until() takes a plain function that looks at variables: what it gave is to be awaited"
            )
        return bool(answer)
