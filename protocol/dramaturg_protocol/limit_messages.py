"""What runs and limits of different partitions say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from dramaturg_protocol.messages import Request, RequestKind
from dramaturg_protocol.reading import MalformedMessage


@dataclass(frozen=True, slots=True)
class LimitBody:
    """Executions of one run that a limit lets through, that ask for it, or that are over.

    Attributes:
      limit_id: which limit.
      tickets: generation, position, attempt and release of each execution.
      run_partition, priority, most, per, name, key: of those that ask, as in `limits.Slot`.
      on_conflict: of a run that asks: ``queue``, ``skip``, ``cancel_running``; ``force`` for one that goes on.
      is_refused: of a grant: it is none, and there will be none.
    """

    limit_id: str
    run_id: str
    tickets: tuple[tuple[int, int, int, int], ...]
    run_partition: int = 0
    priority: int = 0
    most: int = 0
    per: float = 0.0
    name: str = ""
    key: str = ""
    on_conflict: str = "queue"
    is_refused: bool = False

    def request(self, kind: RequestKind, partition: int) -> Request:
        """The inbox row: to the run where it is granted, to the limit otherwise."""
        receiver = self.run_id if kind is RequestKind.GRANTED else self.limit_id
        first = ":".join(str(part) for part in (self.run_id, *self.tickets[0]))
        message_id = f"{kind}:{self.limit_id}:{first}"
        return Request(message_id, kind, receiver, partition, to_json(self).decode())


_LIMIT: TypeAdapter[LimitBody] = TypeAdapter(LimitBody)


def decode_limit(text: str | bytes) -> LimitBody:
    """Read what a run and a limit say to each other; `MalformedMessage` when it is none."""
    try:
        body = _LIMIT.validate_json(text)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        raise MalformedMessage(f"not a message about a limit: {detail['msg']}") from error
    if not body.tickets:
        raise MalformedMessage("not a message about a limit: it is about no execution")
    return body
