"""A run that its code continues as a new one: what the next run is sent. Values in, values out.

    run ── start, signals that were not taken ──► the next run, of the same workflow id and partition

Whatever comes for a run that went on is handed on to the next one, in the order in which it came; but for what the run
has taken already, and for the answer to a position, which would be another one in the next run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dramaturg_coordinator.core.run_state import RunState
from dramaturg_protocol import events as e
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.request_bodies import StartBody, decode_decide
from dramaturg_protocol.talk_messages import SignalBody

#: These are about the run for which they came.
_OWN = frozenset(
    {
        RequestKind.RETRY,
        RequestKind.RESET,
        RequestKind.SETTLE,
        RequestKind.REPORT,
        RequestKind.CHILD_CLOSED,
        RequestKind.RESOLVE,
        RequestKind.QUERY,
    }
)


def next_of(state: RunState, end: e.RunContinued) -> Request:
    """What begins the next run of a chain."""
    started = state.started
    assert started is not None
    body = StartBody(
        workflow=started.workflow,
        workflow_id=started.workflow_id,
        input=end.input,
        tags=dict(started.tags),
        context=state.context,
        priority=started.priority,
        parent=started.parent,
        continued_from=state.run_id,
    )
    message_id = f"{end.run_id}:start"
    return Request(message_id, RequestKind.START, end.run_id, state.partition, encode_message(body))


def signals_of(state: RunState, end: e.RunContinued, untaken: Iterable[e.SignalReceived]) -> Iterator[Request]:
    """The signals that the code did not take, for the next run; each counts once in the chain."""
    for signal in untaken:
        body = SignalBody(signal.name, signal.payload, signal.by, signal.reason, signal.sender)
        yield Request(signal.message_id, RequestKind.SIGNAL, end.run_id, state.partition, encode_message(body))


def goes_on(state: RunState, end: e.RunContinued, request: Request, start: StartBody | None) -> bool:
    """Whether what came for a run that went on is for the next run.

    Parameters:
      start: what a start says of its parent, or of the run that it continues.

    Raises:
      MalformedMessage: it cannot be read.
    """
    if request.message_id in state.messages:
        # It counted here, and once is enough for the chain. What was handed on is handed on once more: it is not there
        # where this one was still in the inbox, under the same id, when the run went on.
        return request.message_id in end.signals
    if request.kind is RequestKind.START:
        return start is not None and bool(start.again)
    if request.kind is RequestKind.DECIDE:
        return decode_decide(request.body).seq is None
    return request.kind not in _OWN
