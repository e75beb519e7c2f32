"""Who may advance runs, on a database server: rows of `members`, who are there, and of `partitions`, with an owner each.

    free ── acquire, balance: lock the rows that nobody owns, raise their epochs ──► held
    held ── renew: move the end of the member's own row, compare the epochs ──► held
    held ── balance says that there are too many: give_up ──► free         held ── release ──► free
    held ── nothing for `lease_time` ──► expired ── evict, by anybody: no owner any more ──► free

A lease is the member's, not the partition's: a renewal writes one row, which no commit locks. Who ought to have how many
says `shares`. There is one clock, the server's.

A commit that is under way holds the rows of its partitions: `evict` waits for it, a while, and whoever takes a partition
afterwards reads its runs in a transaction begun after that. A holder that froze finds another epoch, or no owner, when it
renews, balances or commits. `evict` locks the expired members first, so that one of them that wakes up and renews waits
for the outcome. Locks are taken in the order members, partitions by id. Nothing but `evict` ever waits for another
coordinator: rows that somebody has locked are not free.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, func, select, text, update

from dramaturg_protocol.config import DEFAULT_LEASE_TIME
from dramaturg_protocol.faults import Fenced, Unreachable
from dramaturg_protocol.records import Balance, Lease
from dramaturg_store.dialects import by_primary_key, server_now, upsert
from dramaturg_store.leases import Holder
from dramaturg_store.schema import members, partitions
from dramaturg_store.shares import Holding, Member, decide
from dramaturg_store.transactions import Transactions

logger = logging.getLogger("dramaturg.store")

_MY_NAMESPACE = members.c.namespace == bindparam("namespace")
_PARTITIONS = (
    select(partitions.c.id, partitions.c.owner, partitions.c.epoch)
    .where(partitions.c.namespace == bindparam("namespace"))
    .order_by(partitions.c.id)
)
_MEMBERS = select(members).where(_MY_NAMESPACE)
_EXPIRED = _MEMBERS.where(members.c.expires_at <= bindparam("now")).order_by(members.c.owner).with_for_update()
_SEEN = (
    select(func.max(partitions.c.clock)).where(partitions.c.namespace == bindparam("namespace")).scalar_subquery(),
    select(func.max(members.c.renewed_at)).where(_MY_NAMESPACE).scalar_subquery(),
)
_IDS = partitions.c.id.in_(bindparam("ids", expanding=True))
# By the primary key, whatever the planner thinks of so small a table: a scan would wait for rows that others have locked.
_ROWS = by_primary_key(select(partitions.c.id, partitions.c.owner, partitions.c.epoch).where(_IDS), partitions)
_LOCKED = _ROWS.order_by(partitions.c.id).with_for_update()
_UNLOCKED_YET = _ROWS.order_by(partitions.c.id).with_for_update(skip_locked=True)
_TAKE = (
    update(partitions)
    .where(_IDS)
    .values(owner=bindparam("b_owner"), epoch=partitions.c.epoch + 1, clock=bindparam("b_clock"))
)
_FREE = update(partitions).where(_IDS).values(owner=None, clock=bindparam("b_clock"))
_OWN_ROW = (members.c.namespace == bindparam("b_namespace")) & (members.c.owner == bindparam("b_owner"))
_RENEW = (
    update(members)
    .where(_OWN_ROW)
    .values(renewed_at=bindparam("renewed_at"), expires_at=bindparam("b_expires_at", type_=members.c.expires_at.type))
)
_SHORTEN = (
    update(members)
    .where(members.c.namespace == bindparam("b_namespace"), members.c.expires_at > bindparam("too_late"))
    .values(expires_at=bindparam("b_expires_at", type_=members.c.expires_at.type))
)
_LEAVE = delete(members).where(_OWN_ROW)
_FORGET = delete(members).where(_MY_NAMESPACE, members.c.owner.in_(bindparam("owners", expanding=True)))
# The server's own time-out counts only between two commands: a client that froze while it sent many at once (a pipeline)
# keeps its rows for ever.
_END_FROZEN = text(
    "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE a.datname = current_database()"
    " AND a.usename = current_user AND a.pid <> pg_backend_pid() AND a.wait_event_type = 'Client'"
    " AND a.state_change < clock_timestamp() - make_interval(secs => :seconds)"
    " AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.mode = 'RowShareLock'"
    " AND l.relation = to_regclass(:relation))"
)


class TableLeases:
    """The port `Leases` for a database server.

    Parameters:
      lease_time: how long a member counts after its last renewal.
      is_shared: take a share of the partitions beside others; else all of them or none.
    """

    def __init__(
        self,
        transactions: Transactions,
        *,
        namespace: str,
        lease_time: timedelta = DEFAULT_LEASE_TIME,
        is_shared: bool = False,
    ) -> None:
        self._transactions = transactions
        self._namespace = namespace
        self._lease_time = lease_time
        self._is_shared = is_shared
        self._owner: str | None = None
        self._spares_until: datetime | None = None

    @property
    def lease_time(self) -> timedelta | None:
        """How long a lease lasts after a renewal."""
        return self._lease_time

    def acquire(self, owner: str) -> Lease | None:
        """Join, and take what is free of one's share; ``None`` where it cannot be shared with those who are there."""
        self.evict()
        with self._transactions.writing() as connection:
            lease = self._join(connection, owner) if self._is_shared else self._take_all(connection, owner)
        self._owner = owner if lease is not None else None
        return lease

    def renew(self, lease: Lease) -> datetime:
        """Go on holding it; the database's time.

        Raises:
          Fenced: somebody took partitions over; the others are renewed.
        """
        with self._transactions.writing() as connection:
            now, seen = self._times(connection)
            self._prolong(connection, lease.owner, now, seen)
            # Read after the own row was written: an eviction that was under way is over now.
            lost = decide(lease, self._holdings(connection), (), now).lost
            if lost and len(lost) == len(lease.epochs):
                raise Fenced(lost)
        if lost:
            raise Fenced(lost)
        return seen

    def balance(self, lease: Lease) -> Balance:
        """Take what is free of one's share; say what others have a right to.

        Raises:
          Fenced: somebody took partitions over.
        """
        if not self._is_shared:
            return Balance()
        with self._transactions.reading() as connection:
            now, _ = self._times(connection)
            decision = decide(lease, self._holdings(connection), self._members(connection), now)
        if decision.lost:
            raise Fenced(decision.lost)
        if not decision.wanted:
            return Balance(surplus=decision.surplus)
        with self._transactions.writing() as connection:
            gained = self._take(connection, lease.owner, decision.wanted)
        return Balance(gained, decision.surplus)

    def give_up(self, lease: Lease, partitions: Collection[int]) -> None:
        """Give some of the partitions back at once."""
        with self._transactions.writing() as connection:
            self._give_back(connection, lease.owner, partitions)

    def evict(self) -> int:
        """Free the partitions of those who expired; how many. It waits for a commit of theirs that is under way."""
        with self._transactions.reading() as connection:
            now, _ = self._times(connection)
            ends = [member.expires_at for member in self._members(connection)]
            if all(now < end <= self._latest(now) for end in ends) and not self._orphans(connection, now):
                return 0
        # Whoever comes back after its own lease was over, as after an outage of the database, lets the others come back.
        if self._spares_until is not None and now < self._spares_until:
            return 0
        self._end_frozen_holder()
        with self._transactions.writing() as connection:
            return self._evict(connection)

    def release(self, lease: Lease) -> None:
        """Leave, and give everything back at once."""
        with self._transactions.writing() as connection:
            connection.execute(_LEAVE, {"b_namespace": self._namespace, "b_owner": lease.owner})
            mine = [each.id for each in self._holdings(connection) if each.owner == lease.owner]
            self._give_back(connection, lease.owner, mine)
        self._owner = None

    def holder(self) -> Holder | None:
        """One of those who hold partitions; where it runs is not known here."""
        with self._transactions.reading() as connection:
            owners = [each.owner for each in self._holdings(connection) if each.owner is not None]
        return Holder(owners[0]) if owners else None

    def close(self) -> None:
        """Give back what is held; while the server does not answer it expires by itself."""
        if self._owner is not None:
            with suppress(Unreachable):
                self.release(Lease(self._owner, {}))

    # Parts.

    def _join(self, connection: Connection, owner: str) -> Lease:
        now, seen = self._times(connection)
        self._enter(connection, owner, now, seen, takes_all=False)
        lease = Lease(owner, {})
        decision = decide(lease, self._holdings(connection), self._members(connection), now)
        return lease.along_with(self._take(connection, owner, decision.wanted))

    def _take_all(self, connection: Connection, owner: str) -> Lease | None:
        # With all rows locked nobody takes a partition, and of two who want all of them one is the first.
        ids = [each.id for each in self._holdings(connection)]
        connection.execute(_LOCKED, {"ids": ids})
        now, seen = self._times(connection)
        if any(member.expires_at > now for member in self._members(connection)):
            return None
        self._enter(connection, owner, now, seen, takes_all=True)
        connection.execute(_TAKE, {"ids": ids, "b_owner": owner, "b_clock": seen})
        return Lease(owner, {each.id: each.epoch for each in self._holdings(connection)})

    def _enter(self, connection: Connection, owner: str, now: datetime, seen: datetime, *, takes_all: bool) -> None:
        row = {
            "namespace": self._namespace,
            "owner": owner,
            "joined_at": now,
            "renewed_at": seen,
            "expires_at": now + self._lease_time,
            "takes_all": takes_all,
        }
        connection.execute(upsert(connection.dialect.name, members), row)

    def _prolong(self, connection: Connection, owner: str, now: datetime, seen: datetime) -> None:
        before = next((member for member in self._members(connection) if member.owner == owner), None)
        if before is None or before.expires_at <= now:
            self._spares_until = now + self._lease_time / 2
        values = {"b_namespace": self._namespace, "b_owner": owner, "renewed_at": seen}
        if not connection.execute(_RENEW, {**values, "b_expires_at": now + self._lease_time}).rowcount:
            self._enter(connection, owner, now, seen, takes_all=not self._is_shared)

    def _take(self, connection: Connection, owner: str, wanted: Collection[int]) -> Mapping[int, int]:
        if not wanted:
            return {}
        rows = connection.execute(_UNLOCKED_YET, {"ids": list(wanted)}).all()
        taken = {row.id: row.epoch + 1 for row in rows if row.owner in (None, owner)}
        if taken:
            _, seen = self._times(connection)
            connection.execute(_TAKE, {"ids": list(taken), "b_owner": owner, "b_clock": seen})
        return taken

    def _give_back(self, connection: Connection, owner: str, ids: Collection[int]) -> None:
        rows = connection.execute(_LOCKED, {"ids": list(ids)}).all() if ids else ()
        mine = [row.id for row in rows if row.owner == owner]
        if mine:
            _, seen = self._times(connection)
            connection.execute(_FREE, {"ids": mine, "b_clock": seen})

    def _evict(self, connection: Connection) -> int:
        now, seen = self._times(connection)
        expired = connection.execute(_EXPIRED, {"namespace": self._namespace, "now": now}).all()
        far = {"b_namespace": self._namespace, "too_late": self._latest(now)}
        connection.execute(_SHORTEN, {**far, "b_expires_at": now + self._lease_time})
        orphans = self._orphans(connection, now)
        if orphans:
            connection.execute(_LOCKED, {"ids": orphans})
            # Read again, now that they are locked: somebody may have joined and taken them since.
            orphans = sorted(set(orphans).intersection(self._orphans(connection, now)))
        if orphans:
            connection.execute(_FREE, {"ids": orphans, "b_clock": seen})
        if expired:
            connection.execute(_FORGET, {"namespace": self._namespace, "owners": [row.owner for row in expired]})
        return len(orphans)

    def _latest(self, now: datetime) -> datetime:
        # No renewal puts an end further away: where one is, the server's clock was set back since.
        return now + 2 * self._lease_time

    def _end_frozen_holder(self) -> None:
        """End the transaction of one who is to be evicted, and does not go on with it."""
        if self._transactions.dialect != "postgresql":
            return
        with self._transactions.writing() as connection:
            ended = connection.execute(
                _END_FROZEN, {"seconds": self._lease_time.total_seconds() / 2, "relation": partitions.name}
            ).all()
        if ended:
            logger.warning("ended %d transaction(s) of a coordinator that froze in the middle", len(ended))

    def _orphans(self, connection: Connection, now: datetime) -> Sequence[int]:
        """The partitions whose owner is not there, or not any more."""
        # In this order: who joins writes both in one transaction, so that an owner who is seen is a member who is seen.
        owned = [each for each in self._holdings(connection) if each.owner is not None]
        live = {member.owner for member in self._members(connection) if member.expires_at > now}
        return [each.id for each in owned if each.owner not in live]

    def _holdings(self, connection: Connection) -> Sequence[Holding]:
        rows = connection.execute(_PARTITIONS, {"namespace": self._namespace})
        return [Holding(row.id, row.owner, row.epoch) for row in rows]

    def _members(self, connection: Connection) -> Sequence[Member]:
        rows = connection.execute(_MEMBERS, {"namespace": self._namespace})
        return [Member(row.owner, row.joined_at, row.expires_at, row.takes_all) for row in rows]

    def _times(self, connection: Connection) -> tuple[datetime, datetime]:
        """The server's time, by which leases end; and the time for runs, which is never below what anybody has seen."""
        statement = select(server_now(connection.dialect.name), *_SEEN)
        now, taken, renewed = connection.execute(statement, {"namespace": self._namespace}).one()
        return now, max(now, *(seen for seen in (taken, renewed) if seen is not None))
