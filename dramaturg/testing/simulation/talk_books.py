"""What was said to the runs of a simulated world, as a watcher wrote it down when it was stored."""

from __future__ import annotations

from dramaturg_protocol import events as e
from dramaturg_protocol.messages import Request
from dramaturg_store.memory import Tables


class TalkBooks:
    """Requests, and what runs hand on.

    Attributes:
      requests: all that there were, by arrival.
      asked: the same by message id, as it was first.
      carried: signals that a run did not take, by message id, and the next run of its chain, until that has them.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._read = 0
        self.requests: dict[int, Request] = {}
        self.asked: dict[str, Request] = {}
        self.carried: dict[str, str] = {}

    def read(self) -> None:
        """Something was stored."""
        for arrival in range(self._read + 1, self._tables.arrivals + 1):
            request = self._tables.inbox.get(arrival)
            if request is not None:
                self.requests[arrival] = request
                self.asked.setdefault(request.message_id, request)
        self._read = self._tables.arrivals

    def is_carried_to(self, run_id: str, body: e.EventBody) -> bool:
        """Whether a run before this one had the signal and handed it on."""
        heir = self.carried.get(body.message_id) if isinstance(body, e.SignalReceived) else None
        before: str | None = run_id
        while heir is not None and before not in (None, heir):
            # The heir may have gone on before it came, too.
            record = self._tables.runs.get(before or "")
            before = None if record is None else record.continued_from
        return heir is not None and before == heir

    def settle(self, body: e.EventBody) -> None:
        """Write down what follows from an event."""
        if isinstance(body, e.RunContinued):
            self.carried.update(dict.fromkeys(body.signals, body.run_id))
        elif isinstance(body, e.SignalReceived):
            self.carried.pop(body.message_id, None)
