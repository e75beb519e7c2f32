"""How the parts around the core fail: what a port may raise, and what its caller does then.

Fault
├── Fenced        some partitions are no longer ours: drop their runs, go on with the rest
├── Refused       the database refuses the data of this turn: redo it in halves, put the offender aside
└── Unreachable   the database or broker does not answer: keep everything, wait with back-off, try again
"""

from __future__ import annotations

from collections.abc import Iterable

from dramaturg_protocol.errors import DramaturgError, Unavailable


class Fault(DramaturgError):
    """Base of what a port may raise."""


class Fenced(Fault):
    """A lease was taken over; nothing of the transaction was written.

    Attributes:
      partitions: those that are lost.
    """

    def __init__(self, partitions: Iterable[int]) -> None:
        self.partitions = frozenset(partitions)
        super().__init__(f"no longer the owner of partitions {sorted(self.partitions)}")


class Refused(Fault):
    """The database refuses the data, not the connection; nothing of the transaction was written."""


class Unreachable(Fault, Unavailable):
    """The database or the broker does not answer; whether the last transaction was written is not known."""
