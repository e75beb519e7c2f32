"""Which starts begin a run: the rules of idempotency keys and workflow ids, without any database.

Orders are decided one after the other, each against what is known after the one before. What decides:

1. A key whose row another start wrote: the run that it led to, or `IdempotencyMismatch` for other arguments.
2. A run that is there already, in its table or still in the inbox: the same order was submitted again.
3. An explicit workflow id that another run has: `on_conflict` while that run is open, `reuse` after it closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dramaturg_protocol.errors import AlreadyStarted, IdempotencyMismatch
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.records import StartOrder, StartOutcome
from dramaturg_protocol.request_bodies import ControlBody
from dramaturg_protocol.sealing import same_digest

COMPLETED = "COMPLETED"


@dataclass(frozen=True, slots=True)
class KeyRow:
    """What is known of an idempotency key.

    Attributes:
      target: the run that its first start led to.
      message_id: of that start.
    """

    digest: str
    target: str
    workflow_id: str
    message_id: str


@dataclass(slots=True)
class Known:
    """What the database knows of the keys, ids and runs that some orders name.

    Attributes:
      keys: by the run id that a key stands for; those of these orders included.
      ids: the run that has a workflow id.
      statuses: of the runs that are there; ``None`` while a run is open or its start is still in the inbox.
    """

    keys: dict[str, KeyRow] = field(default_factory=dict[str, KeyRow])
    ids: dict[str, str] = field(default_factory=dict[str, str])
    statuses: dict[str, str | None] = field(default_factory=dict[str, str | None])


@dataclass(slots=True)
class Decided:
    """What has to be written.

    Attributes:
      requests: for the inbox, in order.
      ids: workflow ids that change their run.
      targets: keys that led to another run than their own.
    """

    outcomes: list[StartOutcome] = field(default_factory=list[StartOutcome])
    requests: list[Request] = field(default_factory=list[Request])
    ids: dict[str, str] = field(default_factory=dict[str, str])
    targets: dict[str, str] = field(default_factory=dict[str, str])


def decide_starts(orders: Sequence[StartOrder], known: Known, partition_of: Callable[[str], int]) -> Decided:
    """Decide orders one after the other.

    Raises:
      AlreadyStarted: a workflow id is taken and the order does not say what to do then.
      IdempotencyMismatch: a key was used with other arguments.
    """
    decided = Decided()
    for order in orders:
        outcome = _met(order, known) or _led_elsewhere(order, known, decided, partition_of)
        if outcome is None:
            outcome = StartOutcome(order.run_id, order.workflow_id, is_new=True)
            decided.requests.append(start_request(order, partition_of(order.workflow_id)))
            known.statuses[order.run_id] = None
        if order.signal is not None:
            decided.requests.append(_signal_request(order, outcome, order.signal, partition_of(outcome.workflow_id)))
        decided.outcomes.append(outcome)
    return decided


def start_request(order: StartOrder, partition: int) -> Request:
    """The inbox row of a start."""
    return Request(order.message_id, RequestKind.START, order.run_id, partition, order.body)


def _signal_request(order: StartOrder, outcome: StartOutcome, body: str, partition: int) -> Request:
    """The signal that goes with a start, to whichever run that leads to."""
    is_awaited = order.awaits_signal and not outcome.is_new
    return Request(order.signal_id, RequestKind.SIGNAL, outcome.run_id, partition, body, reply=is_awaited)


def is_first(order: StartOrder, keys: Mapping[str, KeyRow]) -> bool:
    """Whether no other start used the order's key before."""
    if order.digest is None:
        return True
    key = keys[order.run_id]
    return key.message_id == order.message_id and key.target == order.run_id


def _met(order: StartOrder, known: Known) -> StartOutcome | None:
    """The run that is there already for this key, or for this very order."""
    if order.digest is not None:
        key = known.keys[order.run_id]
        if not same_digest(key.digest, order.digest):
            raise IdempotencyMismatch(
                f"workflow {order.workflow!r}: this idempotency key was used with other arguments (run {key.target})"
            )
        if not is_first(order, known.keys):
            return StartOutcome(key.target, key.workflow_id, is_new=False)
    if order.run_id in known.statuses:
        return StartOutcome(order.run_id, order.workflow_id, is_new=False)
    return None


def _led_elsewhere(
    order: StartOrder, known: Known, decided: Decided, partition_of: Callable[[str], int]
) -> StartOutcome | None:
    """Apply the policies of an explicit id; the run that is used instead, or nothing where the order begins one."""
    if not order.has_explicit_id:
        return None
    holder = known.ids.get(order.workflow_id, order.run_id)
    if holder == order.run_id:
        known.ids[order.workflow_id] = order.run_id
        return None
    if holder in known.statuses:
        status = known.statuses[holder]
        if status is not None:
            _check_reuse(order, holder, status)
        elif order.on_conflict == "use_existing":
            return _use_existing(order, holder, known, decided)
        elif order.on_conflict == "terminate_existing":
            decided.requests.append(_terminate_request(order, holder, partition_of(order.workflow_id)))
        else:
            raise _already_started(
                order, holder, f"workflow id {order.workflow_id!r} is taken by the open run {holder}"
            )
    known.ids[order.workflow_id] = decided.ids[order.workflow_id] = order.run_id
    return None


def _use_existing(order: StartOrder, holder: str, known: Known, decided: Decided) -> StartOutcome:
    if order.digest is not None:
        decided.targets[order.run_id] = holder
        known.keys[order.run_id] = KeyRow(order.digest, holder, order.workflow_id, order.message_id)
    return StartOutcome(holder, order.workflow_id, is_new=False)


def _check_reuse(order: StartOrder, holder: str, status: str) -> None:
    if order.reuse == "never":
        raise _already_started(order, holder, f"workflow id {order.workflow_id!r} was used by run {holder}")
    if order.reuse == "if_failed" and status == COMPLETED:
        raise _already_started(order, holder, f"workflow id {order.workflow_id!r}: run {holder} completed")


def _already_started(order: StartOrder, holder: str, message: str) -> AlreadyStarted:
    return AlreadyStarted(message, workflow_id=order.workflow_id, run_id=holder)


def _terminate_request(order: StartOrder, holder: str, partition: int) -> Request:
    body = ControlBody(by=None, reason=f"replaced by run {order.run_id}, which took its workflow id")
    # Follows from the order, so that the same order submitted twice terminates once.
    return Request(f"{order.message_id}:replace", RequestKind.TERMINATE, holder, partition, encode_message(body))
