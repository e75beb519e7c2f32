"""A database, put together: the ports of a coordinator, what clients submit, and the reads for people."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Self

from sqlalchemy import Engine, select

from dramaturg_protocol import ids
from dramaturg_protocol.config import DEFAULT_LEASE_TIME
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_store.approvals import SqlApprovals
from dramaturg_store.clock import Now, system_now
from dramaturg_store.codec_check import check_codec
from dramaturg_store.deaths import Deaths
from dramaturg_store.engines import adopt_engine, database_file, make_engine
from dramaturg_store.families import Families
from dramaturg_store.figures import Figures
from dramaturg_store.inbox import SqlInbox
from dramaturg_store.leases import FileLeases
from dramaturg_store.letters import SqlLetters
from dramaturg_store.peers import SqlPeers
from dramaturg_store.postponed import SqlPostponed
from dramaturg_store.prune import Prune
from dramaturg_store.reads import Reads
from dramaturg_store.registry import Registry
from dramaturg_store.schedules import SqlSchedules
from dramaturg_store.schema import partitions, settings
from dramaturg_store.starts import SqlStarts
from dramaturg_store.store import SqlStore
from dramaturg_store.table_leases import TableLeases
from dramaturg_store.transactions import Transactions
from dramaturg_store.upgrade import check, secret_name, upgrade


class Database:
    """One namespace of a database.

    Parameters:
      url: of the database; ``sqlite://`` for one that is gone after `close`. Or an engine of the caller's own, which
        `close` leaves as it is.
      upgrade_first: bring the schema up to date and make the namespace's partitions; by default on SQLite only.
      now: the clock of this machine.
      lease_time: how long a coordinator's lease lasts after a renewal, on a server.
      is_shared: whether its coordinator shares the partitions with others, on a server; else it takes all or none.

    Attributes:
      engine: SQLAlchemy's.
      partitions: ids of the namespace's partitions, by their number.
      secret: of the namespace, for tokens.
      store, inbox, leases: the ports of a coordinator.
      starts: where clients submit starts.
      schedules: what begins runs by itself.
      reads: what people and clients ask.
      figures: what its operator asks.
      approvals: what people are asked to decide.
      letters: what was put aside.
      registry: where coordinators say that they are there.
      prune: deletes what is old.

    Raises:
      ConfigurationError: the URL is wrong, or the database cannot be used by this code.
      Unreachable: the database does not answer.
    """

    def __init__(
        self,
        url: str | Engine,
        namespace: str = "dramatiq",
        *,
        upgrade_first: bool | None = None,
        now: Now = system_now,
        lease_time: timedelta = DEFAULT_LEASE_TIME,
        is_shared: bool = False,
    ) -> None:
        self._is_ours = isinstance(url, str)
        self.engine = make_engine(url, lease_time=lease_time) if isinstance(url, str) else adopt_engine(url)
        self.namespace = namespace
        self._lease_time = lease_time
        self._is_shared = is_shared
        try:
            self._prepare(upgrade_first)
            self._wire(now)
        except BaseException:
            self._dispose()
            raise

    def partition_of(self, workflow_id: str) -> int:
        """The id of the partition that a workflow id belongs to."""
        return self.partitions[ids.partition_of(workflow_id, len(self.partitions))]

    def deaths(self, fingerprint: str) -> Deaths:
        """The deaths of processes with this code."""
        return Deaths(self._transactions, namespace=self.namespace, fingerprint=fingerprint, now=self._now)

    def peers(self, fingerprint: str) -> SqlPeers:
        """The other coordinators, for one with this code."""
        deaths = self.deaths(fingerprint)
        return SqlPeers(self._transactions, self.registry, deaths, fingerprint=fingerprint, now=self._now)

    def check_codec(self) -> None:
        """For a coordinator, before it begins: whether it can read what is there.

        Raises:
          ConfigurationError: values are encoded by a codec, or with a key, that is not here.
        """
        check_codec(self._transactions, self.namespace)

    def ping(self) -> None:
        """Ask for an answer, and nothing else. Raises `Unreachable`."""
        with self._transactions.reading() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        """Give back the lease, if any, and all connections."""
        try:
            self.leases.close()
        finally:
            self._dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _dispose(self) -> None:
        if self._is_ours:
            self.engine.dispose()

    def _prepare(self, upgrade_first: bool | None) -> None:
        if upgrade_first or (upgrade_first is None and self.engine.dialect.name == "sqlite"):
            upgrade(self.engine, self.namespace)
        else:
            check(self.engine)

    def _wire(self, now: Now) -> None:
        namespace, transactions = self.namespace, Transactions(self.engine)
        self._transactions = transactions
        self._now = now
        self.partitions = self._partition_ids()
        self.secret = self._secret()
        self.store = SqlStore(transactions, namespace=namespace, now=now)
        self.inbox = SqlInbox(transactions, now=now)
        self.reads = Reads(transactions, namespace=namespace, now=now)
        self.families = Families(transactions, namespace=namespace)
        self.figures = Figures(transactions, namespace=namespace, now=now)
        self.approvals = SqlApprovals(transactions, namespace=namespace)
        self.letters = SqlLetters(transactions, self.inbox, namespace=namespace, now=now)
        self.registry = Registry(transactions, namespace=namespace, now=now)
        self.prune = Prune(transactions, namespace=namespace, now=now)
        self.starts = SqlStarts(transactions, self.inbox, namespace=namespace, partition_of=self.partition_of, now=now)
        self.schedules = SqlSchedules(
            transactions, self.inbox, namespace=namespace, partition_of=self.partition_of, now=now
        )
        self.postponed = SqlPostponed(transactions, self.inbox, namespace=namespace, now=now)
        self.leases = self._leases(now)

    def _leases(self, now: Now) -> FileLeases | TableLeases:
        if self.engine.dialect.name != "sqlite":
            return TableLeases(
                self._transactions,
                namespace=self.namespace,
                lease_time=self._lease_time,
                is_shared=self._is_shared,
            )
        path = database_file(self.engine)
        return FileLeases(self._transactions, path.with_name(f"{path.name}.lock"), namespace=self.namespace, now=now)

    def _partition_ids(self) -> tuple[int, ...]:
        with self._transactions.reading() as connection:
            wanted = select(partitions.c.id).where(partitions.c.namespace == self.namespace)
            found = tuple(connection.scalars(wanted.order_by(partitions.c.number)))
        if not found:
            raise ConfigurationError(f"the database has no namespace {self.namespace!r}: run 'dramaturg db upgrade'")
        return found

    def _secret(self) -> str:
        with self._transactions.reading() as connection:
            wanted = select(settings.c.value).where(settings.c.name == secret_name(self.namespace))
            return str(connection.scalars(wanted).one())
