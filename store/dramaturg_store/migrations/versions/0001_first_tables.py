"""The first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from dramaturg_store.dialects import Moment, big_number, long_text, real_number, short_text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_MYSQL: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    _coordinators()
    _dead_letters()
    _deaths()
    _inbox()
    _members()
    _parked()
    _partitions()
    _replies()
    _runs()
    _settings()
    _start_keys()
    _workflow_ids()
    _events()
    _open_work()
    _slots()
    _kept_results()
    _schedules()
    _firings()
    _postponed()
    _values()


def _coordinators() -> None:
    op.create_table(
        "dramaturg_coordinators",
        sa.Column("id", short_text(255), nullable=False),
        sa.Column("namespace", short_text(64), nullable=False),
        sa.Column("host", short_text(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("seen_at", Moment(), nullable=False),
        sa.Column("fingerprint", short_text(255), nullable=False),
        sa.Column("workflows", long_text(), nullable=False),
        sa.Column("schedules", long_text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **_MYSQL,
    )
    op.create_index(
        "ix_dramaturg_coordinators_namespace", "dramaturg_coordinators", ["namespace", "seen_at"], unique=False
    )


def _dead_letters() -> None:
    op.create_table(
        "dramaturg_dead_letters",
        sa.Column("id", big_number(), autoincrement=True, nullable=False),
        sa.Column("namespace", short_text(64), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=True),
        sa.Column("source", short_text(16), nullable=False),
        sa.Column("run_id", short_text(255), nullable=True),
        sa.Column("reason", long_text(), nullable=False),
        sa.Column("body", long_text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=True),
        sa.Column("step", short_text(255), nullable=True),
        sa.Column("closed_at", Moment(), nullable=True),
        sa.Column("closed_as", short_text(16), nullable=True),
        sa.Column("closed_by", short_text(255), nullable=True),
        sa.Column("closed_reason", long_text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        **_MYSQL,
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_dramaturg_dead_letters_namespace", "dramaturg_dead_letters", ["namespace", "closed_at", "id"], unique=False
    )
    op.create_index("ix_dramaturg_dead_letters_run", "dramaturg_dead_letters", ["run_id"], unique=False)


def _deaths() -> None:
    op.create_table(
        "dramaturg_deaths",
        sa.Column("run_id", short_text(64), nullable=False),
        sa.Column("fingerprint", short_text(255), nullable=False),
        sa.Column("namespace", short_text(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("reason", long_text(), nullable=False),
        sa.Column("last_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "fingerprint"),
        **_MYSQL,
    )
    op.create_index(
        "ix_dramaturg_deaths_namespace", "dramaturg_deaths", ["namespace", "fingerprint", "last_at"], unique=False
    )


def _inbox() -> None:
    op.create_table(
        "dramaturg_inbox",
        sa.Column("arrival", big_number(), autoincrement=True, nullable=False),
        sa.Column("message_id", short_text(255), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("kind", short_text(32), nullable=False),
        sa.Column("run_id", short_text(255), nullable=False),
        sa.Column("body", long_text(), nullable=False),
        sa.Column("reply", sa.Boolean(), nullable=False),
        sa.Column("sent_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("arrival"),
        sa.UniqueConstraint("message_id", name="uq_dramaturg_inbox_message"),
        **_MYSQL,
        sqlite_autoincrement=True,
    )
    op.create_index("ix_dramaturg_inbox_partition", "dramaturg_inbox", ["partition", "arrival"], unique=False)
    op.create_index(
        "ix_dramaturg_inbox_others",
        "dramaturg_inbox",
        ["partition", "kind", "arrival"],
        unique=False,
        sqlite_where=sa.text("kind <> 'start'"),
        postgresql_where=sa.text("kind <> 'start'"),
    )
    op.create_index("ix_dramaturg_inbox_run", "dramaturg_inbox", ["run_id"], unique=False)


def _members() -> None:
    op.create_table(
        "dramaturg_members",
        sa.Column("namespace", short_text(64), nullable=False),
        sa.Column("owner", short_text(255), nullable=False),
        sa.Column("joined_at", Moment(), nullable=False),
        sa.Column("renewed_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.Column("takes_all", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "owner"),
        **_MYSQL,
    )


def _parked() -> None:
    op.create_table(
        "dramaturg_parked",
        sa.Column("run_id", short_text(64), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("reason", long_text(), nullable=False),
        sa.Column("since", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
        **_MYSQL,
    )
    op.create_index("ix_dramaturg_parked_partition", "dramaturg_parked", ["partition"], unique=False)


def _partitions() -> None:
    op.create_table(
        "dramaturg_partitions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("namespace", short_text(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("owner", short_text(255), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("clock", Moment(), nullable=False),
        sa.CheckConstraint("number >= 0 AND epoch >= 0", name="ck_dramaturg_partitions_numbers"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("namespace", "number", name="uq_dramaturg_partitions_number"),
        **_MYSQL,
        sqlite_autoincrement=True,
    )


def _replies() -> None:
    op.create_table(
        "dramaturg_replies",
        sa.Column("message_id", short_text(255), nullable=False),
        sa.Column("error", short_text(64), nullable=False),
        sa.Column("message", long_text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("value", long_text(), nullable=True),
        sa.PrimaryKeyConstraint("message_id"),
        **_MYSQL,
    )
    op.create_index("ix_dramaturg_replies_created", "dramaturg_replies", ["created_at"], unique=False)


def _runs() -> None:
    op.create_table(
        "dramaturg_runs",
        sa.Column("run_id", short_text(64), nullable=False),
        sa.Column("namespace", short_text(64), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("workflow_id", short_text(255), nullable=False),
        sa.Column("workflow", short_text(255), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", short_text(16), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("last_event", sa.Integer(), nullable=False),
        sa.Column("tags", long_text(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("updated_at", Moment(), nullable=False),
        sa.Column("closed_at", Moment(), nullable=True),
        sa.Column("result", long_text(), nullable=True),
        sa.Column("error", long_text(), nullable=True),
        sa.Column("waits", long_text(), nullable=True),
        sa.Column("parent", short_text(64), nullable=True),
        sa.Column("continued_from", short_text(64), nullable=True),
        sa.CheckConstraint(
            "(status IN ('COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED', 'TIMED_OUT', 'CONTINUED')) = (closed_at IS NOT NULL)",
            name="ck_dramaturg_runs_closed",
        ),
        sa.CheckConstraint("version >= 0 AND generation >= 0 AND last_event >= 0", name="ck_dramaturg_runs_numbers"),
        sa.PrimaryKeyConstraint("run_id"),
        **_MYSQL,
    )
    op.create_index(
        "ix_dramaturg_runs_parent",
        "dramaturg_runs",
        ["parent"],
        unique=False,
        sqlite_where=sa.text("parent IS NOT NULL"),
        postgresql_where=sa.text("parent IS NOT NULL"),
    )
    op.create_index(
        "ix_dramaturg_runs_closed",
        "dramaturg_runs",
        ["namespace", "closed_at"],
        unique=False,
        sqlite_where=sa.text("closed_at IS NOT NULL"),
        postgresql_where=sa.text("closed_at IS NOT NULL"),
    )
    op.create_index("ix_dramaturg_runs_partition", "dramaturg_runs", ["partition", "status", "workflow"], unique=False)
    op.create_index("ix_dramaturg_runs_started", "dramaturg_runs", ["namespace", "started_at", "run_id"], unique=False)
    op.create_index(
        "ix_dramaturg_runs_status", "dramaturg_runs", ["namespace", "status", "started_at", "run_id"], unique=False
    )
    op.create_index(
        "ix_dramaturg_runs_workflow", "dramaturg_runs", ["namespace", "workflow", "started_at", "run_id"], unique=False
    )
    op.create_index(
        "ix_dramaturg_runs_workflow_id",
        "dramaturg_runs",
        ["namespace", "workflow_id", "started_at", "run_id"],
        unique=False,
    )


def _settings() -> None:
    op.create_table(
        "dramaturg_settings",
        sa.Column("name", short_text(255), nullable=False),
        sa.Column("value", long_text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        **_MYSQL,
    )


def _start_keys() -> None:
    op.create_table(
        "dramaturg_start_keys",
        sa.Column("run_id", short_text(64), nullable=False),
        sa.Column("digest", short_text(255), nullable=False),
        sa.Column("target", short_text(64), nullable=False),
        sa.Column("workflow_id", short_text(255), nullable=False),
        sa.Column("message_id", short_text(255), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
        **_MYSQL,
    )
    op.create_index("ix_dramaturg_start_keys_created", "dramaturg_start_keys", ["created_at"], unique=False)


def _values() -> None:
    op.create_table(
        "dramaturg_values",
        sa.Column("hash", short_text(64), nullable=False),
        sa.Column("text", long_text(), nullable=False),
        sa.Column("used_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
        **_MYSQL,
    )
    op.create_index("ix_dramaturg_values_used", "dramaturg_values", ["used_at"], unique=False)
    op.create_table(
        "dramaturg_value_uses",
        sa.Column("run_id", short_text(64), nullable=False),
        sa.Column("hash", short_text(64), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "hash"),
        sqlite_with_rowid=False,
        **_MYSQL,
    )
    op.create_index("ix_dramaturg_value_uses_hash", "dramaturg_value_uses", ["hash"], unique=False)


def _workflow_ids() -> None:
    op.create_table(
        "dramaturg_workflow_ids",
        sa.Column("namespace", short_text(64), nullable=False),
        sa.Column("workflow_id", short_text(255), nullable=False),
        sa.Column("run_id", short_text(64), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "workflow_id"),
        **_MYSQL,
    )
    op.create_index("ix_dramaturg_workflow_ids_run", "dramaturg_workflow_ids", ["run_id"], unique=False)


def _events() -> None:
    op.create_table(
        "dramaturg_events",
        sa.Column("run_id", short_text(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("type", short_text(64), nullable=False),
        sa.Column("time", Moment(), nullable=False),
        sa.Column("data", long_text(), nullable=False),
        sa.CheckConstraint("number >= 1", name="ck_dramaturg_events_number"),
        sa.PrimaryKeyConstraint("run_id", "number"),
        **_MYSQL,
        sqlite_with_rowid=False,
    )


def _open_work() -> None:
    op.create_table(
        "dramaturg_open_work",
        sa.Column("run_id", short_text(64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("kind", short_text(16), nullable=False),
        sa.Column("due", Moment(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("message", long_text(), nullable=True),
        sa.Column("sign", long_text(), nullable=True),
        sa.Column("republished", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("generation >= 0 AND seq >= 0 AND attempt >= 0", name="ck_dramaturg_open_work_numbers"),
        sa.PrimaryKeyConstraint("run_id", "generation", "seq"),
        **_MYSQL,
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_dramaturg_open_work_due",
        "dramaturg_open_work",
        ["partition", "due"],
        unique=False,
        sqlite_where=sa.text("due IS NOT NULL"),
        postgresql_where=sa.text("due IS NOT NULL"),
    )
    op.create_index(
        "ix_dramaturg_open_work_kind",
        "dramaturg_open_work",
        ["partition", "kind", "run_id", "generation", "seq"],
        unique=False,
    )


def _slots() -> None:
    op.create_table(
        "dramaturg_slots",
        sa.Column("run_id", short_text(64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("release", sa.Integer(), nullable=False),
        sa.Column("limit_id", short_text(64), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("run_partition", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("arrival", sa.BigInteger(), nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("per", real_number(), nullable=False),
        sa.Column("granted_at", Moment(), nullable=True),
        sa.Column("until", Moment(), nullable=True),
        sa.Column("name", short_text(255), nullable=False),
        sa.Column("key", short_text(255), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "generation", "seq", "attempt", "release", "limit_id"),
        **_MYSQL,
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_dramaturg_slots_partition", "dramaturg_slots", ["partition", "limit_id", "arrival"], unique=False
    )
    op.create_index(
        "ix_dramaturg_slots_until",
        "dramaturg_slots",
        ["partition", "until"],
        unique=False,
        sqlite_where=sa.text("until IS NOT NULL"),
        postgresql_where=sa.text("until IS NOT NULL"),
    )


def _kept_results() -> None:
    op.create_table(
        "dramaturg_kept_results",
        sa.Column("key", short_text(64), nullable=False),
        sa.Column("result", long_text(), nullable=False),
        sa.Column("stored_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        **_MYSQL,
    )
    op.create_index("ix_dramaturg_kept_results_expires", "dramaturg_kept_results", ["expires_at"], unique=False)


def _schedules() -> None:
    op.create_table(
        "dramaturg_schedules",
        sa.Column("namespace", short_text(64), nullable=False),
        sa.Column("id", short_text(255), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("workflow", short_text(255), nullable=False),
        sa.Column("body", long_text(), nullable=False),
        sa.Column("spec", long_text(), nullable=False),
        sa.Column("overlap", short_text(16), nullable=False),
        sa.Column("catchup", sa.BigInteger(), nullable=False),
        sa.Column("declared", short_text(16), nullable=False),
        sa.Column("paused", short_text(16), nullable=False),
        sa.Column("note", long_text(), nullable=False),
        sa.Column("next_time", Moment(), nullable=True),
        sa.Column("next_due", Moment(), nullable=True),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("running", long_text(), nullable=False),
        sa.Column("fired", sa.BigInteger(), nullable=False),
        sa.Column("skipped", sa.BigInteger(), nullable=False),
        sa.Column("missed", sa.BigInteger(), nullable=False),
        sa.Column("last_time", Moment(), nullable=True),
        sa.Column("last_fired_at", Moment(), nullable=True),
        sa.Column("last_run_id", short_text(64), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("updated_at", Moment(), nullable=False),
        sa.CheckConstraint(
            "waiting >= 0 AND fired >= 0 AND skipped >= 0 AND missed >= 0", name="ck_dramaturg_schedules_numbers"
        ),
        sa.PrimaryKeyConstraint("namespace", "id"),
        **_MYSQL,
    )
    op.create_index(
        "ix_dramaturg_schedules_due",
        "dramaturg_schedules",
        ["partition", "next_due"],
        unique=False,
        sqlite_where=sa.text("next_due IS NOT NULL"),
        postgresql_where=sa.text("next_due IS NOT NULL"),
    )
    op.create_index(
        "ix_dramaturg_schedules_waiting",
        "dramaturg_schedules",
        ["partition", "waiting"],
        unique=False,
        sqlite_where=sa.text("waiting > 0"),
        postgresql_where=sa.text("waiting > 0"),
    )


def _firings() -> None:
    op.create_table(
        "dramaturg_firings",
        sa.Column("namespace", short_text(64), nullable=False),
        sa.Column("schedule_id", short_text(255), nullable=False),
        sa.Column("time", Moment(), nullable=False),
        sa.Column("kind", short_text(16), nullable=False),
        sa.Column("run_id", short_text(64), nullable=True),
        sa.Column("decided_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "schedule_id", "time"),
        **_MYSQL,
        sqlite_with_rowid=False,
    )
    op.create_index("ix_dramaturg_firings_decided", "dramaturg_firings", ["decided_at"], unique=False)


def _postponed() -> None:
    op.create_table(
        "dramaturg_postponed",
        sa.Column("message_id", short_text(255), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("kind", short_text(32), nullable=False),
        sa.Column("run_id", short_text(64), nullable=False),
        sa.Column("body", long_text(), nullable=False),
        sa.Column("due", Moment(), nullable=True),
        sa.Column("sent_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("message_id"),
        **_MYSQL,
    )
    op.create_index("ix_dramaturg_postponed_due", "dramaturg_postponed", ["partition", "due"], unique=False)
    op.create_index("ix_dramaturg_postponed_run", "dramaturg_postponed", ["run_id"], unique=False)
