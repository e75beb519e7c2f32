"""Reports of workers over Redis: one stream for each partition, read by its owner, trimmed once they are committed.

    a worker's ack ── XADD ──► stream of the partition ── XREAD ──► in hand ── commit ──► XTRIM

There is one reader of a stream, the owner of its partition, so there are no consumer groups. What is in hand stays there
until it is acknowledged; a reader that begins anew reads from the start of the stream, and what is recorded already
changes nothing. The position goes back to the start when the stream ends below it: Redis was emptied, or its clock was
set back.

Acknowledging is fenced as publishing is: whoever froze between a read and a turn that found nothing to record must not
cut off what is meant for its successor.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis

from dramaturg_protocol.faults import Fenced
from dramaturg_protocol.messages import StepReport, decode_report
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import DeadLetter
from dramaturg_protocol.redis_client import LONGEST_BLOCK, told_as_unreachable, wake_coordinators
from dramaturg_protocol.redis_keys import REPORT_FIELD, RedisKeys

_SCRIPT = (Path(__file__).parent / "acknowledge.lua").read_text()

_FETCH = 500
_START = "0-0"


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
        self._streams = {self._wakes: _START}
        self._fences: dict[str, tuple[int, int]] = {}
        self._in_hand: deque[_Entry] = deque()
        self._is_woken = threading.Event()
        self.attend(epochs)

    def attend(self, epochs: Mapping[int, int]) -> None:
        """Read the streams of these partitions: new ones from their start, others no longer."""
        fences = {self._keys.reports(partition): (partition, epoch) for partition, epoch in epochs.items()}
        kept = {stream for stream, fence in fences.items() if self._fences.get(stream) == fence}
        self._streams = {
            self._wakes: self._streams[self._wakes],
            **{stream: self._streams[stream] if stream in kept else _START for stream in fences},
        }
        self._fences = fences
        self._in_hand = deque(entry for entry in self._in_hand if entry.stream in kept)

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
        """Forget the oldest, and cut them off their streams.

        Raises:
          Fenced: somebody with a higher epoch reads some of the streams now; those are left alone.
        """
        done = [self._in_hand.popleft() for _ in range(count)]
        last = {entry.stream: entry.id for entry in done}
        args = [part for stream, entry_id in last.items() for part in (*self._fences[stream], _after(entry_id))]
        with told_as_unreachable(self._client):
            lost: list[bytes] = self._script(keys=[self._keys.epochs, *last], args=args)
        if lost:
            raise Fenced(int(partition) for partition in lost)

    def mark(self) -> Mapping[str, str]:
        """How far the reports reach now."""
        return dict(zip(self._streams, self._last_ids(), strict=True))

    def is_past(self, mark: Mapping[str, str]) -> bool:
        """Whether everything up to a mark was taken and acknowledged."""
        return not self._in_hand and all(
            _order(self._streams[name]) >= _order(last) for name, last in mark.items() if name in self._streams
        )

    def look_for_loss(self) -> None:
        """Begin again at the start of every stream that ends below the place where we are."""
        for stream, last in zip(list(self._streams), self._last_ids(), strict=True):
            if last != _START and _order(last) < _order(self._streams[stream]):
                self._streams[stream] = _START

    def close(self) -> None:
        """Nothing to let go of: whoever reads a stream next begins at its start."""

    def _last_ids(self) -> list[str]:
        with told_as_unreachable(self._client):
            pipe = self._client.pipeline(transaction=False)
            for stream in self._streams:
                pipe.xrevrange(stream, count=1)
            answers: list[Any] = pipe.execute()
        return [_text(last[0][0]) if last else _START for last in answers]

    def _read(self, block: int | None) -> None:
        with told_as_unreachable(self._client):
            positions: Any = self._streams
            found: Any = self._client.xread(positions, count=_FETCH, block=block)
        # A list of pairs by RESP2, a dict of lists by RESP3, depending on redis-py's version.
        pairs: Any = ((key, parts[0]) for key, parts in found.items()) if hasattr(found, "items") else found or ()
        for stream, entries in pairs:
            self._keep(_text(stream), entries)

    def _keep(self, stream: str, entries: Any) -> None:
        for entry_id, fields in entries:
            self._streams[stream] = _text(entry_id)
            if stream == self._wakes:
                self._is_woken.set()
            else:
                self._in_hand.append(_Entry(stream, _text(entry_id), _report_of(fields)))


def _report_of(fields: dict[bytes, bytes]) -> StepReport | DeadLetter:
    text = fields.get(REPORT_FIELD.encode())
    if text is None:
        return DeadLetter("report", "an entry without a report in a stream of reports", repr(fields)[:4096])
    try:
        return decode_report(text)
    except MalformedMessage as problem:
        return DeadLetter("report", str(problem), text.decode("utf-8", "backslashreplace"))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def _after(entry_id: str) -> str:
    milliseconds, number = _order(entry_id)
    return f"{milliseconds}-{number + 1}"
