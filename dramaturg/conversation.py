"""What a client says to the code of a run, and asks it: signals, queries, updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from dramaturg import requests
from dramaturg.orders import moment_of
from dramaturg_coordinator.core.states import RunPhase
from dramaturg_protocol.durations import Duration, parse_duration
from dramaturg_protocol.errors import NotAnswered, WrongState
from dramaturg_protocol.ids import new_message_id, run_id_of_message
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.payloads import Payload, decode_value, encode_value
from dramaturg_protocol.records import RunRecord, StartOrder, StartOutcome
from dramaturg_protocol.signatures import CallSchema
from dramaturg_protocol.talk_messages import QuestionBody, SignalBody
from dramaturg_protocol.talk_names import check_name
from dramaturg_store.clock import Now

if TYPE_CHECKING:
    from dramaturg.client import Client
    from dramaturg.handle import Handle
    from dramaturg.links import Link


class Conversation:
    """Speaks to runs for a client."""

    def __init__(self, client: Client, link: Link, now: Now) -> None:
        self._client = client
        self._link = link
        self._now = now

    def signal(
        self,
        handle: Handle[Any],
        name: str,
        payload: object,
        idempotency_key: str | None,
        delay: Duration | datetime | None,
        by: str | None,
        reason: str | None,
        connection: object,
    ) -> None:
        """Send a signal; see `Handle.signal`."""
        body = SignalBody(check_name("signal", name), self._payload(f"signal {name!r}", payload), by, reason)
        due = moment_of(delay, self._now)
        run_id = handle.run_id
        known = self._client.known(run_id)
        message_id = new_message_id() if idempotency_key is None else _id_of("signal", run_id, name, idempotency_key)
        is_waited_for = connection is None and due is None
        request = Request(
            message_id, RequestKind.SIGNAL, run_id, known.partition, encode_message(body), reply=is_waited_for
        )
        if not is_waited_for and isinstance(known, RunRecord):
            self._check_takes(known, name)
        if due is not None:
            self._link.postpone(request, due, connection)
        else:
            self._link.put([request], connection)
        self._client.look_for_coordinator()
        if is_waited_for:
            self._client.requests.wait_for_answer(run_id, RequestKind.SIGNAL, message_id)

    def _check_takes(self, known: RunRecord, name: str) -> None:
        newest: RunRecord | Request = known
        if known.status == RunPhase.CONTINUED:
            newest = self._client.known(self._client.resolve(known.workflow_id))
        if isinstance(newest, RunRecord) and newest.closed_at is not None:
            raise WrongState(f"the run is {newest.status}: it takes no signal {name!r} any more")

    def submit(self, orders: Sequence[StartOrder], connection: object) -> list[StartOutcome]:
        """Submit starts. One whose signal found that its run had closed meanwhile is decided again."""
        if connection is None:
            orders = [replace(order, awaits_signal=order.signal is not None) for order in orders]
        outcomes = self._link.submit(orders, connection)
        for place, order in enumerate(orders):
            if order.awaits_signal and not outcomes[place].is_new:
                outcomes[place] = self._signalled(order, outcomes[place])
        return outcomes

    def _signalled(self, order: StartOrder, outcome: StartOutcome) -> StartOutcome:
        while not outcome.is_new:
            try:
                self._client.requests.wait_for_answer(outcome.run_id, RequestKind.SIGNAL, order.signal_id)
            except NotAnswered:
                return outcome  # it stays, and counts
            except WrongState:
                if order.digest is not None:
                    raise  # the key stands for that run
                message_id = new_message_id()
                order = replace(order, message_id=message_id, signal_id=f"{message_id}:signal")
                (outcome,) = self._link.submit([order])
            else:
                return outcome
        return outcome

    def query(self, handle: Handle[Any], name: str, args: tuple[Any, ...]) -> Any:
        """Ask a query; see `Handle.query`."""
        body = self._question("query", name, args)
        return self._ask(handle, RequestKind.QUERY, body, new_message_id(), None)

    def update(
        self,
        handle: Handle[Any],
        name: str,
        args: tuple[Any, ...],
        idempotency_key: str | None,
        timeout: Duration | None,
    ) -> Any:
        """Send an update and wait for its end; see `Handle.update`."""
        body = self._question("update", name, args)
        seconds = None if timeout is None else parse_duration(timeout)
        run_id = handle.run_id
        message_id = new_message_id() if idempotency_key is None else _id_of("update", run_id, name, idempotency_key)
        return self._ask(handle, RequestKind.UPDATE, body, message_id, seconds)

    def _question(self, what: str, name: str, args: tuple[Any, ...]) -> QuestionBody:
        schema = CallSchema.open(f"{what} {check_name(what, name)!r}")
        return QuestionBody(name, schema.encode_call(args, {}, limit=int(self._client.settings.max_payload)))

    def _ask(
        self, handle: Handle[Any], kind: RequestKind, body: QuestionBody, message_id: str, timeout: timedelta | None
    ) -> Any:
        run_id = handle.run_id
        partition = self._client.known(run_id).partition
        self._link.put([Request(message_id, kind, run_id, partition, encode_message(body), reply=True)])
        self._client.look_for_coordinator()
        try:
            answer = self._client.requests.wait_for_answer(run_id, kind, message_id, timeout)
        except NotAnswered:
            self._explain(kind, run_id, message_id, body.name, timeout or requests.ANSWER_TIME)
            raise
        where = f"the answer to {kind.value} {body.name!r}"
        return None if answer.value is None else decode_value(answer.value, Any, where=where)

    def _explain(self, kind: RequestKind, run_id: str, message_id: str, name: str, timeout: timedelta) -> None:
        """Say why there is no answer, where that is known."""
        if kind is not RequestKind.UPDATE or not self._client.has_live_coordinator():
            return
        is_taken = not self._link.database.reads.is_pending(message_id)
        why = "is under way" if is_taken else "waits: its function is not bound, or the run cannot go on at the moment"
        raise NotAnswered(
            f"update {name!r} of run {run_id} {why}, after {timeout.total_seconds():g} s; it stays and counts once. "
            f"Give it an idempotency_key to ask for its answer again, or a longer timeout"
        )

    def _payload(self, what: str, value: object) -> Payload:
        limit = int(self._client.settings.max_payload)
        return encode_value(value, Any, where=f"the payload of {what}", limit=limit)


def _id_of(*parts: str) -> str:
    return run_id_of_message("\0".join(parts))
