"""What the doctor looks at. Every check gives findings and raises nothing of what it looks for."""

from __future__ import annotations

import os
import platform
import socket
import sqlite3
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic_core import from_json

from dramaturg.cli.output import rough
from dramaturg.cli.schema_there import revision_there, sqlite_file
from dramaturg.cli.settings_shown import settings_with_sources, without_password
from dramaturg.filters import OPEN_STATUSES
from dramaturg.transports import transport_of
from dramaturg_actors.application_broker import broker_of, is_shared, serving_command
from dramaturg_coordinator.reconcile import OFTEN, queue_of
from dramaturg_protocol.config import Settings, load_settings
from dramaturg_protocol.errors import DramaturgError
from dramaturg_protocol.records import LetterFilter, LetterKind
from dramaturg_store.clock import system_now
from dramaturg_store.database import Database
from dramaturg_store.run_filters import RunFilter
from dramaturg_store.upgrade import HEAD

if TYPE_CHECKING:
    from dramaturg_store.reads import CoordinatorRow

#: A request that waits longer than this has been forgotten by somebody.
LATE = timedelta(seconds=30)
#: Open runs that are looked at one by one.
SAMPLE = 200


_INSTALL = "call dramaturg.install(broker) in every worker that serves this queue, or give its steps another one"


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's.

    Attributes:
      check: what was looked at.
      text: what was found.
      advice: what to do; empty where nothing needs to be done.
    """

    level: Level
    check: str
    text: str
    advice: str = ""


def findings() -> Iterator[Finding]:
    """All that can be said, from the settings to the dead letters."""
    try:
        settings = load_settings()
    except DramaturgError as error:
        yield Finding(Level.FAIL, "settings", str(error))
        return
    yield from _settings(settings)
    yield Finding(Level.OK, "python", f"{platform.python_version()} here")
    if settings.database_url in ("sqlite://", "sqlite:///:memory:"):
        yield Finding(Level.WARN, "database", "private to each process: nobody else sees its runs")
        return
    try:
        is_usable = yield from _database(settings)
        if is_usable:
            with Database(settings.database_url, settings.namespace, upgrade_first=False) as database:
                yield from _inside(database, serving_command(settings))
    except DramaturgError as error:
        yield Finding(Level.FAIL, "database", str(error))


def _settings(settings: Settings) -> Iterator[Finding]:
    for name, value, source in settings_with_sources(settings):
        yield Finding(Level.OK, "settings", f"{name} = {value} ({source})")
    try:
        broker_of(settings).close()
        if is_shared(settings):
            transport = transport_of(settings)
            transport.ping()
            transport.close()
            named = settings.broker or without_password(settings.broker_url)
            yield Finding(Level.OK, "broker", f"{named} answers")
    except DramaturgError as error:
        yield Finding(Level.FAIL, "broker", str(error))


def _database(settings: Settings) -> Generator[Finding, None, bool]:
    """Looks from outside; gives whether it can be looked into."""
    url, file = without_password(settings.database_url), sqlite_file(settings.database_url)
    if file is not None and not file.exists():
        yield Finding(Level.WARN, "database", f"{file} does not exist yet", "the first run or start makes it")
        return False
    revision = revision_there(settings.database_url)
    if revision is None or revision < HEAD:
        text = f"{url} has schema {revision or 'none'}, this code needs {HEAD}"
        yield Finding(Level.FAIL, "database", text, "run: dramaturg db upgrade")
        return False
    level = Level.OK if revision == HEAD else Level.WARN
    yield Finding(level, "database", f"{url} answers, schema {revision} (this code: {HEAD})")
    if file is not None:
        yield from _sqlite(file)
    return True


def _sqlite(file: Path) -> Iterator[Finding]:
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    text = f"version {sqlite3.sqlite_version}, journal mode {mode}, {file.stat().st_size / 2**20:.1f} MiB"
    if mode == "wal":
        yield Finding(Level.OK, "sqlite", text)
    else:
        yield Finding(Level.FAIL, "sqlite", text, "put the file on a local disk, where it can have a write-ahead log")


def _inside(database: Database, command: str) -> Iterator[Finding]:
    coordinators = database.reads.coordinators()
    yield from _lock(database)
    yield from _coordinators(coordinators, command)
    yield from _runs(database)
    yield from _stuck_runs(database)
    yield from _parked_runs(database)
    yield from _unreported_steps(database)
    yield from _open_runs(database, coordinators, command)
    yield from _inbox(database, command, has_coordinator=bool(coordinators))
    yield from _dead_letters(database)


def _lock(database: Database) -> Iterator[Finding]:
    if database.engine.dialect.name != "sqlite":
        return
    holder = database.leases.holder()
    if holder is None:
        yield Finding(Level.OK, "lock", "free")
        return
    who = f"process {holder.pid} on {holder.host}"
    if holder.host != socket.gethostname():
        yield Finding(Level.WARN, "lock", f"held by {who}", "a SQLite file must not be shared between machines")
    elif _is_alive(holder.pid):
        yield Finding(Level.OK, "lock", f"held by {who}, which is alive")
    else:
        text = f"{who} held it and ended without giving it back"
        yield Finding(Level.WARN, "lock", text, "the next start takes over; nothing is lost")


def _coordinators(rows: Sequence[CoordinatorRow], command: str) -> Iterator[Finding]:
    if not rows:
        yield Finding(Level.WARN, "coordinators", "none is alive", f"start one with: {command}")
    for row in rows:
        who = f"process {row.pid} on {row.host}"
        text = f"{who}, heard of {rough(system_now() - row.seen_at)} ago, serves {_served(row)}"
        if row.host == socket.gethostname() and not _is_alive(row.pid):
            yield Finding(Level.WARN, "coordinators", f"{who} is gone without a word", "start it again")
        else:
            yield Finding(Level.OK, "coordinators", text)
    if len({row.fingerprint for row in rows}) > 1:
        yield Finding(Level.WARN, "coordinators", "they serve different code", "give all of them the same modules")


def _served(row: CoordinatorRow) -> str:
    names = [f"{name} ({', '.join(map(str, versions))})" for name, versions in sorted(row.workflows.items())]
    return ", ".join(names) or "no workflows"


def _runs(database: Database) -> Iterator[Finding]:
    count = database.reads.count_runs(RunFilter(statuses=OPEN_STATUSES))
    yield Finding(Level.OK, "runs", f"{count} open")
    blocked = database.reads.count_runs(RunFilter(statuses=["BLOCKED"]))
    if blocked:
        advice = "see why: dramaturg list --status BLOCKED, then dramaturg status ID"
        yield Finding(Level.WARN, "runs", f"{blocked} blocked: their code is missing or does not fit", advice)


def _stuck_runs(database: Database) -> Iterator[Finding]:
    """Runs that have neither open work nor a request: nothing will bring them on."""
    stuck = [run_id for partition in database.partitions for run_id in database.store.idle_runs(partition, SAMPLE)]
    if stuck:
        text = f"{len(stuck)} stuck, nothing will bring them on: {', '.join(stuck[:3])}"
        advice = (
            "a coordinator writes lost rows again and says so in its log; else the code waits for what it never does"
        )
        yield Finding(Level.WARN, "runs", text, advice)


def _parked_runs(database: Database) -> Iterator[Finding]:
    count = database.reads.count_parked()
    if count:
        text = f"{count} parked: they wait for a coordinator with other code"
        yield Finding(Level.WARN, "runs", text, "end the deploy, or start a coordinator with the code they began with")


def _unreported_steps(database: Database) -> Iterator[Finding]:
    """Steps that somebody takes, and nobody tells of."""
    steps = database.reads.unreported(OFTEN, SAMPLE)
    if steps:
        named = ", ".join(f"step {item.seq} of run {item.run_id}" for item in steps[:3])
        queues = ", ".join(sorted({queue for item in steps if (queue := queue_of(item))}))
        where = f"queue {queues}: " if queues else ""
        text = f"{where}{len(steps)} sent {OFTEN} times more without a report: {named}"
        yield Finding(Level.WARN, "steps", text, _INSTALL)
    letters = database.letters.list(LetterFilter(kinds=(LetterKind.NOT_REPORTED.value,)), limit=100)
    failed = Counter(_queue_in(letter.body) for letter in letters)
    for queue, count in sorted(failed.items()):
        text = f"queue {queue}: {count} failed as NotReported, whose worker told nothing of them"
        yield Finding(Level.WARN, "steps", text, _INSTALL)


def _queue_in(letter: str) -> str:
    try:
        return str(from_json(letter)["queue"])
    except (ValueError, TypeError, KeyError):
        return "of a name that cannot be read here"


def _open_runs(database: Database, coordinators: Sequence[CoordinatorRow], command: str) -> Iterator[Finding]:
    """Whether somebody serves them, and with the Python that they began with."""
    runs = database.reads.list_runs(RunFilter(statuses=OPEN_STATUSES), limit=SAMPLE)
    served = {name for row in coordinators for name in row.workflows}
    missing = sorted({run.workflow for run in runs if not run.workflow.startswith("step:")} - served)
    if coordinators and missing:
        text = f"no coordinator serves {', '.join(missing)}, which open runs need"
        yield Finding(Level.WARN, "runs", text, f"serve its module too: {command}")
    first = [database.reads.events(run.run_id, limit=1) for run in runs]
    pythons = Counter(str(rows[0].data.get("python", "")) for rows in first if rows)
    here = ".".join(platform.python_version_tuple()[:2])
    for python, count in sorted(pythons.items()):
        if python not in ("", here):
            advice = f"serve them with Python {python}, or watch for blocked runs"
            yield Finding(Level.WARN, "python", f"{count} open run(s) began on Python {python}, here is {here}", advice)


def _inbox(database: Database, command: str, *, has_coordinator: bool) -> Iterator[Finding]:
    oldest = next(iter(database.inbox.take(database.partitions, 1)), None)
    if oldest is None:
        yield Finding(Level.OK, "inbox", "empty")
        return
    sent_at = _moment_of(oldest.message_id)
    age = system_now() - sent_at if sent_at is not None else timedelta(0)
    what = f"{oldest.kind.value} of run {oldest.run_id}"
    text = f"oldest request waits for {rough(age)}: {what}" if sent_at is not None else f"oldest request: {what}"
    if not has_coordinator:
        yield Finding(Level.WARN, "inbox", text, f"a coordinator takes it: {command}")
    elif age > LATE:
        yield Finding(Level.WARN, "inbox", text, "look at the coordinator's log, it does not get on")
    else:
        yield Finding(Level.OK, "inbox", text)


def _moment_of(message_id: str) -> datetime | None:
    """When a message was made: our clients' ids are UUIDs of version 7, which begin with the time."""
    try:
        uuid = UUID(message_id)
    except ValueError:
        return None
    return datetime.fromtimestamp((uuid.int >> 80) / 1000, UTC) if uuid.version == 7 else None


def _dead_letters(database: Database) -> Iterator[Finding]:
    letters = database.letters.list(limit=100)
    if not letters:
        yield Finding(Level.OK, "dead letters", "none")
        return
    count = "100 or more" if len(letters) == 100 else str(len(letters))
    newest = letters[-1]
    text = f"{count}; from {newest.source}: {' '.join(newest.reason.split())[:200]}"
    yield Finding(Level.WARN, "dead letters", text, "see dramaturg dead list")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, but there
        return True
    return True
