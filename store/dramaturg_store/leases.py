"""Who may advance runs, on SQLite: the process that holds an OS lock on ``<database>.lock``.

    free ── acquire: lock the file, then raise the epoch of every partition ──► held
    held ── renew: the database's time ──► held
    held ── release, or the process ends in any way: the kernel drops the lock ──► free

A crash between the lock and the epochs leaves the old epochs under a free lock: the next one raises them. A coordinator
that was stopped keeps its lock while it lives; should somebody remove the lock file and start another, the raised
epochs fence the first one.

Time is the machine's clock, but never below the highest time that the database has seen: the file keeps it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import weakref
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, bindparam, case, func, select, update

from dramaturg_protocol.faults import Fenced, Unreachable
from dramaturg_protocol.records import Balance, Lease
from dramaturg_store.clock import Now
from dramaturg_store.schema import partitions
from dramaturg_store.transactions import Transactions

_NOW = bindparam("now", type_=partitions.c.clock.type)
_OWN = partitions.c.namespace == bindparam("b_namespace")
_LATER = case((partitions.c.clock < _NOW, _NOW), else_=partitions.c.clock)
_TAKE_OVER = update(partitions).where(_OWN).values(owner=bindparam("owner"), epoch=partitions.c.epoch + 1, clock=_LATER)
_EPOCHS = select(partitions.c.id, partitions.c.epoch).where(_OWN).order_by(partitions.c.number)
_TICK = update(partitions).where(_OWN).values(clock=_LATER)
_TIME = select(func.max(partitions.c.clock, type_=partitions.c.clock.type)).where(_OWN)
_GIVE_BACK = update(partitions).where(_OWN, partitions.c.owner == bindparam("b_owner")).values(owner=None)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the partitions.

    Attributes:
      pid, host: of the process; 0 and empty where that is not known.
    """

    owner: str
    pid: int = 0
    host: str = ""


class FileLeases:
    """The port `Leases` for one SQLite file: all partitions or none."""

    def __init__(self, transactions: Transactions, path: Path, *, namespace: str, now: Now) -> None:
        self._transactions = transactions
        self._lock = _FileLock(path)
        self._namespace = namespace
        self._now = now

    @property
    def lease_time(self) -> timedelta | None:
        """For ever: the kernel takes the lock back when the process ends."""
        return None

    def acquire(self, owner: str) -> Lease | None:
        """Take every partition, raising its epoch; ``None`` while another coordinator holds the file."""
        if not self._lock.take(Holder(owner, os.getpid(), socket.gethostname())):
            return None
        try:
            return self._take_over(owner)
        except BaseException:
            self._lock.give_back()
            raise

    def renew(self, lease: Lease) -> datetime:
        """Go on holding it; the database's time.

        Raises:
          Fenced: somebody took a partition over.
        """
        with self._transactions.writing() as connection:
            epochs = self._epochs(connection)
            lost = [number for number, epoch in lease.epochs.items() if epochs.get(number) != epoch]
            if lost:
                raise Fenced(lost)
            connection.execute(_TICK, {"b_namespace": self._namespace, "now": self._now()})
            return self._time(connection)

    def balance(self, lease: Lease) -> Balance:
        """Nobody else has a share."""
        return Balance()

    def give_up(self, lease: Lease, partitions: Collection[int]) -> None:
        """Nobody else asks for them."""

    def evict(self) -> int:
        """Nobody expires: the kernel drops the lock of whoever ends."""
        return 0

    def release(self, lease: Lease) -> None:
        """Give it back at once."""
        try:
            with self._transactions.writing() as connection:
                connection.execute(_GIVE_BACK, {"b_namespace": self._namespace, "b_owner": lease.owner})
        finally:
            self._lock.give_back()

    def holder(self) -> Holder | None:
        """Who holds the file, or held it last; for the message when `acquire` gave nothing."""
        return self._lock.holder()

    def close(self) -> None:
        """Drop the lock, if it is held."""
        self._lock.give_back()

    def _take_over(self, owner: str) -> Lease:
        with self._transactions.writing() as connection:
            values = {"b_namespace": self._namespace, "owner": owner, "now": self._now()}
            connection.execute(_TAKE_OVER, values)
            return Lease(owner, self._epochs(connection))

    def _epochs(self, connection: Connection) -> dict[int, int]:
        return {row.id: row.epoch for row in connection.execute(_EPOCHS, {"b_namespace": self._namespace})}

    def _time(self, connection: Connection) -> datetime:
        seen: datetime = connection.scalars(_TIME, {"b_namespace": self._namespace}).one()
        return seen


class _FileLock:
    """An exclusive lock on a file, dropped by the kernel when the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self, holder: Holder) -> bool:
        """Whether it is ours now; false while anybody has it, be it another part of this process."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Unreachable(f"the lock file {self._path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)
        self._descriptor = descriptor
        _held.add(self)
        return True

    def give_back(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            self.forget()

    def forget(self) -> None:
        """Close our end; the lock goes with the last one."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> Holder | None:
        try:
            return Holder(**json.loads(self._path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


_held: weakref.WeakSet[_FileLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()


# A child made by fork shares the open file, and with it the lock, which would then outlive the coordinator.
os.register_at_fork(after_in_child=_forget_all)
