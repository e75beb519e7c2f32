"""Runs that this coordinator leaves to code of another: they are parked.

While a new version is rolled out, coordinators of old and of new code are there at once. A partition has one owner,
with whichever code that has, and so its runs may meet code that they do not fit, or that lacks their workflow.

    open ── its code is missing or does not fit here, and a live coordinator has other code ──► parked
    parked ── its partition changes hands, or the others' code changes ──► tried again, as if nothing had been
    tried again ── still not here, and nobody with other code is left ──► ``run.blocked``

Parked is not an event, and nothing is recorded of the run that its code would have to be told of: the next owner could
not tell apart what the code knew and what it did not. So all that arrives waits outside of the history, where the next
owner takes it as if it had just come:

- requests stay in the inbox, the start of a workflow that is not known here among them;
- reports become rows of the inbox before they are acknowledged;
- what is due stays in the open work and comes again.

What needs no code goes on: a worker's pick-up is recorded, a terminate ends the run. A crash at any point leaves each
message in one of those three places. The rows that show a run as parked say nothing to anybody but people.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dramaturg_coordinator.ports import Peers
from dramaturg_protocol import events as e
from dramaturg_protocol.ids import attempt_id
from dramaturg_protocol.messages import Request, RequestKind, StepReport, encode_message

logger = logging.getLogger("dramaturg.coordinator")

#: What other code may be the answer to. Code that does not come back, or a row that the database refuses, is no matter
#: of versions.
REASONS = frozenset({"nondeterminism", "unknown_workflow"})


class Parked(Exception):
    """The run is left to other code; nothing of what was being applied to it counts.

    Attributes:
      blocked: why it cannot go on here.
    """

    def __init__(self, blocked: e.RunBlocked) -> None:
        super().__init__(blocked.message)
        self.blocked = blocked


@dataclass(frozen=True, slots=True)
class _Place:
    """Where and why a run is parked; void once the partition has another epoch: it was away meanwhile."""

    partition: int
    epoch: int | None
    blocked: e.RunBlocked


class Parking:
    """Decides what is parked, for the tenure of one lease.

    Parameters:
      peers: ``None`` where there can be no other coordinator.
      epochs: of the partitions that are held.
    """

    def __init__(self, peers: Peers | None, epochs: Mapping[int, int]) -> None:
        self._peers = peers
        self._epochs = epochs
        self._parked: dict[str, _Place] = {}
        self._unshown: dict[str, _Place] = {}
        self._other_code: Collection[str] | None = None

    def begin(self, partitions: Collection[int]) -> None:
        """These partitions are held from now on: what their last owner parked is tried again."""
        if self._peers is not None:
            self._peers.clear(partitions)

    def hold(self, epochs: Mapping[int, int]) -> None:
        """These partitions are held now; what was parked in others is no matter of ours."""
        self._epochs = epochs
        for places in (self._parked, self._unshown):
            for run_id in [run_id for run_id, place in places.items() if epochs.get(place.partition) != place.epoch]:
                del places[run_id]

    def refuse_known(self, run_id: str) -> None:
        """Save the replay of a run of which it is known that it does not fit.

        Raises:
          Parked: it is.
        """
        place = self._parked.get(run_id)
        if place is not None and place.epoch == self._epochs.get(place.partition):
            raise Parked(place.blocked)

    def refuse(self, blocked: e.RunBlocked) -> None:
        """What is to be done instead of ``run.blocked``, if anything.

        Raises:
          Parked: somebody with other code is there.
          Unreachable: it cannot be asked who is there.
        """
        if self.can_wait(blocked):
            raise Parked(blocked)

    def can_wait(self, blocked: e.RunBlocked) -> bool:
        """Whether other code, which is there, may be what a run needs."""
        return blocked.reason in REASONS and bool(self._others())

    def add(self, run_id: str, partition: int, parked: Parked) -> None:
        """Remember a run."""
        place = _Place(partition, self._epochs.get(partition), parked.blocked)
        if self._parked.get(run_id) != place:
            self._parked[run_id] = self._unshown[run_id] = place

    def show(self) -> None:
        """Let people see what was parked since this was called last."""
        if self._peers is None or not self._unshown:
            return
        unshown, self._unshown = self._unshown, {}
        first, place = next(iter(unshown.items()))
        logger.warning("%d run(s) are %s (run %s)", len(unshown), words_of(place.blocked), first)
        partitions = {run_id: place.partition for run_id, place in unshown.items()}
        self._peers.park(partitions, {run_id: words_of(place.blocked) for run_id, place in unshown.items()})

    def look(self) -> Collection[str]:
        """See who is there now; the runs to be tried again, if that changed.

        Raises:
          Unreachable: it cannot be asked.
        """
        before, self._other_code = self._other_code, None
        if not self._parked or set(self._others()) == set(before or ()):
            return ()
        assert self._peers is not None
        self._peers.clear(self._epochs.keys())
        again = list(self._parked)
        self._parked.clear()
        self._unshown.clear()
        return again

    def __len__(self) -> int:
        return len(self._parked)

    def _others(self) -> Collection[str]:
        """Kept until the next `look`, so that a wave of runs asks once."""
        if self._peers is None:
            return ()
        if self._other_code is None:
            self._other_code = self._peers.other_code()
        return self._other_code


def words_of(blocked: e.RunBlocked) -> str:
    """Why a run is parked, as `waiting_for` shows it."""
    wanted = "its workflow" if blocked.reason == "unknown_workflow" else "the code that its history fits"
    return f"parked: waits for a coordinator with {wanted}, since others with other code are there: {blocked.message}"


def as_request(report: StepReport) -> Request:
    """A report as a row of the inbox, for whoever can take it."""
    attempt = attempt_id(report.run_id, report.generation, report.seq, report.attempt)
    message_id = f"{attempt}:{report.kind}:{report.release}"
    return Request(message_id, RequestKind.REPORT, report.run_id, report.partition, encode_message(report))
