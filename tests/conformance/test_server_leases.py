"""Leases that expire, on the servers that have them; a SQLite file is locked by the operating system instead."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import text

from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.faults import Fenced
from dramaturg_store.database import Database
from dramaturg_store.table_leases import TableLeases
from dramaturg_store.transactions import Transactions
from dramaturg_store.upgrade import check
from tests.conformance.worlds import EPOCH, NAMESPACE, World, a_lease, a_new_run

pytestmark = pytest.mark.conformance


@pytest.fixture
def server(world: World) -> Database:
    if world.has_hand_clock:
        pytest.skip("no server")
    database = world.open()
    assert isinstance(database, Database)
    return database


def leases_of(database: Database, lease_time: timedelta) -> TableLeases:
    return TableLeases(Transactions(database.engine), namespace=NAMESPACE, lease_time=lease_time)


def test_an_expired_lease_is_taken_over_and_its_holder_fenced(server: Database) -> None:
    first = leases_of(server, timedelta(0)).acquire("first")
    assert first is not None

    second = leases_of(server, timedelta(hours=1)).acquire("second")

    assert second is not None
    assert all(second.epochs[partition] == epoch + 1 for partition, epoch in first.epochs.items())
    with pytest.raises(Fenced):
        server.leases.renew(first)
    with pytest.raises(Fenced):
        server.store.commit([a_new_run("run")], first, EPOCH)


def test_a_renewal_keeps_others_away(server: Database) -> None:
    short = leases_of(server, timedelta(0)).acquire("first")
    assert short is not None

    leases_of(server, timedelta(hours=1)).renew(short)

    assert leases_of(server, timedelta(hours=1)).acquire("second") is None


def test_a_release_of_a_lost_lease_leaves_its_successor_alone(server: Database) -> None:
    first = leases_of(server, timedelta(0)).acquire("first")
    assert first is not None
    second = leases_of(server, timedelta(hours=1)).acquire("second")
    assert second is not None

    server.leases.release(first)

    server.leases.renew(second)
    assert server.leases.acquire("third") is None


def test_times_of_the_server_are_those_of_the_machine_or_later(server: Database) -> None:
    lease = a_lease(server)

    assert server.leases.renew(lease) <= server.leases.renew(lease)


def test_a_transaction_that_a_frozen_holder_left_open_is_ended_by_the_server(server: Database) -> None:
    with server.engine.connect() as connection:
        if server.engine.dialect.name == "postgresql":
            shown = [
                connection.execute(text(f"SHOW {name}")).scalar_one()
                for name in ("idle_in_transaction_session_timeout", "lock_timeout")
            ]
            assert shown == ["7500ms", "10s"]
        else:
            found = connection.execute(text("SELECT @@idle_transaction_timeout, @@innodb_lock_wait_timeout")).one()
            assert tuple(found) == (7, 10)


def wait_until_idle(server: Database, backend: int) -> None:
    """Until a backend of PostgreSQL has answered all that was sent, and waits for more."""
    waits = text("SELECT wait_event = 'ClientRead' FROM pg_stat_activity WHERE pid = :pid")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with server.engine.connect() as connection:
            if connection.execute(waits, {"pid": backend}).scalar():
                return
        threading.Event().wait(0.02)
    raise AssertionError("the backend never waited for its client")


def test_a_holder_that_froze_while_it_sent_many_statements_at_once_keeps_nothing(server: Database) -> None:
    if server.engine.dialect.name != "postgresql":
        pytest.skip("only PostgreSQL's driver sends many at once")
    assert leases_of(server, timedelta(0)).acquire("first") is not None
    raw = psycopg.connect(server.engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
    pipeline = raw.pipeline()
    pipeline.__enter__()
    raw.execute("SELECT id FROM dramaturg_partitions FOR UPDATE").fetchall()
    wait_until_idle(server, raw.info.backend_pid)

    second = leases_of(server, timedelta(0)).acquire("second")

    assert second is not None
    with suppress(psycopg.Error):
        raw.execute("SELECT 1").fetchall()
    assert raw.closed
    raw.close()


def test_an_upgraded_server_is_fine_and_a_foreign_namespace_is_not(server: Database) -> None:
    check(server.engine)

    with pytest.raises(ConfigurationError, match="no namespace"):
        Database(server.engine.url.render_as_string(hide_password=False), "nobody")
