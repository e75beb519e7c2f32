"""A `StartOrder` from what a sender says: the same for a client with our library and for a plain message."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dramaturg_protocol.ids import new_run_id, run_id_of_key, run_id_of_message
from dramaturg_protocol.messages import encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import StartOrder
from dramaturg_protocol.request_bodies import StartBody
from dramaturg_protocol.signatures import CallSchema
from dramaturg_protocol.talk_messages import SignalBody


def start_order(
    workflow: str,
    payload: Payload,
    options: Mapping[str, Any],
    *,
    namespace: str,
    schema: CallSchema,
    message_id: str,
    run_id: str | None = None,
    context: Payload | None = None,
    begins_at: datetime | None = None,
    signal: SignalBody | None = None,
) -> StartOrder:
    """The order of a start.

    Parameters:
      payload: the encoded arguments.
      options: of the start, checked.
      context: for its steps to see, encoded.
      begins_at: when its code begins; ``None`` for at once.
      signal: for the run that it leads to, be that a new one or not.
      run_id: of the run that it would be, where no idempotency key decides it; a new one by default.
    """
    key = options.get("idempotency_key")
    if key is not None:
        run_id = run_id_of_key(namespace, workflow, key)
    run_id = run_id or new_run_id()
    workflow_id = options.get("id") or run_id
    body = StartBody(
        workflow,
        workflow_id,
        payload,
        options.get("version"),
        dict(options.get("tags") or {}),
        context,
        priority=options.get("priority"),
        begins_at=begins_at,
    )
    return StartOrder(
        run_id=run_id,
        workflow_id=workflow_id,
        workflow=workflow,
        message_id=message_id,
        body=encode_message(body),
        digest=None if key is None else schema.digest_call(payload),
        has_explicit_id=options.get("id") is not None,
        on_conflict=options.get("on_conflict", "raise"),
        reuse=options.get("reuse", "always"),
        signal=None if signal is None else encode_message(signal),
        signal_id="" if signal is None else _signal_id(signal, message_id, run_id if key is not None else None),
    )


def _signal_id(signal: SignalBody, message_id: str, keyed_run: str | None) -> str:
    """The same start under an idempotency key signals once; without one each start does."""
    if keyed_run is None:
        return f"{message_id}:signal"
    return run_id_of_message(f"{keyed_run}\0start\0{signal.name}\0{signal.payload}")
