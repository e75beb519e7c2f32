"""The books of `make chaos` find what is planted: each line that must hold, broken once, is the one that is listed."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from chaos import books, report
from chaos.faults import FAULTS, Fault, schedule
from chaos.orders import Heard, Journal, Order, Promise, Said, Timetable, Verb
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
A_SECOND = timedelta(seconds=1)
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


def scheduled_for(moment: datetime) -> str:
    """The tags of a run, as SQL."""
    tags = {"order": "tag", "dramaturg.schedule": "s", "dramaturg.scheduled_for": moment.isoformat()}
    return f"'{json.dumps(tags)}'"


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
        self._last = len(EVENTS)
        self.journal.ordered([ORDER])
        self.note("begun")
        self.note("done")

    def note(self, what: str, at: float = 0.0, seq: int = 1, key: str = f"{RUN}:1:1", run_id: str = RUN) -> Desk:
        line = {"what": what, "at": at, "run_id": run_id, "seq": seq, "attempt": 1, "key": key, "pid": 1}
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
        self._last += 1
        return self.sql(
            *(f"{moved}{each}" for each in range(self._last - 1, number - 1, -1)),
            f"INSERT INTO dramaturg_events VALUES ('{RUN}', {number}, '{e.type_of(body)}', '{at}', '{encode_body(body)}')",
            f"{RECORD} last_event = last_event + 1",
        )

    def stopped(self, verb: str, *, is_answered: bool = True) -> Desk:
        self.journal.asked(Verb(RUN, verb, 0.0, 1.0, is_answered))
        return self

    def said(self, what: str, **changes: Any) -> Desk:
        """A client said something, under the name ``n``, and was answered."""
        said = Said(RUN, what, "n", "true", "null", "null", is_keyed=True, heard=Heard.YES, tries=1, at=0.0, until=1.0)
        self.journal.said(replace(said, **changes))
        return self

    def scheduled(self) -> Desk:
        """There was a schedule of two times, the first of which is that of the run; none was missed."""
        first = BEGIN.timestamp()
        self.journal.scheduled(Timetable("s", first, first + 1.5, 1.0))
        return self.sql(
            "INSERT INTO dramaturg_schedules (namespace, id, partition, workflow, body, spec, overlap, catchup, declared,"
            " paused, note, waiting, running, fired, skipped, missed, created_at, updated_at) VALUES ('chaos', 's', 1,"
            " 'chaos-chain', '{}', '{}', 'allow_all', 3600, 'client', '', '', 0, '[]', 1, 0, 0, now(), now())",
            RECORD + f"tags = {scheduled_for(BEGIN)}",
        )

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
    "every run that went on has one next run": lambda desk: desk.sql(RECORD + "status = 'CONTINUED'"),
    "clients were answered in the end": lambda desk: desk.said("signal", heard=Heard.UNKNOWN),
    "a signal that was answered": lambda desk: desk.said("signal"),
    "an update that was answered": lambda desk: desk.said("update"),
    "an update that its validator refused": lambda desk: desk.said("refused update"),
    "a query is answered": lambda desk: desk.said("query", expected="1", answer="2"),
    "an approval has one decision": lambda desk: desk.said("decision", is_keyed=False),
    "every time of a schedule has one run": lambda desk: desk.scheduled(),
    "no run is for a time": lambda desk: desk.scheduled().sql(RECORD + f"tags = {scheduled_for(BEGIN - A_SECOND)}"),
    "every run of a schedule completed": lambda desk: desk.scheduled().sql(RECORD + "status = 'FAILED'"),
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


SIGNAL = e.SignalReceived("m", "add", Payload('["n",1]'))
UPDATE = e.UpdateAccepted("m", "add", Payload('{"args":["n",1]}'))
UPDATED = e.UpdateCompleted("m", "add", Payload("2"))
ASKED = e.ApprovalRequested(3, "go")
DECIDED = e.ApprovalDecided(3, "go", approved=True, at=BEGIN, by="n")
HOOK = e.HookCreated(3, "call")
CALLED = e.HookResolved(3, "call", Payload('["n",true]'))


@pytest.mark.parametrize(
    ("said", "recorded"),
    [
        ({"what": "signal"}, [SIGNAL]),
        ({"what": "signal", "heard": Heard.NO, "tries": 2}, [SIGNAL]),
        ({"what": "signal", "is_keyed": False, "tries": 2}, [SIGNAL, SIGNAL]),
        ({"what": "update", "expected": "2", "answer": "2"}, [UPDATE, UPDATED]),
        ({"what": "decision"}, [ASKED, DECIDED]),
        ({"what": "decision", "heard": Heard.NO}, []),
        ({"what": "call"}, [HOOK, CALLED]),
        ({"what": "refused update", "heard": Heard.NO}, []),
        ({"what": "query", "expected": "1", "answer": "1"}, []),
    ],
)
def test_what_was_said_and_is_recorded_balances(desk: Desk, said: Any, recorded: list[e.EventBody]) -> None:
    desk.said(**said)
    for body in reversed(recorded):
        desk.event(body)

    assert desk.against() == []


@pytest.mark.parametrize(
    ("said", "recorded", "line"),
    [
        ({"what": "signal"}, [SIGNAL, SIGNAL], "a signal that was answered"),
        ({"what": "signal", "heard": Heard.NO}, [SIGNAL], "a signal that was answered"),
        ({"what": "signal", "is_keyed": False}, [SIGNAL, SIGNAL], "a signal that was answered"),
        ({"what": "update", "expected": "2", "answer": "2"}, [UPDATE, UPDATE, UPDATED], "an update that was answered"),
        ({"what": "update", "expected": "2", "answer": "3"}, [UPDATE, UPDATED], "an update that was answered"),
        ({"what": "update", "expected": "3", "answer": "2"}, [UPDATE, UPDATED], "an update that was answered"),
        ({"what": "refused update", "heard": Heard.NO}, [UPDATE], "an update that its validator refused"),
        ({"what": "decision"}, [ASKED, DECIDED, DECIDED], "an approval has one decision"),
        ({"what": "decision", "given": "false"}, [ASKED, DECIDED], "an approval has one decision"),
        ({"what": "decision", "heard": Heard.NO}, [ASKED, DECIDED], "an approval has one decision"),
        ({"what": "call", "name": "another"}, [HOOK, CALLED], "an approval has one decision"),
    ],
)
def test_what_was_said_and_is_recorded_otherwise_is_found(
    desk: Desk, said: Any, recorded: list[e.EventBody], line: str
) -> None:
    desk.said(**said)
    for body in reversed(recorded):
        desk.event(body)

    assert [holds for holds in desk.against() if holds.startswith(line)]


def go_on(desk: Desk, *, signals: tuple[str, ...]) -> None:
    """Let the run have gone on as another one, with a signal of the id ``m`` in both histories."""
    desk.event(SIGNAL)
    went_on = e.RunContinued(OTHER, Payload('{"args":[]}'), signals)
    desk.sql(
        "INSERT INTO dramaturg_runs SELECT"
        f" '{OTHER}', namespace, partition, workflow_id, workflow, version, status, generation, last_event, tags,"
        f" started_at, updated_at, closed_at, result, error, waits, parent, '{RUN}' FROM dramaturg_runs",
        f"INSERT INTO dramaturg_events SELECT '{OTHER}', number, type, time, data FROM dramaturg_events",
        f"UPDATE dramaturg_events SET type = 'run.continued', data = '{encode_body(went_on)}'"
        f" WHERE run_id = '{RUN}' AND type = 'run.completed'",
        RECORD + f"status = 'CONTINUED', result = NULL WHERE run_id = '{RUN}'",
    )
    for what in ("begun", "done"):
        desk.note(what, run_id=OTHER, key=f"{OTHER}:1:1")


def test_a_signal_that_was_handed_on_counts_in_the_next_run_of_the_chain(desk: Desk) -> None:
    go_on(desk, signals=("m",))
    desk.said("signal")

    assert desk.against() == []


def test_a_signal_that_two_runs_of_a_chain_took_is_found(desk: Desk) -> None:
    go_on(desk, signals=())
    desk.said("signal")

    assert [holds for holds in desk.against() if holds.startswith("a signal that was answered")]


def test_the_sum_of_a_chain_is_that_of_its_last_run(desk: Desk) -> None:
    go_on(desk, signals=("m",))
    desk.sql(RECORD + f"result = '3' WHERE run_id = '{OTHER}'")

    assert desk.against() == ["every completed run has the right result"]


def test_a_time_that_was_missed_is_not_asked_for(desk: Desk) -> None:
    desk.scheduled().sql("UPDATE dramaturg_schedules SET missed = 1")

    assert desk.against() == []


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


def test_the_report_keeps_what_is_open_of_a_run_that_the_books_name(desk: Desk, tmp_path: Path) -> None:
    desk.sql(f"INSERT INTO dramaturg_open_work VALUES ('{RUN}', 1, 1, 1, 'step', NULL, 1, NULL)")
    desk.against()
    report.save(tmp_path, {}, [books.Finding("every run is closed", [f"{RUN} is open"])], desk.dsn)

    kept = (tmp_path / "histories" / f"{RUN}.txt").read_text()

    assert [part.split("\t")[1] for part in kept.strip().split("\n\n")] == ["run.started", "begun", RUN]


def test_a_copy_of_a_worker_that_was_frozen_explains_a_late_repeat(desk: Desk) -> None:
    desk.note("begun", at=4e9)
    desk.struck = [(Fault(0.0, "worker frozen", 0, 9.0), 3.9e9, 3.95e9)]

    assert desk.against() == []


def test_a_seed_repeats_its_faults() -> None:
    faults = schedule(7, 3600.0, 4.0, 4.0)

    assert faults == schedule(7, 3600.0, 4.0, 4.0)
    assert faults != schedule(8, 3600.0, 4.0, 4.0)
    assert {fault.name for fault in faults} == set(FAULTS)
