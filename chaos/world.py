"""All that a chaos run has: servers, fleet, ledger and journal, in one folder; gone when it is over but for its logs."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import redis

from chaos.ledger import LEDGER
from chaos.members import Member
from chaos.orders import Journal
from chaos.servers import PostgresServer, RedisServer
from dramaturg import Settings
from dramaturg_protocol.redis_client import connect
from dramaturg_store.engines import make_engine
from dramaturg_store.upgrade import upgrade

NAMESPACE = "chaos"
PARTITIONS = 8
#: How many connections PostgreSQL lets in; a fault takes all that are left.
CONNECTIONS = 60


class World:
    """Servers and processes, while it is open.

    Parameters:
      folder: holds logs, ledger and journal, and stays.
      lease_seconds: of coordinators.
      over: set when everything is to end: faults that wait go on to their undoing at once.
    """

    def __init__(
        self, folder: Path, *, coordinators: int, workers: int, lease_seconds: float, over: threading.Event
    ) -> None:
        self.folder = folder
        self.lease_seconds = lease_seconds
        self.ledger = folder / "ledger.jsonl"
        self.over = over
        self._numbers = {"coordinator": coordinators, "worker": workers}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.journal = Journal(self.folder / "journal.jsonl")
            stack.callback(self.journal.close)
            self.redis = RedisServer()
            stack.callback(self._close_server, self.redis)
            self.postgres = PostgresServer(
                # When a row was really there for others is what the books go by.
                f"max_connections={CONNECTIONS}",
                "track_commit_timestamp=on",
                "log_line_prefix=%m [%p] ",
            )
            stack.callback(self._close_server, self.postgres)
            self.redis.start()
            self.postgres.start()
            engine = make_engine(self.postgres.url)
            upgrade(engine, NAMESPACE, PARTITIONS)
            engine.dispose()
            self.settings = Settings(
                database_url=self.postgres.url, broker_url=self.redis.url, namespace=NAMESPACE, modules=[]
            )
            self.over_broker = Settings(broker_url=self.redis.url, namespace=NAMESPACE, modules=[])
            self.coordinators = self._members("coordinator")
            self.workers = self._members("worker")
            for member in self.members:
                stack.callback(member.kill)
                member.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def members(self) -> Sequence[Member]:
        """Coordinators and workers."""
        return (*self.coordinators, *self.workers)

    def client_of_redis(self) -> redis.Redis:
        """A new connection to Redis."""
        return connect(self.redis.url)

    def have_all_up(self) -> None:
        """Start what is not running, and wake what is frozen."""
        for server in (self.redis, self.postgres):
            if not server.is_running:
                server.start()
        for member in self.members:
            member.wake()
            member.start()

    def _members(self, role: str) -> list[Member]:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DRAMATURG_")},
            "DRAMATURG_DATABASE_URL": self.postgres.url,
            "DRAMATURG_BROKER_URL": self.redis.url,
            "DRAMATURG_NAMESPACE": NAMESPACE,
            "DRAMATURG_METRICS_PORT": "0",
            "DRAMATURG_LEASE_TIME": f"{self.lease_seconds:g}s",
            LEDGER: str(self.ledger),
        }
        return [Member(role, number, self.folder, environment) for number in range(1, self._numbers[role] + 1)]

    def _close_server(self, server: RedisServer | PostgresServer) -> None:
        log = server.folder / "server.log"
        if log.exists():
            shutil.copyfile(log, self.folder / f"{server.name}.log")
        server.close()
