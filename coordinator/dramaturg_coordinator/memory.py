"""Reports of workers in the same process: a queue in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from dramaturg_coordinator.in_hand import InHand
from dramaturg_protocol.messages import StepReport, decode_report
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import DeadLetter


class MemoryReports(InHand[StepReport | DeadLetter]):
    """The port `Reports` for one process; what it holds goes with the process."""

    def put(self, text: str) -> None:
        """Report, from any thread."""
        report: StepReport | DeadLetter
        try:
            report = decode_report(text)
        except MalformedMessage as problem:
            report = DeadLetter("report", str(problem), text)
        self._come(report)

    def take(self, limit: int) -> Sequence[StepReport | DeadLetter]:
        """The oldest reports, which stay until they are acknowledged."""
        with self._condition:
            return list(islice(self._in_hand, limit))

    def acknowledge(self, count: int) -> None:
        """Forget the oldest."""
        with self._condition:
            for _ in range(count):
                self._in_hand.popleft()

    def mark(self) -> Mapping[str, str]:
        """Nothing to note: what is reported here is of this process."""
        return {}

    def is_past(self, mark: Mapping[str, str]) -> bool:
        """At once: a process that begins has no reports of another."""
        return True

    def attend(self, epochs: Mapping[int, int]) -> None:
        """What is reported here is of this process, whatever its partitions."""

    def look_for_loss(self) -> None:
        """Nothing is lost while this process lives."""

    def close(self) -> None:
        """Nothing to let go of: whoever takes over in this process finds it here."""
