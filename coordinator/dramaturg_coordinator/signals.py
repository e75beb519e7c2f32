"""The signals of a run: kept in order of arrival until its code takes them.

    signal.received ──► somebody waits for that name ──► theirs, the first who asked
                   └──► nobody does ──► kept; the next who asks has it at once

A signal is taken where `wait` returns, and not before: one that was handed to somebody who was cancelled in the same
moment goes back to its place. The buffer is not stored; a replay tells the same signals again.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any, TypeAlias

from dramaturg_coordinator.limited_waits import LimitedWait, Waits
from dramaturg_protocol import events as e
from dramaturg_protocol.dialogue import TimeLimit
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.waits import Wait, WaitKind

#: A signal with its number among those of the run.
_Signal: TypeAlias = tuple[int, e.SignalReceived]


class Signals:
    """What arrived and was not taken, and who waits.

    Parameters:
      scope: of the run.
    """

    def __init__(self, scope: Waits) -> None:
        self._scope = scope
        self._count = 0
        self._handed: dict[int, e.SignalReceived] = {}
        self._kept: dict[str, deque[_Signal]] = {}
        self._waiting: dict[str, list[LimitedWait]] = {}

    def receive(self, body: e.SignalReceived) -> None:
        """A signal has arrived."""
        self._count += 1
        self._put(body.name, (self._count, body))

    def untaken(self) -> list[e.SignalReceived]:
        """What the code has not taken, in order of arrival."""
        kept = {number: body for signals in self._kept.values() for number, body in signals}
        return [body for _, body in sorted({**self._handed, **kept}.items())]

    def wait(self, name: str, limit: TimeLimit | None) -> Generator[asyncio.Future[Any], None, Payload]:
        """Wait for the next signal of a name."""
        kept = self._kept.get(name)
        if kept and not self._scope.is_muted:
            return kept.popleft()[1].payload
        waiter = LimitedWait(self._scope, WaitKind.SIGNAL, name)
        self._waiting.setdefault(name, []).append(waiter)
        try:
            taken: _Signal = yield from waiter.wait(limit, f"no signal {name!r} came")
        except BaseException:
            self._forget(waiter)
            untaken = waiter.leave()
            if untaken is not None:
                self._put(name, untaken)
            raise
        self._handed.pop(taken[0], None)
        return taken[1].payload

    @property
    def is_waited_for(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def waits(self) -> Iterator[Wait]:
        """Who waits, by name, in the order in which they asked."""
        return (waiter.as_wait() for waiting in self._waiting.values() for waiter in waiting)

    def _put(self, name: str, signal: _Signal) -> None:
        self._handed.pop(signal[0], None)
        for waiter in list(self._waiting.get(name, ())):
            self._forget(waiter)
            if not waiter.future.done():
                waiter.future.set_result(signal)
                self._handed[signal[0]] = signal[1]
                return
        kept = self._kept.setdefault(name, deque())
        if kept and signal < kept[-1]:
            insort(kept, signal)
        else:
            kept.append(signal)

    def _forget(self, waiter: LimitedWait) -> None:
        waiting = self._waiting.get(waiter.name, [])
        if waiter in waiting:
            waiting.remove(waiter)
            if not waiting:
                del self._waiting[waiter.name]
