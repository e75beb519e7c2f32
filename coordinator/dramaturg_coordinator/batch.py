"""What one turn takes, and the requests that no turn can take yet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic_core import to_json

from dramaturg_coordinator.own_messages import Message
from dramaturg_protocol.messages import Request, RequestKind, StepReport
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import DeadLetter, RunWrites
from dramaturg_protocol.request_bodies import decode_start

#: Until the coordinator is restarted.
ALWAYS = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class Batch:
    """What a turn took: messages by run, in order, and how many reports to acknowledge.

    Attributes:
      letters: reports that nobody can take.
      hopeless: requests that nobody can take, as they are put aside.
      for_others: reports for runs whose code is elsewhere, to be kept in the inbox.
      asked: requests to limits.
      limits: what limits grant to runs elsewhere.
    """

    messages: dict[str, list[Message]] = field(default_factory=dict[str, list[Message]])
    partitions: dict[str, int] = field(default_factory=dict[str, int])
    letters: list[DeadLetter] = field(default_factory=list[DeadLetter])
    hopeless: list[RunWrites] = field(default_factory=list[RunWrites])
    for_others: list[Request] = field(default_factory=list[Request])
    asked: list[Request] = field(default_factory=list[Request])
    limits: list[RunWrites] = field(default_factory=list[RunWrites])
    reports: int = 0

    def add(self, run_id: str, partition: int, message: Message) -> None:
        """Add a message of a run."""
        if isinstance(message, Request) and not isinstance(message.kind, RequestKind):  # pyright: ignore[reportUnnecessaryIsInstance]
            self.give_up(message, f"this version knows no request {message.kind!r}")
            return
        self.messages.setdefault(run_id, []).append(message)
        self.partitions[run_id] = partition

    def give_up(self, message: Request | StepReport, reason: str) -> None:
        """Put a message aside."""
        body = to_json(message, fallback=repr).decode()
        if isinstance(message, StepReport):
            self.letters.append(DeadLetter("report", reason, body, message.run_id, message.partition))
            return
        letter = DeadLetter("inbox", reason, body, message.run_id, message.partition)
        self.hopeless.append(RunWrites(message.run_id, arrivals=[message.arrival], dead_letters=[letter]))

    def begins(self, run_id: str) -> bool:
        """Whether the run's start is here; it is applied first then, whatever came before it."""
        messages = self.messages[run_id]
        if not any(_is_start(message) for message in messages):
            return False
        messages.sort(key=lambda message: not _is_start(message))
        return True

    def workflow_ids_of(self, run_id: str) -> Iterator[str]:
        """The workflow ids that the starts of a run say."""
        for message in self.messages[run_id]:
            if isinstance(message, Request) and message.kind is RequestKind.START:
                with suppress(MalformedMessage):
                    yield decode_start(message.body).workflow_id

    def __bool__(self) -> bool:
        return bool(self.messages or self.letters or self.hopeless or self.reports or self.asked or self.limits)


class Held:
    """Requests that stay in the inbox for now."""

    def __init__(self) -> None:
        self._until: dict[int, datetime] = {}
        self._by_run: dict[str, set[int]] = {}

    def add(self, run_id: str, arrivals: Iterable[int], until: datetime) -> None:
        """Do not take these requests of a run before that moment."""
        for arrival in arrivals:
            self._until[arrival] = until
            self._by_run.setdefault(run_id, set()).add(arrival)

    def __bool__(self) -> bool:
        return bool(self._until)

    def clear(self) -> None:
        """Take all of them from now on."""
        self._until.clear()
        self._by_run.clear()

    def now(self, now: datetime) -> Collection[int]:
        """The arrivals that are not to be taken."""
        return [arrival for arrival, until in self._until.items() if now < until]

    def is_over(self, request: Request, now: datetime) -> bool:
        """Whether it was held and its time is over."""
        return now >= self._until.get(request.arrival, ALWAYS)

    def release(self, run_id: str) -> bool:
        """Take a run's requests from now on; whether there are any."""
        mine = self._by_run.pop(run_id, None)
        for arrival in mine or ():
            self._until.pop(arrival, None)
        return mine is not None

    def forget(self, run_id: str, arrivals: Iterable[int]) -> None:
        """They are gone from the inbox."""
        mine = self._by_run.get(run_id)
        if mine is None:
            return
        for arrival in arrivals:
            self._until.pop(arrival, None)
            mine.discard(arrival)
        if not mine:
            del self._by_run[run_id]


def _is_start(message: Message) -> bool:
    return isinstance(message, Request) and message.kind is RequestKind.START
