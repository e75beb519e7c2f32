"""Reports of workers over Redis: one stream for each partition, read by its owner, trimmed once they are committed.

    a worker's ack ── XADD ──► stream of the partition ── XREAD ──► in hand ── commit ──► XTRIM, with the next XREAD

There is one reader of a stream, the owner of its partition, so there are no consumer groups. What is in hand stays there
until it is acknowledged; a reader that begins anew reads from the start of the stream, and what is recorded already
changes nothing, so nobody waits until it is cut off. The position goes back to the start when the stream ends below it:
Redis was emptied, or its clock was set back.

Acknowledging is fenced as publishing is: whoever froze between a read and a turn that found nothing to record must not
cut off what is meant for its successor.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError

from dramaturg_coordinator.redis_streams import START, Streams, packed_command, text_of
from dramaturg_protocol.faults import Fenced, Unreachable
from dramaturg_protocol.messages import StepReport, decode_report
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import DeadLetter
from dramaturg_protocol.redis_client import LONGEST_BLOCK, told_as_unreachable, wake_coordinators
from dramaturg_protocol.redis_keys import REPORT_FIELD, RedisKeys

logger = logging.getLogger("dramaturg.coordinator")

_SCRIPT = (Path(__file__).parent / "acknowledge.lua").read_text()


@dataclass(frozen=True, slots=True)
class _Entry:
    stream: str
    id: str
    report: StepReport | DeadLetter


class RedisReports:
    """The port `Reports` over Redis.

    Parameters:
      epochs: of the partitions that this coordinator owns.
    """

    def __init__(self, client: redis.Redis, namespace: str, epochs: Mapping[int, int]) -> None:
        self._client: Any = client
        self._script: Any = client.register_script(_SCRIPT)
        self._keys = RedisKeys(namespace)
        self._wakes = self._keys.wakes
        self._streams = Streams(client)
        self._fences: dict[str, tuple[int, int]] = {}
        self._in_hand: deque[_Entry] = deque()
        self._done: dict[str, str] = {}
        self._is_woken = threading.Event()
        self.attend(epochs)

    def attend(self, epochs: Mapping[int, int]) -> None:
        """Read the streams of these partitions: new ones from their start, others no longer."""
        fences = {self._keys.reports(partition): (partition, epoch) for partition, epoch in epochs.items()}
        kept = {stream for stream, fence in fences.items() if self._fences.get(stream) == fence}
        before = self._streams.positions
        self._streams.follow(
            {
                self._wakes: before.get(self._wakes, START),
                **{stream: before[stream] if stream in kept else START for stream in fences},
            }
        )
        self._fences = fences
        self._in_hand = deque(entry for entry in self._in_hand if entry.stream in kept)
        self._done = {stream: last for stream, last in self._done.items() if stream in kept}

    def wait(self, timeout: timedelta) -> None:
        """Return when there is a report, after `wake`, or when the time is over."""
        if self._in_hand or self._is_woken.is_set():
            return
        self._read(max(1, int(min(timeout.total_seconds(), LONGEST_BLOCK) * 1000)))

    def wake(self) -> None:
        """End a wait, from any thread of any process."""
        with told_as_unreachable(self._client):
            wake_coordinators(self._client, self._wakes)

    def take_wake(self) -> bool:
        """Whether somebody called `wake` since the last time."""
        was_set = self._is_woken.is_set()
        self._is_woken.clear()
        return was_set

    def take(self, limit: int) -> Sequence[StepReport | DeadLetter]:
        """The oldest reports, which stay until they are acknowledged."""
        if not self._in_hand:
            self._read(None)
        return [entry.report for entry, _ in zip(self._in_hand, range(limit), strict=False)]

    def acknowledge(self, count: int) -> None:
        """Forget the oldest. They are cut off their streams when these are read next, in the same round trip."""
        for _ in range(count):
            entry = self._in_hand.popleft()
            self._done[entry.stream] = entry.id

    def mark(self) -> Mapping[str, str]:
        """How far the reports reach now."""
        return dict(zip(self._streams.positions, self._last_ids(), strict=True))

    def is_past(self, mark: Mapping[str, str]) -> bool:
        """Whether everything up to a mark was taken and acknowledged."""
        positions = self._streams.positions
        return not self._in_hand and all(
            _order(positions[name]) >= _order(last) for name, last in mark.items() if name in positions
        )

    def look_for_loss(self) -> None:
        """Begin again at the start of every stream that ends below the place where we are."""
        positions = self._streams.positions
        lost = [
            stream
            for (stream, position), last in zip(positions.items(), self._last_ids(), strict=True)
            if last != START and _order(last) < _order(position)
        ]
        self._streams.move(dict.fromkeys(lost, START))
        for stream in lost:
            self._done.pop(stream, None)

    def close(self) -> None:
        """Cut off what is acknowledged; what was taken beside that, whoever reads a stream next finds at its start."""
        try:
            if self._done:
                self._read(None)
        except (Fenced, Unreachable) as error:
            logger.debug("what is recorded stays in its streams, where it changes nothing: %s", error)
        self._streams.close()

    def _last_ids(self) -> list[str]:
        with told_as_unreachable(self._client):
            pipe = self._client.pipeline(transaction=False)
            for stream in self._streams.positions:
                pipe.xrevrange(stream, count=1)
            answers: list[Any] = pipe.execute()
        return [text_of(last[0][0]) if last else START for last in answers]

    def _read(self, block: int | None) -> None:
        keys, args = self._cut()
        command = packed_command("EVALSHA", self._script.sha, len(keys), *keys, *args) if self._done else b""
        with told_as_unreachable(self._client):
            lost, found = self._streams.read(block, command)
            for stream, entries in found.items():
                self._keep(stream, entries)
            if isinstance(lost, NoScriptError):
                lost = self._script(keys=keys, args=args)
            elif isinstance(lost, redis.ResponseError):
                raise lost
        self._done.clear()
        if lost:
            raise Fenced(int(partition) for partition in lost)

    def _cut(self) -> tuple[list[str], list[int | str]]:
        """Keys and arguments of what cuts off their streams what is acknowledged."""
        args = [part for stream, last in self._done.items() for part in (*self._fences[stream], _after(last))]
        return [self._keys.epochs, *self._done], args

    def _keep(self, stream: str, entries: Any) -> None:
        if stream == self._wakes:
            self._is_woken.set()
        else:
            self._in_hand += (_Entry(stream, text_of(entry_id), _report_of(fields)) for entry_id, fields in entries)


def _report_of(fields: dict[bytes, bytes]) -> StepReport | DeadLetter:
    text = fields.get(REPORT_FIELD.encode())
    if text is None:
        return DeadLetter("report", "an entry without a report in a stream of reports", repr(fields)[:4096])
    try:
        return decode_report(text)
    except MalformedMessage as problem:
        return DeadLetter("report", str(problem), text.decode("utf-8", "backslashreplace"))


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def _after(entry_id: str) -> str:
    milliseconds, number = _order(entry_id)
    return f"{milliseconds}-{number + 1}"
