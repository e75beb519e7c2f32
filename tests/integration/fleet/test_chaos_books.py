"""The books of `make chaos` find what is planted: each line that must hold, broken once, is the one that is listed."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from chaos import books
from chaos.faults import FAULTS, Fault, schedule
from chaos.orders import Journal, Order, Promise, Verb
from chaos.servers import PostgresServer
from dramaturg_protocol import events as e
from dramaturg_protocol.event_codec import encode_body
from dramaturg_protocol.payloads import Payload
from dramaturg_store.engines import make_engine
from dramaturg_store.upgrade import upgrade
from tests.integration.fleet.servers import running

pytestmark = [pytest.mark.slow]

RUN = "00000000-0000-7000-8000-000000000001"
OTHER = "00000000-0000-7000-8000-000000000002"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
RECORD = "UPDATE dramaturg_runs SET "
EVENTS: list[e.EventBody] = [
    e.RunStarted("m", RUN, "chaos-chain", 1, Payload('{"args":[1,1]}'), {"order": "tag"}),
    e.StepScheduled(1, "add", Payload('{"args":[1]}'), "default"),
    e.StepCompleted(1, "add", 1, Payload("2")),
    e.TimerStarted(2, BEGIN + timedelta(seconds=4)),
    e.TimerFired(2),
    e.RunCompleted(Payload("2")),
]
ORDER = Order("tag", Promise.ACCEPTED, "chaos-chain", "start", 0.0, RUN, "2", "COMPLETED")


def database(url: str, name: str) -> str:
    return f"{url.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="module")
def server() -> Generator[PostgresServer, None, None]:
    with running(lambda: PostgresServer("fsync=off", "track_commit_timestamp=on")) as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("CREATE DATABASE base")
        url = database(server.url, "base")
        engine = make_engine(url)
        upgrade(engine, "chaos", 1)
        engine.dispose()
        with psycopg.connect(database(server.dsn, "base"), autocommit=True) as connection:
            connection.execute(
                "INSERT INTO dramaturg_runs VALUES (%s, 'chaos', 1, %s, 'chaos-chain', 1, 'COMPLETED', 1, %s,"
                """ '{"order":"tag"}', %s, %s, %s, '2', NULL)""",
                [RUN, RUN, len(EVENTS), BEGIN, BEGIN, BEGIN],
            )
            for number, body in enumerate(EVENTS, start=1):
                connection.execute(
                    "INSERT INTO dramaturg_events VALUES (%s, %s, %s, %s, %s)",
                    [RUN, number, e.type_of(body), BEGIN + timedelta(seconds=number), encode_body(body)],
                )
        yield server


class Desk:
    """A small world whose books balance, to be broken."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS desk")
            connection.execute("CREATE DATABASE desk TEMPLATE base")
        self.dsn = database(server.dsn, "desk")
        self._url = database(server.url, "desk")
        self._ledger = folder / "ledger.jsonl"
        self.journal = Journal(folder / "journal.jsonl")
        self.struck: list[tuple[Fault, float, float]] = []
        self.queued: list[str] = []
        self.journal.ordered([ORDER])
        self.note("begun")
        self.note("done")

    def note(self, what: str, at: float = 0.0, seq: int = 1, key: str = f"{RUN}:1:1") -> Desk:
        line = {"what": what, "at": at, "run_id": RUN, "seq": seq, "attempt": 1, "key": key, "pid": 1}
        with self._ledger.open("a") as lines:
            lines.write(json.dumps(line) + "\n")
        return self

    def order(self, **changes: Any) -> Desk:
        values = {name: getattr(ORDER, name) for name in Order.__slots__}
        self.journal.ordered([Order(**{**values, **changes})])
        return self

    def sql(self, *statements: str) -> Desk:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())
        return self

    def event(self, body: e.EventBody, number: int = 6, seconds: float = 6) -> Desk:
        """Put an event at a place, and move the others on."""
        moved = "UPDATE dramaturg_events SET number = number + 1 WHERE number = "
        at = (BEGIN + timedelta(seconds=seconds)).isoformat()
        return self.sql(
            *(f"{moved}{each}" for each in range(len(EVENTS), number - 1, -1)),
            f"INSERT INTO dramaturg_events VALUES ('{RUN}', {number}, '{e.type_of(body)}', '{at}', '{encode_body(body)}')",
            f"{RECORD} last_event = last_event + 1",
        )

    def stopped(self, verb: str, *, is_answered: bool = True) -> Desk:
        self.journal.asked(Verb(RUN, verb, 0.0, 1.0, is_answered))
        return self

    def left_in_queue(self, message_id: str) -> Desk:
        self.queued.append(message_id)
        return self

    def against(self) -> list[str]:
        """What does not hold."""
        found = books.balance(self.dsn, self._url, self.journal, self._ledger, self.struck, queued=self.queued)
        return [finding.holds for finding in found if finding.discrepancies]


@pytest.fixture
def desk(server: PostgresServer, tmp_path: Path) -> Generator[Desk, None, None]:
    desk = Desk(server, tmp_path)
    yield desk
    desk.journal.close()


#: A start of two runs that failed at its client.
FAILED: dict[str, Any] = {"promise": Promise.UNCERTAIN, "run_id": ""}

