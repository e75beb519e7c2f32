"""What a client asks of a run: a row of the inbox, and the wait until a coordinator has answered it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from dramaturg_actors.application_broker import serving_command
from dramaturg_protocol import errors
from dramaturg_protocol.asking_tokens import read_hook_token
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.event_codec import decode_body
from dramaturg_protocol.ids import new_message_id, new_run_id, run_id_of_message
from dramaturg_protocol.messages import Reply, Request, RequestKind, encode_message
from dramaturg_protocol.payloads import Payload, encode_value
from dramaturg_protocol.records import RunRecord
from dramaturg_protocol.request_bodies import (
    ControlBody,
    DecideBody,
    ForkFrom,
    ResolveBody,
    RunMessage,
    SettleBody,
    SettleVerb,
    StartBody,
)
from dramaturg_protocol.run_events import RunStarted
from dramaturg_protocol.signatures import CallSchema
from dramaturg_protocol.step_tokens import read_token
from dramaturg_store.slices import slices

if TYPE_CHECKING:
    from dramaturg.client import Client
    from dramaturg.links import Link

#: How long a verb waits until it is recorded.
ANSWER_TIME = timedelta(seconds=10)


class Requests:
    """Sends requests for a client, and waits for their answers."""

    def __init__(self, client: Client, link: Link) -> None:
        self._client = client
        self._link = link

    def send(self, run_id: str, kind: RequestKind, body: RunMessage, message_id: str | None = None) -> None:
        """Send a request and wait until it is recorded; see `Handle.cancel`."""
        self.wait_for_answer(run_id, kind, self._put(run_id, kind, body, message_id))

    def wait_for_answer(
        self, run_id: str, kind: RequestKind, message_id: str, timeout: timedelta | None = None
    ) -> Reply:
        """The answer to a request that was sent.

        Raises:
          NotAnswered: there is none in time.
          DramaturgError: it was refused.
        """
        timeout = ANSWER_TIME if timeout is None else timeout
        answer = self._link.notices.wait_for(run_id, lambda: self._reply(message_id), timeout.total_seconds())
        return self._check(answer, run_id, kind, timeout)

    def send_to_many(self, run_ids: Sequence[str], kind: RequestKind, body: ControlBody) -> int:
        """Send the same to many runs and wait until it is recorded; how many it fitted."""
        message_ids: dict[str, str] = {}
        for part in slices(list(run_ids)):
            found = self._link.database.reads.runs(part)
            requests = [
                Request(new_message_id(), kind, run_id, run.partition, encode_message(body), reply=True)
                for run_id, run in found.items()
            ]
            self._link.database.inbox.put(requests)
            self._client.tell_coordinator()
            message_ids |= {request.message_id: request.run_id for request in requests}
        done = 0
        for message_id, run_id in message_ids.items():
            look = partial(self._reply, message_id)
            answer = self._link.notices.wait_for(run_id, look, ANSWER_TIME.total_seconds())
            try:
                self._check(answer, run_id, kind)
            except errors.WrongState:
                continue
            done += 1
        return done

    async def send_async(self, run_id: str, kind: RequestKind, body: RunMessage) -> None:
        """As `send`, in a coroutine."""
        message_id = await asyncio.to_thread(self._put, run_id, kind, body)
        seconds = ANSWER_TIME.total_seconds()
        answer = await self._link.notices.wait_for_async(run_id, lambda: self._reply(message_id), seconds)
        self._check(answer, run_id, kind)

    def send_in(self, connection: object, run_id: str, workflow_id: str, kind: RequestKind, body: RunMessage) -> None:
        """Send a request in the caller's own transaction, and wait for nothing.

        Parameters:
          workflow_id: says where it goes, for a run that is started in the same transaction.

        Raises:
          TypeError: that is no connection and no session.
        """
        reads, database = self._link.database.reads, self._link.database
        found = reads.run(run_id) or reads.pending_start(run_id)
        partition = database.partition_of(workflow_id) if found is None else found.partition
        self._link.put([Request(new_message_id(), kind, run_id, partition, encode_message(body))], connection)

    def resume_hook(self, token: str, payload: object, connection: object = None) -> None:
        """Whoever has the token of a hook resolves it. See `Client.resume_hook`."""
        place = read_hook_token(self._link.database.secret, token)
        limit = int(self._client.settings.max_payload)
        value = encode_value(payload, Any, where="the payload of a hook", limit=limit)
        body = ResolveBody(place.generation, place.seq, value)
        if connection is not None:
            self.send_in(connection, place.run_id, place.run_id, RequestKind.RESOLVE, body)
            return
        try:
            self.send(place.run_id, RequestKind.RESOLVE, body)
        except errors.NotFound:
            raise errors.TokenExpired(f"run {place.run_id} of this hook is deleted") from None

    def settle(
        self, run_id: str, seq: int, verb: SettleVerb, value: object, message: str, by: str | None, reason: str | None
    ) -> None:
        """A person settles a step; a value is encoded as the step itself would. See `StepHandle`.

        Raises:
          NotFound: the run has no step at this position.
          PayloadError: the value is not what the step returns.
        """
        payload = self._payload_of(run_id, seq, value) if verb is SettleVerb.COMPLETE else None
        self.send(run_id, RequestKind.SETTLE, SettleBody(seq, verb, payload, message, by, reason))

    def settle_with(
        self, token: str, verb: SettleVerb, value: object, message: str, by: str | None, reason: str | None
    ) -> None:
        """Whoever has the token of a step that was left open settles it. See `Client.complete_step`."""
        run_id, generation, seq = read_token(self._link.database.secret, token)
        payload = self._payload_of(run_id, seq, value) if verb is SettleVerb.COMPLETE else None
        # Saying the same once more is the same request, and gets the same answer.
        message_id = run_id_of_message(f"{token}\0{verb.value}\0{payload or message}")
        body = SettleBody(seq, verb, payload, message, by, reason, generation)
        self.send(run_id, RequestKind.SETTLE, body, message_id)

    def _payload_of(self, run_id: str, seq: int, value: object) -> Payload:
        name = self._step_at(run_id, seq)
        definition = registry.steps.get(name)
        schema = definition.schema if definition is not None else CallSchema.open(f"step {name!r}")
        return schema.encode_result(value, limit=int(self._client.settings.max_payload))

    def fork(self, run_id: str, from_step: int, args: object, by: str | None, reason: str | None) -> str:
        """Begin a run that shares what another one recorded; its id. See `Handle.fork`."""
        new_id, request = self._fork_request(run_id, from_step, args, by, reason)
        self._link.database.inbox.put([request])
        self._client.tell_coordinator()
        seconds = ANSWER_TIME.total_seconds()
        answer = self._link.notices.wait_for(new_id, lambda: self._reply(request.message_id), seconds)
        self._check(answer, new_id, RequestKind.START)
        return new_id

    def _fork_request(
        self, run_id: str, from_step: int, args: object, by: str | None, reason: str | None
    ) -> tuple[str, Request]:
        begun = self._begun(run_id)
        given, first = begun.input, from_step
        if args is not None:
            if from_step not in (0, 1):
                raise ValueError("other input changes what the first steps were asked: fork it from step 1")
            first, given = 0, self._input_of(begun, args)
        elif from_step < 1:
            raise ValueError(f"from_step is the position of a step, from 1, not {from_step}")
        new_id = new_run_id()
        body = StartBody(
            begun.workflow,
            new_id,
            given,
            begun.version or None,
            begun.tags,
            begun.context,
            ForkFrom(run_id, first, by, reason),
        )
        partition = self._link.database.partition_of(new_id)
        text = encode_message(body)
        return new_id, Request(new_message_id(), RequestKind.START, new_id, partition, text, reply=True)

    def _begun(self, run_id: str) -> RunStarted:
        """How a run began; from its history as it is stored, since people are shown no secrets."""
        self._client.known(run_id)
        rows = self._link.database.reads.events(run_id, 0, 1)
        begun = decode_body(rows[0].type, rows[0].raw) if rows else None
        if not isinstance(begun, RunStarted):
            raise errors.WrongState(f"run {run_id} has not begun: there is nothing to share yet")
        return begun

    def _input_of(self, begun: RunStarted, args: object) -> Payload:
        positions: tuple[Any, ...] = ()
        named: dict[str, Any] = {}
        if isinstance(args, Mapping):
            named = dict(cast("Mapping[str, Any]", args))
        elif isinstance(args, (list, tuple)):
            positions = tuple(cast("Sequence[Any]", args))
        else:
            raise TypeError(f"args is a tuple of positional or a dict of keyword arguments, not {args!r}")
        definition = registry.workflow(begun.workflow, begun.version or None)
        name = f"workflow {begun.workflow!r}"
        schema = definition.schema if definition is not None else CallSchema.open(name)
        return schema.encode_call(positions, named, limit=int(self._client.settings.max_payload))

    def _step_at(self, run_id: str, seq: int) -> str:
        names = [
            str(event.data["name"])
            for event in self._client.events_of(run_id, follow=False)
            if event.type == "step.scheduled" and event.data["seq"] == seq
        ]
        if not names:
            raise errors.NotFound(f"run {run_id} has no step {seq}: see dramaturg events {run_id}")
        return names[-1]

    def _put(self, run_id: str, kind: RequestKind, body: RunMessage, message_id: str | None = None) -> str:
        found = self._client.known(run_id)
        if isinstance(found, RunRecord) and found.status == "CONTINUED" and not _is_of_this_run(kind, body):
            # It would be handed on from run to run: here it takes the short way.
            run_id = self._client.resolve(found.workflow_id)
            found = self._client.known(run_id)
        message_id = message_id or new_message_id()
        text = encode_message(body)
        self._link.database.inbox.put([Request(message_id, kind, run_id, found.partition, text, reply=True)])
        self._client.tell_coordinator()
        return message_id

    def _reply(self, message_id: str) -> Reply | None:
        return self._link.database.reads.reply(message_id)

    def _check(self, answer: Reply | None, run_id: str, kind: RequestKind, timeout: timedelta | None = None) -> Reply:
        if answer is None:
            raise errors.NotAnswered(
                f"no coordinator recorded {kind.value} of run {run_id} within {(timeout or ANSWER_TIME).total_seconds():g} s; the "
                f"request stays and counts once. Start one with: {serving_command(self._client.settings)}"
            )
        if answer.error:
            raise getattr(errors, answer.error)(answer.message)
        return answer


def _is_of_this_run(kind: RequestKind, body: RunMessage) -> bool:
    """Whether it is about what this very run asked for or did, which is nothing of the next one of its chain."""
    is_of_a_place = isinstance(body, DecideBody) and body.seq is not None
    return is_of_a_place or kind in (RequestKind.RETRY, RequestKind.RESET, RequestKind.SETTLE, RequestKind.RESOLVE)
