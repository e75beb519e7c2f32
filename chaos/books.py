"""Balancing the books: what clients were promised, what steps did, and what the database says, held against each other.

Orders, verbs, talk, schedules, faults and the ledger become tables beside Dramaturg's; `statements.sql` has one query for each thing that
must hold, in plain SQL, which lists what does not. One check is not SQL: the stored state of each run against the fold
of its events.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg

from chaos import ledger
from chaos.faults import FAULTS, Fault
from chaos.ledger import Entry
from chaos.orders import Journal, Order, Said, Timetable, Verb
from dramaturg_coordinator.core.evolve import fold
from dramaturg_protocol.errors import InternalError
from dramaturg_protocol.records import StoredRun, Unreadable
from dramaturg_store.engines import make_engine
from dramaturg_store.histories import load_runs

_HERE = Path(__file__).parent
_FOLD = "the stored state of a run is the fold of its events"
_SLICE = 500

#: An open run that nothing will ever go on with: true of no commit, so it is asked at any time.
WITHOUT_CAUSE = """
SELECT format('%s %s is %s', r.workflow, r.run_id, r.status) FROM dramaturg_runs r
WHERE r.closed_at IS NULL AND r.status NOT IN ('BLOCKED', 'PAUSED') AND r.waits IS NULL
  AND NOT EXISTS (SELECT FROM dramaturg_open_work w WHERE w.run_id = r.run_id)
  AND NOT EXISTS (SELECT FROM dramaturg_inbox i WHERE i.run_id = r.run_id)
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look at the books says.

    Attributes:
      holds: what must hold.
      discrepancies: what does not, a line each.
    """

    holds: str
    discrepancies: Sequence[str]


def balance(
    dsn: str,
    url: str,
    journal: Journal,
    path: Path,
    struck: Sequence[tuple[Fault, float, float]],
    *,
    queued: Sequence[str],
) -> list[Finding]:
    """All findings, in the order of the statements.

    Parameters:
      path: of the ledger.
      struck: the faults that there were, with the time at which each began and was undone.
      queued: ids of the start messages that nobody took.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        _load(connection, journal, path, struck)
        connection.cursor().executemany("INSERT INTO chaos.queued VALUES (%s)", [(each,) for each in queued])
        findings = [Finding(holds, _texts(connection, query)) for holds, query in statements()]
    return [*findings, Finding(_FOLD, list(_unlike_their_folds(url)))]


def facts(dsn: str) -> Mapping[str, Any]:
    """Figures of a run whose books were loaded, for the report."""
    with psycopg.connect(dsn, autocommit=True) as connection:

        def one(query: LiteralString) -> int:
            row = connection.execute(query).fetchone()
            return int(row[0]) if row else 0

        statuses = connection.execute("SELECT status, count(*) FROM dramaturg_runs GROUP BY status ORDER BY status")
        return {
            "runs": dict(cast("list[tuple[str, int]]", statuses.fetchall())),
            "events": one("SELECT count(*) FROM dramaturg_events"),
            "steps recorded": one("SELECT count(*) FROM chaos.outcomes"),
            "steps begun": one("SELECT count(*) FROM chaos.ledger WHERE what = 'begun'"),
            "begun again after another had begun": one(
                "SELECT coalesce(sum(n - 1), 0) FROM"
                " (SELECT count(*) AS n FROM chaos.ledger WHERE what = 'begun' GROUP BY key, attempt) x"
            ),
            "begun after recorded, by a worker that was frozen or whose Redis was emptied": one(
                "SELECT count(*) FROM chaos.late WHERE is_explained"
            ),
            "messages lost with Redis": one(
                "SELECT count(*) FROM chaos.orders o LEFT JOIN dramaturg_runs r ON r.run_id = o.run_id"
                " WHERE o.promise = 'sent' AND r.run_id IS NULL"
            ),
            "take-overs": one("SELECT sum(epoch) FROM dramaturg_partitions"),
        }


def runs_in(discrepancies: Iterable[str]) -> set[str]:
    """The run ids that discrepancies name."""
    return {
        found for line in discrepancies for found in re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", line)
    }


