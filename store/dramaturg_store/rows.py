"""Between rows and the plain values of `dramaturg_protocol.records`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias, cast

from dramaturg_protocol.event_codec import encode_body
from dramaturg_protocol.events import HistoryEvent, type_of
from dramaturg_protocol.messages import Request, RequestKind
from dramaturg_protocol.records import DeadLetter, RunRecord, WorkItem, WorkKind
from dramaturg_protocol.sealing import open_words, seal_words
from dramaturg_store.dialects import storable

Values: TypeAlias = dict[str, Any]

#: A row as it was selected: SQLAlchemy 2.0 and 2.1 have different types for it.
StoredRow: TypeAlias = Any

_REQUEST_KINDS = {kind.value: kind for kind in RequestKind}
_WORK_KINDS = {kind.value: kind for kind in WorkKind}


def run_values(record: RunRecord) -> Values:
    """The columns of a run's row."""
    return {
        "run_id": record.run_id,
        "namespace": record.namespace,
        "partition": record.partition,
        "workflow_id": record.workflow_id,
        "workflow": record.workflow,
        "version": record.version,
        "status": record.status,
        "generation": record.generation,
        "last_event": record.last_event,
        "tags": record.tags,
        "started_at": record.started_at,
        "updated_at": record.updated_at,
        "closed_at": record.closed_at,
        "result": record.result,
        "error": record.error,
        "waits": record.waits,
        "parent": record.parent,
        "continued_from": record.continued_from,
    }


def run_record(row: StoredRow) -> RunRecord:
    """A run's row, selected with all columns of `runs` in their order."""
    return RunRecord(*row)


def event_values(run_id: str, event: HistoryEvent) -> Values:
    """The columns of an event."""
    body = event.body
    return {
        "run_id": run_id,
        "number": event.number,
        "type": type_of(body),
        "time": event.time,
        "data": encode_body(body),
    }


def work_values(item: WorkItem) -> Values:
    """The columns of a row of open work."""
    return {
        "run_id": item.run_id,
        "generation": item.generation,
        "seq": item.seq,
        "partition": item.partition,
        "kind": item.kind.value,
        "due": item.due,
        "attempt": item.attempt,
        "message": item.message,
        "sign": item.sign,
        "republished": item.republished,
    }


def work_item(row: StoredRow) -> WorkItem:
    """A row of open work, selected with all columns of `open_work` in their order.

    A kind that this version does not know stays the text that it is.
    """
    run_id, generation, seq, partition, kind, due, attempt, message, sign, republished = row
    known = _WORK_KINDS.get(kind) or cast("WorkKind", kind)
    return WorkItem(run_id, generation, seq, partition, known, due, attempt, message, sign, republished)


def request_values(request: Request) -> Values:
    """The columns of an inbox row but for its arrival, which the database counts, and the time, which it knows."""
    return {
        "message_id": request.message_id,
        "partition": request.partition,
        "kind": str(request.kind),
        "run_id": request.run_id,
        "body": storable(request.body),
        "reply": request.reply,
    }


def request_of(row: StoredRow) -> Request:
    """An inbox row; a kind that this version does not know stays the text that it is, for the reader to put aside."""
    return Request(
        message_id=row.message_id,
        kind=_REQUEST_KINDS.get(row.kind) or cast("RequestKind", row.kind),
        run_id=row.run_id,
        partition=row.partition,
        body=row.body,
        reply=bool(row.reply),
        arrival=row.arrival,
        sent_at=row.sent_at,
    )


def request_postponed(row: StoredRow) -> Request:
    """A row of what is sent later; nobody waits for its answer."""
    kind = _REQUEST_KINDS.get(row.kind) or cast("RequestKind", row.kind)
    return Request(row.message_id, kind, row.run_id, row.partition, row.body)


def letter_values(letter: DeadLetter, namespace: str, at: datetime) -> Values:
    """The columns of a dead letter but for its id, which the database counts."""
    return {
        "namespace": namespace,
        "partition": letter.partition,
        "source": letter.source,
        "run_id": letter.run_id,
        "reason": storable(seal_words(letter.reason)),
        "body": storable(seal_words(letter.body)),
        "created_at": letter.at or at,
        "seq": letter.seq,
        "step": letter.step,
        "closed_at": letter.closed_at,
        "closed_as": letter.closed_as,
        "closed_by": letter.closed_by,
        "closed_reason": letter.closed_reason,
    }


def letter_of(row: StoredRow) -> DeadLetter:
    """A dead letter."""
    return DeadLetter(
        source=row.source,
        reason=open_words(row.reason),
        body=open_words(row.body),
        run_id=row.run_id,
        partition=row.partition,
        at=row.created_at,
        id=row.id,
        seq=row.seq,
        step=row.step,
        closed_at=row.closed_at,
        closed_as=row.closed_as,
        closed_by=row.closed_by,
        closed_reason=row.closed_reason,
    )
