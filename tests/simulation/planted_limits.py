"""Bugs of limits, of runs that are tried again and of kept results that the simulation must find."""

# A bug reaches into what is private.
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from dramaturg_coordinator import run_limits
from dramaturg_coordinator.core import tries
from dramaturg_coordinator.limit_book import LimitBook
from dramaturg_coordinator.limits import Limits
from dramaturg_coordinator.reuse import Reuse
from dramaturg_coordinator.run_limits import RunLimits
from dramaturg_protocol.limits import Ticket
from dramaturg_protocol.payloads import Payload
from dramaturg_store.memory_slots import SlotTable


def leak_a_place() -> AbstractContextManager[Any]:
    return patch.object(run_limits, "freed_by", lambda *_: [])


def leak_the_place_of_a_run() -> AbstractContextManager[Any]:
    return patch.object(RunLimits, "note_run", lambda _: None)


def grant_one_too_many() -> AbstractContextManager[Any]:
    real = LimitBook.has_room
    return patch.object(LimitBook, "has_room", lambda self, most, per, now: real(self, most + 1, per, now))


def forget_after_a_take_over_what_was_spent() -> AbstractContextManager[Any]:
    real = SlotTable.of
    return patch.object(SlotTable, "of", lambda *args: [slot for slot in real(*args) if slot.until is None])


def use_a_place_again_after_a_retry() -> AbstractContextManager[Any]:
    def ticket(self: RunLimits, step: Any) -> Ticket:
        return Ticket(self._run.state.run_id, step.generation, step.seq, 1)

    return patch.object(RunLimits, "_ticket", ticket)


def never_call_who_waits() -> AbstractContextManager[Any]:
    return patch.object(Limits, "call", lambda *_: ([], []))


def forget_who_waits_when_a_commit_fails() -> AbstractContextManager[Any]:
    def forget(self: Limits) -> None:
        for book in self._books.values():
            book.drop_called()

    return patch.object(Limits, "forget", forget)


def begin_a_run_without_its_place() -> AbstractContextManager[Any]:
    real = RunLimits._enter_run

    def enter(self: RunLimits, limit: Any, on_conflict: str) -> bool:
        return real(self, limit, on_conflict) or on_conflict == "queue"

    return patch.object(RunLimits, "_enter_run", enter)


def keep_what_failed_in_the_next_try() -> AbstractContextManager[Any]:
    real = tries.again

    def again(*args: Any) -> Any:
        cut = real(*args)
        return replace(cut, generation=cut.generation - 1)

    return patch.object(tries, "again", again)


def have_the_result_of_other_arguments() -> AbstractContextManager[Any]:
    real = Reuse._key_of
    return patch.object(Reuse, "_key_of", lambda self, step: real(self, replace(step, input=Payload('{"args":[]}'))))
