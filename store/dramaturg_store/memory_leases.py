"""The in-memory twins of the leases: one holder of everything, or several that share, as on a server."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dramaturg_protocol.faults import Fenced
from dramaturg_protocol.records import Balance, Lease
from dramaturg_store.clock import Now
from dramaturg_store.leases import Holder
from dramaturg_store.shares import Decision, Holding, Member, decide


@dataclass(slots=True)
class LeaseTable:
    """Who owns which partition.

    Attributes:
      clock: the highest time seen.
      members: by owner; of those who share.
      lock: of these and all other tables: a call is a transaction.
    """

    epochs: dict[int, int]
    clock: datetime
    owners: dict[int, str] = field(default_factory=dict[int, str])
    members: dict[str, Member] = field(default_factory=dict[str, Member])
    lock: threading.RLock = field(default_factory=threading.RLock)

    def check_fence(self, epochs: Collection[tuple[int, int]]) -> None:
        """Raise `Fenced` where a partition has another epoch."""
        lost = [number for number, epoch in epochs if self.epochs.get(number) != epoch]
        if lost:
            raise Fenced(lost)

    def tick(self, now: datetime) -> datetime:
        """The time, which never goes back."""
        self.clock = max(self.clock, now)
        return self.clock

    def give(self, owner: str, partitions: Collection[int]) -> dict[int, int]:
        """Make somebody the owner; the epochs that this raises."""
        for number in partitions:
            self.owners[number] = owner
            self.epochs[number] += 1
        return {number: self.epochs[number] for number in partitions}

    def free(self, partitions: Collection[int]) -> None:
        """Make these nobody's."""
        for number in partitions:
            self.owners.pop(number, None)

    def owned_by(self, owner: str) -> Sequence[int]:
        """The partitions of an owner."""
        return [number for number, name in self.owners.items() if name == owner]

    def holdings(self) -> Sequence[Holding]:
        """The partitions as they are stored."""
        return [Holding(number, self.owners.get(number), epoch) for number, epoch in self.epochs.items()]


class MemoryLeases:
    """The port `Leases` in memory: one holder of all partitions, for as long as it lives."""

    def __init__(self, table: LeaseTable, *, now: Now) -> None:
        self._table = table
        self._now = now
        self._owner: str | None = None

    @property
    def lease_time(self) -> timedelta | None:
        """For ever."""
        return None

    def acquire(self, owner: str) -> Lease | None:
        """Take every partition, raising its epoch; ``None`` while somebody else holds them."""
        with self._table.lock:
            if self._table.owners:
                return None
            self._owner = owner
            return Lease(owner, self._table.give(owner, list(self._table.epochs)))

    def renew(self, lease: Lease) -> datetime:
        """Go on holding it; the time, which never goes back."""
        with self._table.lock:
            self._table.check_fence(lease.epochs.items())
            return self._table.tick(self._now())

    def balance(self, lease: Lease) -> Balance:
        """Nobody else has a share."""
        return Balance()

    def give_up(self, lease: Lease, partitions: Collection[int]) -> None:
        """Nobody else asks for them."""

    def evict(self) -> int:
        """Nobody expires."""
        return 0

    def release(self, lease: Lease) -> None:
        """Give it back at once."""
        with self._table.lock:
            self._table.free(self._table.owned_by(lease.owner))
            self._owner = None

    def holder(self) -> Holder | None:
        """Who holds the partitions."""
        with self._table.lock:
            owner = next(iter(self._table.owners.values()), None)
        return None if owner is None else Holder(owner)

    def close(self) -> None:
        """What the kernel does when a process ends: the lock is free, nothing else is said."""
        if self._owner is not None:
            self.release(Lease(self._owner, {}))


class SharedMemoryLeases:
    """The port `Leases` in memory, for several coordinators: what `TableLeases` does with rows.

    Parameters:
      now: the one clock, by which leases end.
      lease_time: how long a member counts after its last renewal.
    """

    def __init__(self, table: LeaseTable, *, now: Now, lease_time: timedelta) -> None:
        self._table = table
        self._now = now
        self._lease_time = lease_time
        self._owner: str | None = None
        self._spares_until: datetime | None = None

    @property
    def lease_time(self) -> timedelta | None:
        """How long a lease lasts after a renewal."""
        return self._lease_time

    def acquire(self, owner: str) -> Lease | None:
        """Join, and take what is free of one's share, which may be nothing."""
        with self._table.lock:
            self.evict()
            self._enter(owner)
            self._owner = owner
            lease = Lease(owner, {})
            return lease.along_with(self._table.give(owner, self._decide(lease).wanted))

    def renew(self, lease: Lease) -> datetime:
        """Go on holding it; the time.

        Raises:
          Fenced: somebody took partitions over; the others are renewed.
        """
        with self._table.lock:
            lost = self._decide(lease).lost
            if not lost or len(lost) < len(lease.epochs):
                self._prolong(lease.owner)
            if lost:
                raise Fenced(lost)
            return self._table.tick(self._now())

    def balance(self, lease: Lease) -> Balance:
        """Take what is free of one's share; say what others have a right to.

        Raises:
          Fenced: somebody took partitions over.
        """
        with self._table.lock:
            decision = self._decide(lease)
            if decision.lost:
                raise Fenced(decision.lost)
            return Balance(self._table.give(lease.owner, decision.wanted), decision.surplus)

    def give_up(self, lease: Lease, partitions: Collection[int]) -> None:
        """Give some of the partitions back at once."""
        with self._table.lock:
            self._table.free([number for number in self._table.owned_by(lease.owner) if number in partitions])

    def evict(self) -> int:
        """Free the partitions of those who expired; how many."""
        with self._table.lock:
            now, members = self._now(), self._table.members
            if self._spares_until is not None and now < self._spares_until:
                return 0
            self._table.members = {name: member for name, member in members.items() if member.expires_at > now}
            orphans = [number for number, owner in self._table.owners.items() if owner not in self._table.members]
            self._table.free(orphans)
            return len(orphans)

    def release(self, lease: Lease) -> None:
        """Leave, and give everything back at once."""
        with self._table.lock:
            self._table.members.pop(lease.owner, None)
            self._table.free(self._table.owned_by(lease.owner))
            self._owner = None

    def holder(self) -> Holder | None:
        """One of those who hold partitions."""
        with self._table.lock:
            owner = next(iter(self._table.owners.values()), None)
        return None if owner is None else Holder(owner)

    def close(self) -> None:
        """Leave, where that was not done yet."""
        if self._owner is not None:
            self.release(Lease(self._owner, {}))

    def _enter(self, owner: str) -> None:
        now = self._now()
        self._table.members[owner] = Member(owner, now, now + self._lease_time)

    def _prolong(self, owner: str) -> None:
        now = self._now()
        before = self._table.members.get(owner)
        if before is None or before.expires_at <= now:
            self._spares_until = now + self._lease_time / 2
        joined_at = now if before is None else before.joined_at
        self._table.members[owner] = Member(owner, joined_at, now + self._lease_time)

    def _decide(self, lease: Lease) -> Decision:
        return decide(lease, self._table.holdings(), list(self._table.members.values()), self._now())
