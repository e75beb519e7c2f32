"""The tables. All names begin with ``dramaturg_``, so that they can live in a database of somebody else's.

`partitions.id` counts over all namespaces; whatever belongs to a partition bears that id, and by it a namespace.
What must never be, the tables refuse: two events of one number, a closed run that is not, numbers below zero. That
events have their run is not theirs to check: a key of another table is looked up once for each row, which cost a third
of a commit; the commit of a turn counts the rows of its runs instead.
On SQLite the two tables that every turn writes are kept in the order of their keys (``WITHOUT ROWID``): a fifth less
time for a commit, since each row changes one page instead of two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.sql.schema import SchemaItem

from dramaturg_store.dialects import Moment, big_number, long_text, real_number, short_text

VERSION_TABLE = "dramaturg_alembic_version"
CLOSED = ("COMPLETED", "FAILED", "CANCELLED", "TERMINATED", "TIMED_OUT", "CONTINUED")

metadata = MetaData()


def _table(name: str, *items: SchemaItem, with_rowid: bool = True) -> Table:
    return Table(
        f"dramaturg_{name}",
        metadata,
        *items,
        sqlite_with_rowid=with_rowid,
        sqlite_autoincrement=any(isinstance(item, Column) and item.autoincrement is True for item in items),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )


def _counted(name: str) -> Column[int]:
    """A primary key that the database counts up; a number is never used again."""
    return Column(name, big_number(), primary_key=True, autoincrement=True)


def _name(name: str, *, length: int = 255, nullable: bool = False) -> Column[str]:
    return Column(name, short_text(length), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, long_text(), nullable=nullable)


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _moment(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, Moment(), nullable=nullable)


settings = _table("settings", _name("name"), _text("value"), PrimaryKeyConstraint("name"))

partitions = _table(
    "partitions",
    Column("id", Integer, primary_key=True, autoincrement=True),
    _name("namespace", length=64),
    _number("number"),
    _name("owner", nullable=True),
    Column("epoch", BigInteger, nullable=False),
    _moment("clock"),
    UniqueConstraint("namespace", "number", name="uq_dramaturg_partitions_number"),
    CheckConstraint("number >= 0 AND epoch >= 0", name="ck_dramaturg_partitions_numbers"),
)

# The coordinators that share the partitions of a namespace, on a server: whoever is here and not expired holds what it owns.
members = _table(
    "members",
    _name("namespace", length=64),
    _name("owner"),
    _moment("joined_at"),
    _moment("renewed_at"),
    _moment("expires_at"),
    Column("takes_all", Boolean(create_constraint=False), nullable=False),
    PrimaryKeyConstraint("namespace", "owner"),
)

runs = _table(
    "runs",
    _name("run_id", length=64),
    _name("namespace", length=64),
    _number("partition"),
    _name("workflow_id"),
    _name("workflow"),
    _number("version"),
    _name("status", length=16),
    _number("generation"),
    _number("last_event"),
    _text("tags"),
    _moment("started_at"),
    _moment("updated_at"),
    _moment("closed_at", nullable=True),
    _text("result", nullable=True),
    _text("error", nullable=True),
    _text("waits", nullable=True),
    _name("parent", length=64, nullable=True),
    _name("continued_from", length=64, nullable=True),
    PrimaryKeyConstraint("run_id"),
    CheckConstraint(
        f"(status IN ({', '.join(repr(status) for status in CLOSED)})) = (closed_at IS NOT NULL)",
        name="ck_dramaturg_runs_closed",
    ),
    CheckConstraint("version >= 0 AND generation >= 0 AND last_event >= 0", name="ck_dramaturg_runs_numbers"),
    Index("ix_dramaturg_runs_started", "namespace", "started_at", "run_id"),
    Index("ix_dramaturg_runs_workflow", "namespace", "workflow", "started_at", "run_id"),
    Index("ix_dramaturg_runs_status", "namespace", "status", "started_at", "run_id"),
    Index("ix_dramaturg_runs_workflow_id", "namespace", "workflow_id", "started_at", "run_id"),
    # Narrow, so that a million of its entries are counted in a moment; a partition has one namespace.
    Index("ix_dramaturg_runs_partition", "partition", "status", "workflow"),
    Index(
        "ix_dramaturg_runs_parent",
        "parent",
        sqlite_where=text("parent IS NOT NULL"),
        postgresql_where=text("parent IS NOT NULL"),
    ),
    # What prune looks for, oldest first.
    Index(
        "ix_dramaturg_runs_closed",
        "namespace",
        "closed_at",
        sqlite_where=text("closed_at IS NOT NULL"),
        postgresql_where=text("closed_at IS NOT NULL"),
    ),
)

events = _table(
    "events",
    _name("run_id", length=64),
    _number("number"),
    _name("type", length=64),
    _moment("time"),
    _text("data"),
    PrimaryKeyConstraint("run_id", "number"),
    CheckConstraint("number >= 1", name="ck_dramaturg_events_number"),
    with_rowid=False,
)

inbox = _table(
    "inbox",
    _counted("arrival"),
    _name("message_id"),
    _number("partition"),
    _name("kind", length=32),
    # A workflow id where another run sent it, which knows no more.
    _name("run_id"),
    _text("body"),
    Column("reply", Boolean(create_constraint=False), nullable=False),
    _moment("sent_at"),
    UniqueConstraint("message_id", name="uq_dramaturg_inbox_message"),
    Index("ix_dramaturg_inbox_partition", "partition", "arrival"),
    # What is taken while starts wait, of which there may be very many; by kind, for databases without partial indexes.
    Index(
        "ix_dramaturg_inbox_others",
        "partition",
        "kind",
        "arrival",
        sqlite_where=text("kind <> 'start'"),
        postgresql_where=text("kind <> 'start'"),
    ),
    Index("ix_dramaturg_inbox_run", "run_id"),
)

# What is sent to a run later; without a due time where the run was closed by then, and as long as it is.
postponed = _table(
    "postponed",
    _name("message_id"),
    _number("partition"),
    _name("kind", length=32),
    _name("run_id", length=64),
    _text("body"),
    _moment("due", nullable=True),
    _moment("sent_at"),
    PrimaryKeyConstraint("message_id"),
    Index("ix_dramaturg_postponed_due", "partition", "due"),
    Index("ix_dramaturg_postponed_run", "run_id"),
)

open_work = _table(
    "open_work",
    _name("run_id", length=64),
    _number("generation"),
    _number("seq"),
    _number("partition"),
    _name("kind", length=16),
    _moment("due", nullable=True),
    _number("attempt"),
    _text("message", nullable=True),
    _text("sign", nullable=True),
    Column("republished", Integer, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("run_id", "generation", "seq"),
    CheckConstraint("generation >= 0 AND seq >= 0 AND attempt >= 0", name="ck_dramaturg_open_work_numbers"),
    # Most steps have no time-out; only what can become due is in the index.
    Index(
        "ix_dramaturg_open_work_due",
        "partition",
        "due",
        sqlite_where=text("due IS NOT NULL"),
        postgresql_where=text("due IS NOT NULL"),
    ),
    Index("ix_dramaturg_open_work_kind", "partition", "kind", "run_id", "generation", "seq"),
    with_rowid=False,
)

# Executions that wait for the grant of a limit, or have it: how many it has granted is how many rows there are.
slots = _table(
    "slots",
    _name("run_id", length=64),
    _number("generation"),
    _number("seq"),
    _number("attempt"),
    _number("release"),
    _name("limit_id", length=64),
    _number("partition"),
    _number("run_partition"),
    _number("priority"),
    Column("arrival", BigInteger, nullable=False),
    _number("most"),
    Column("per", real_number(), nullable=False),
    _moment("granted_at", nullable=True),
    _moment("until", nullable=True),
    _name("name"),
    _name("key"),
    PrimaryKeyConstraint("run_id", "generation", "seq", "attempt", "release", "limit_id"),
    Index("ix_dramaturg_slots_partition", "partition", "limit_id", "arrival"),
    Index(
        "ix_dramaturg_slots_until",
        "partition",
        "until",
        sqlite_where=text("until IS NOT NULL"),
        postgresql_where=text("until IS NOT NULL"),
    ),
    with_rowid=False,
)

# Results of steps with `cache`; the key stands for namespace, step and arguments.
kept_results = _table(
    "kept_results",
    _name("key", length=64),
    _text("result"),
    _moment("stored_at"),
    _moment("expires_at"),
    PrimaryKeyConstraint("key"),
    Index("ix_dramaturg_kept_results_expires", "expires_at"),
)

# Large values of events, each once; `value_uses` says which runs have it.
values = _table(
    "values",
    _name("hash", length=64),
    _text("text"),
    _moment("used_at"),
    PrimaryKeyConstraint("hash"),
    Index("ix_dramaturg_values_used", "used_at"),
)

value_uses = _table(
    "value_uses",
    _name("run_id", length=64),
    _name("hash", length=64),
    PrimaryKeyConstraint("run_id", "hash"),
    Index("ix_dramaturg_value_uses_hash", "hash"),
    with_rowid=False,
)

workflow_ids = _table(
    "workflow_ids",
    _name("namespace", length=64),
    _name("workflow_id"),
    _name("run_id", length=64),
    PrimaryKeyConstraint("namespace", "workflow_id"),
    Index("ix_dramaturg_workflow_ids_run", "run_id"),
)

# `run_id` is what the key stands for; `target` the run that its first start led to, which is another one where an
# open run of the same workflow id was used. `message_id` tells the start that wrote the row from one that met it.
start_keys = _table(
    "start_keys",
    _name("run_id", length=64),
    _name("digest"),
    _name("target", length=64),
    _name("workflow_id"),
    _name("message_id"),
    _moment("created_at"),
    PrimaryKeyConstraint("run_id"),
    Index("ix_dramaturg_start_keys_created", "created_at"),
)

replies = _table(
    "replies",
    _name("message_id"),
    _name("error", length=64),
    _text("message"),
    _moment("created_at"),
    _text("value", nullable=True),
    PrimaryKeyConstraint("message_id"),
    Index("ix_dramaturg_replies_created", "created_at"),
)

dead_letters = _table(
    "dead_letters",
    _counted("id"),
    _name("namespace", length=64),
    Column("partition", Integer, nullable=True),
    _name("source", length=16),
    _name("run_id", nullable=True),
    _text("reason"),
    _text("body"),
    _moment("created_at"),
    Column("seq", Integer, nullable=True),
    _name("step", nullable=True),
    _moment("closed_at", nullable=True),
    _name("closed_as", length=16, nullable=True),
    _name("closed_by", nullable=True),
    _text("closed_reason", nullable=True),
    Index("ix_dramaturg_dead_letters_namespace", "namespace", "closed_at", "id"),
    Index("ix_dramaturg_dead_letters_run", "run_id"),
)

coordinators = _table(
    "coordinators",
    _name("id"),
    _name("namespace", length=64),
    _name("host"),
    _number("pid"),
    _moment("started_at"),
    _moment("seen_at"),
    _name("fingerprint"),
    _text("workflows"),
    _text("schedules"),
    PrimaryKeyConstraint("id"),
    Index("ix_dramaturg_coordinators_namespace", "namespace", "seen_at"),
)

# A row is looked for by whoever holds its partition, as soon as `next_due` is over; a paused one is never due.
schedules = _table(
    "schedules",
    _name("namespace", length=64),
    _name("id"),
    _number("partition"),
    _name("workflow"),
    _text("body"),
    _text("spec"),
    _name("overlap", length=16),
    Column("catchup", BigInteger, nullable=False),
    _name("declared", length=16),
    _name("paused", length=16),
    _text("note"),
    _moment("next_time", nullable=True),
    _moment("next_due", nullable=True),
    _number("waiting"),
    _text("running"),
    Column("fired", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("missed", BigInteger, nullable=False),
    _moment("last_time", nullable=True),
    _moment("last_fired_at", nullable=True),
    _name("last_run_id", length=64, nullable=True),
    _moment("created_at"),
    _moment("updated_at"),
    PrimaryKeyConstraint("namespace", "id"),
    CheckConstraint(
        "waiting >= 0 AND fired >= 0 AND skipped >= 0 AND missed >= 0", name="ck_dramaturg_schedules_numbers"
    ),
    Index(
        "ix_dramaturg_schedules_due",
        "partition",
        "next_due",
        sqlite_where=text("next_due IS NOT NULL"),
        postgresql_where=text("next_due IS NOT NULL"),
    ),
    Index(
        "ix_dramaturg_schedules_waiting",
        "partition",
        "waiting",
        sqlite_where=text("waiting > 0"),
        postgresql_where=text("waiting > 0"),
    ),
)

# A firing waits for the run before it until it has a run of its own.
firings = _table(
    "firings",
    _name("namespace", length=64),
    _name("schedule_id"),
    _moment("time"),
    _name("kind", length=16),
    _name("run_id", length=64, nullable=True),
    _moment("decided_at"),
    PrimaryKeyConstraint("namespace", "schedule_id", "time"),
    Index("ix_dramaturg_firings_decided", "decided_at"),
    with_rowid=False,
)

# Runs that no event tells of: their owner's code is not theirs, and a live coordinator has another.
parked = _table(
    "parked",
    _name("run_id", length=64),
    _number("partition"),
    _text("reason"),
    _moment("since"),
    PrimaryKeyConstraint("run_id"),
    Index("ix_dramaturg_parked_partition", "partition"),
)

# How often a coordinator's process died while it advanced a run, for each code with which it did.
deaths = _table(
    "deaths",
    _name("run_id", length=64),
    _name("fingerprint"),
    _name("namespace", length=64),
    _number("number"),
    _text("reason"),
    _moment("last_at"),
    PrimaryKeyConstraint("run_id", "fingerprint"),
    Index("ix_dramaturg_deaths_namespace", "namespace", "fingerprint", "last_at"),
)