PLANTED: dict[str, Callable[[Desk], Desk]] = {
    "every accepted start has its run": lambda desk: desk.order(run_id=OTHER),
    "a start that failed at its client began all": lambda desk: desk.order(**FAILED).order(**FAILED),
    "a message that came to nothing was in Redis": lambda desk: desk.order(promise=Promise.SENT, run_id=OTHER),
    "every run was ordered": lambda desk: desk.sql(RECORD + """tags = '{"order":"nobody"}'"""),
    "a run that completed has no child": lambda desk: desk.sql(
        "INSERT INTO dramaturg_runs (run_id, namespace, partition, workflow_id, workflow, version, status, generation,"
        " last_event, tags, started_at, updated_at, closed_at, parent) "
        f"SELECT '{OTHER}', namespace, partition, '{OTHER}', workflow, version, 'FAILED', generation, last_event, tags,"
        " started_at, updated_at, closed_at, run_id FROM dramaturg_runs"
    ),
    "one key is one run": lambda desk: desk.order(key="k").order(key="k", run_id=OTHER),
    "every run that nobody stopped ended": lambda desk: desk.sql(RECORD + "status = 'FAILED'"),
    "a run that was stopped ended so": lambda desk: desk.sql(RECORD + "status = 'TERMINATED'").stopped(
        "cancel", is_answered=False
    ),
    "a cancel or terminate that was answered": lambda desk: desk.stopped("cancel"),
    "every completed run has the right result": lambda desk: desk.sql(RECORD + "result = '3'"),
    "an outcome is recorded once": lambda desk: desk.event(EVENTS[2]),
    "events are numbered": lambda desk: desk.sql("UPDATE dramaturg_events SET number = 9 WHERE number = 6"),
    "event times never go back": lambda desk: desk.event(e.Logged("WARNING", "late"), seconds=3),
    "nothing but a retry or a reset follows": lambda desk: desk.event(e.Logged("WARNING", "late"), number=7, seconds=7),
    "timers fire once": lambda desk: desk.sql(
        "UPDATE dramaturg_events SET time = time - interval '3 s' WHERE number <= 5"
    ),
    "every recorded success happened": lambda desk: desk.event(e.StepCompleted(9, "add", 1, Payload("2"))),
    "a position has one idempotency key": lambda desk: desk.note("begun", key="another:1:9"),
    "by its idempotency key every side effect": lambda desk: desk.note("begun", seq=7, key="another:1:9"),
    "no step began again": lambda desk: desk.note("begun", at=4e9),
    "no open work belongs": lambda desk: desk.sql(
        f"INSERT INTO dramaturg_open_work VALUES ('{RUN}', 1, 1, 1, 'step', NULL, 1, NULL)"
    ),
    "no limit counts what is over": lambda desk: desk.sql(
        f"INSERT INTO dramaturg_slots VALUES ('{RUN}', 1, 1, 1, 0, 'l', 1, 1, 0, 1, 3, 0, now(), NULL, 'add_in_lane', '1')"
    ),
    "the inbox is empty": lambda desk: desk.sql(
        f"INSERT INTO dramaturg_inbox VALUES (1, 'm', 1, 'cancel', '{RUN}', '', false, now())"
    ),
    "the entry queue is empty": lambda desk: desk.left_in_queue("m"),
    "there are no dead letters": lambda desk: desk.sql(
        "INSERT INTO dramaturg_dead_letters VALUES (1, 'chaos', 1, 'report', NULL, 'cut off', '{', now())"
    ),
    "no run was ever blocked": lambda desk: desk.event(e.RunBlocked("stuck", "it ran for ever")),
    "the stored state of a run": lambda desk: desk.sql(RECORD + "generation = 2"),
}


def test_a_world_without_a_fault_balances(desk: Desk) -> None:
    assert desk.against() == []


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_planted_is_found(desk: Desk, planted: str) -> None:
    PLANTED[planted](desk)

    assert [holds for holds in desk.against() if holds.startswith(planted)]


def test_every_line_of_the_books_is_broken_once_here() -> None:
    known = [holds for holds, _ in books.statements()]

    assert [holds for holds in known if not any(holds.startswith(planted) for planted in PLANTED)] == [
        "every run is closed"
    ]


def test_an_open_run_without_a_cause_is_found_and_one_with_a_cause_is_not(desk: Desk) -> None:
    desk.sql(RECORD + "status = 'RUNNING', closed_at = NULL")
    assert "every run is closed" in desk.against()

    with psycopg.connect(desk.dsn) as connection:
        assert len(books.without_cause(connection)) == 1
    desk.sql(f"INSERT INTO dramaturg_open_work VALUES ('{RUN}', 1, 1, 1, 'step', NULL, 1, NULL)")
    with psycopg.connect(desk.dsn) as connection:
        assert books.without_cause(connection) == []


def test_a_copy_of_a_worker_that_was_frozen_explains_a_late_repeat(desk: Desk) -> None:
    desk.note("begun", at=4e9)
    desk.struck = [(Fault(0.0, "worker frozen", 0, 9.0), 3.9e9, 3.95e9)]

    assert desk.against() == []


def test_a_seed_repeats_its_faults() -> None:
    faults = schedule(7, 3600.0, 4.0, 4.0)

    assert faults == schedule(7, 3600.0, 4.0, 4.0)
    assert faults != schedule(8, 3600.0, 4.0, 4.0)
    assert {fault.name for fault in faults} == set(FAULTS)