def statements() -> list[tuple[str, str]]:
    """What must hold, with the query that lists what does not."""
    parts = (_HERE / "statements.sql").read_text(encoding="utf-8").split("\n\n")
    found: list[tuple[str, str]] = []
    for part in parts[1:]:
        comment, _, query = part.strip().partition("\n")
        found.append((comment.removeprefix("-- "), query))
    return found


def without_cause(connection: psycopg.Connection[Any]) -> list[str]:
    """Open runs that nothing will go on with."""
    return _texts(connection, WITHOUT_CAUSE)


def _load(
    connection: psycopg.Connection[Any], journal: Journal, path: Path, struck: Sequence[tuple[Fault, float, float]]
) -> None:
    connection.execute("DROP SCHEMA IF EXISTS chaos CASCADE")
    _run(connection, "tables.sql")
    _copy(connection, "orders", Order, map(astuple, journal.orders))
    _copy(connection, "verbs", Verb, map(astuple, journal.verbs))
    _copy(connection, "speech", Said, map(astuple, journal.speech))
    _copy(connection, "timetables", Timetable, map(astuple, journal.timetables))
    _copy(connection, "ledger", Entry, map(astuple, ledger.read(path)))
    with connection.cursor().copy("COPY chaos.faults FROM STDIN") as copy:
        for fault, begun, undone in struck:
            keeps_copies = fault.name == "worker frozen"
            copy.write_row((fault.name, begun, undone, FAULTS[fault.name].loses_messages, keeps_copies))
    _run(connection, "derived.sql")


def _copy(connection: psycopg.Connection[Any], table: str, of: type[Any], rows: Iterable[tuple[Any, ...]]) -> None:
    names = ", ".join(each.name for each in fields(of))
    with connection.cursor().copy(_sql(f"COPY chaos.{table} ({names}) FROM STDIN")) as copy:
        for row in rows:
            copy.write_row(row)


def _run(connection: psycopg.Connection[Any], name: str) -> None:
    connection.execute(_sql((_HERE / name).read_text(encoding="utf-8")))


def _texts(connection: psycopg.Connection[Any], query: str) -> list[str]:
    return [row[0] for row in connection.execute(_sql(query)).fetchall()]


def _sql(text: str) -> bytes:
    # psycopg takes texts of programs only; what our own files say may come as bytes.
    return text.encode()


def _unlike_their_folds(url: str) -> Iterator[str]:
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            run_ids = list(connection.exec_driver_sql("SELECT run_id FROM dramaturg_runs").scalars())
            for first in range(0, len(run_ids), _SLICE):
                part = run_ids[first : first + _SLICE]
                work = _open_work(connection, part)
                for stored in load_runs(connection, part).values():
                    yield from _unlike_its_fold(stored, work[stored.record.run_id])
    finally:
        engine.dispose()


def _open_work(connection: Any, run_ids: Sequence[str]) -> Counter[str]:
    counted: Counter[str] = Counter()
    query = "SELECT run_id, count(*) FROM dramaturg_open_work WHERE run_id = ANY(%(ids)s) GROUP BY run_id"
    for run_id, count in connection.exec_driver_sql(query, {"ids": list(run_ids)}):
        counted[run_id] = count
    return counted


def _unlike_its_fold(stored: StoredRun | Unreadable, open_work: int) -> Iterator[str]:
    record = stored.record
    if isinstance(stored, Unreadable):
        yield stored.reason
        return
    try:
        state = fold(record.run_id, record.partition, stored.history)
    except InternalError as error:
        yield str(error)
        return
    folded = {
        "status": state.status,
        "generation": state.generation,
        "last_event": state.number,
        "is closed": state.is_closed,
        "open work": len(state.steps) + len(state.timers) + len(state.asked),
    }
    kept = {
        "status": record.status,
        "generation": record.generation,
        "last_event": record.last_event,
        "is closed": record.closed_at is not None,
        "open work": open_work,
    }
    if folded != kept:
        yield f"{record.run_id}: its row says {kept}, its events {folded}"


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """For the report."""
    return [asdict(finding) for finding in findings]
