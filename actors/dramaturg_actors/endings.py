"""Ends of steps that leave together: what gathers while some are on their way goes with the next call.

    thread 1 ── end ──► call ──────────────► call ────► on to the next step
    thread 2 ──────── end, on to the next step ┘
    thread 3 ────────── end, on to the next step

Nobody waits for others to come, so that a single end takes no longer than alone. And nobody waits for an end that a
call under way will be followed by; the message is held until it is out, as it is while the step runs. Where Redis does
not do its work, whoever has ended a step waits until that is out, and begins no other meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from typing import Final

from dramaturg_actors.deliveries import Delivery
from dramaturg_actors.redis_scripts import Finished, RedisScripts

#: Ends in one call: the script blocks Redis meanwhile, for some 5 µs each.
_CALL_LIMIT: Final = 200


@dataclass(slots=True)
class _End:
    delivery: Delivery
    report: str
    partition: int
    tell: Callable[[], None]


class Endings:
    """The ends of one queue's messages; safe to share between threads and consumers."""

    def __init__(self, queue: str, scripts: RedisScripts) -> None:
        self._queue = queue
        self._scripts = scripts
        self._changed = threading.Condition()
        self._gathered: deque[_End] = deque()
        self._is_under_way = False
        self._is_failing = False

    def end(self, delivery: Delivery, report: str, partition: int, tell: Callable[[], None]) -> None:
        """End a message and publish its report, at once or, behind a call under way, very soon.

        Parameters:
          tell: called when it is out.

        Raises:
          ConnectionClosed: Redis did not do it. It is tried again with the next end of any message, and by asking again.
        """
        with self._changed:
            if not (delivery.is_over or delivery.is_ending):
                delivery.is_ending = True
                self._gathered.append(_End(delivery, report, partition, tell))
        self.flush()

    def flush(self) -> None:
        """End what has gathered, unless a call is under way that will be followed by another.

        Raises:
          ConnectionClosed: Redis did not do it.
        """
        while ends := self._take():
            try:
                self._finish(ends)
            except BaseException:
                with self._changed:
                    self._gathered.extendleft(reversed(ends))
                    self._is_under_way, self._is_failing = False, True
                    self._changed.notify_all()
                raise
            for each in ends:
                each.tell()
            with self._changed:
                self._is_under_way = False
                if self._is_failing:
                    self._is_failing = False
                    self._changed.notify_all()

    def _take(self) -> list[_End]:
        with self._changed:
            while self._is_under_way and self._is_failing:
                self._changed.wait()
            if self._is_under_way or not self._gathered:
                return []
            self._is_under_way = True
            ends = list(islice(self._gathered, _CALL_LIMIT))
            for _ in ends:
                self._gathered.popleft()
            return ends

    def _finish(self, ends: Collection[_End]) -> None:
        while ends:
            holders = {each.delivery.id: each.delivery.holders for each in ends}
            held = self._scripts.finish(
                self._queue,
                dict.fromkeys(name for names in holders.values() for name in names),
                [Finished(each.delivery.id, each.report, each.partition) for each in ends],
            )
            taken_over: list[_End] = []
            for each, was_held in zip(ends, held, strict=True):
                # A second round is only about who holds the message.
                each.report = ""
                if was_held or each.delivery.holders is holders[each.delivery.id]:
                    each.delivery.let_go()
                else:
                    taken_over.append(each)
            ends = taken_over
