"""A run and its children: what they send each other. `(state, message) → requests and events`. Values in, values out.

    parent ── start ──► child          in the commit that records ``child.started``
    parent ── cancel, terminate ──► child
    parent ◄── closed ── child         in the commit that closes the child

Each is a row of the receiver's inbox. A child is told of its parent's end; a parent that is closed takes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from dramaturg_coordinator.core.run_state import OpenChild, RunState
from dramaturg_coordinator.core.states import RunPhase
from dramaturg_protocol import events as e
from dramaturg_protocol.ids import run_id_of_child
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.parents import ParentLink
from dramaturg_protocol.request_bodies import ChildClosedBody, ControlBody, StartBody

#: What a parent asks of a child that may be there already (`StartBody.again`).
TELL, RETRY = "tell", "retry"

PartitionOf = Callable[[str], int]


def start_of(state: RunState, seq: int, partition_of: PartitionOf, again: str = "") -> Request:
    """What begins an open child; with `again`, what has it go on, or tell of its end once more."""
    child, started = state.children[seq], state.started
    assert started is not None
    asked = child.asked
    body = StartBody(
        workflow=asked.workflow,
        workflow_id=child.workflow_id,
        input=asked.input,
        version=asked.version,
        tags=dict(asked.tags),
        context=child.context,
        parent=ParentLink(state.run_id, started.workflow_id, state.partition, seq, child.run_id),
        again=again,
    )
    # Asked again in one generation it is the same request.
    message_id = f"{child.run_id}:start:{state.run_id}:{state.generation}" + (again and f":{again}:{state.number}")
    partition = partition_of(child.workflow_id)
    return Request(message_id, RequestKind.START, child.run_id, partition, encode_message(body))


def cancel_of(state: RunState, body: e.CancelSent, partition_of: PartitionOf) -> Request:
    """What cancels a child whose parent does not wait for it any more."""
    message_id = f"{state.run_id}:{state.generation}:{body.seq}:cancel"
    words = f"its parent, run {state.run_id}, no longer waits for it"
    partition = partition_of(body.workflow_id)
    return Request(message_id, RequestKind.CANCEL, body.run_id, partition, encode_message(ControlBody(None, words)))


def stops_of(
    state: RunState, children: Mapping[int, OpenChild], why: str, partition_of: PartitionOf
) -> Iterator[Request]:
    """What becomes of children that are left behind: by the policy of each.

    Parameters:
      why: in words, after the parent's name.
    """
    for seq, child in children.items():
        policy = child.asked.on_parent_close
        if policy == "abandon":
            continue
        kind = RequestKind.TERMINATE if policy == "terminate" else RequestKind.CANCEL
        body = ControlBody(None, f"its parent, run {state.run_id}, {why}")
        message_id = f"{child.run_id}:{kind.value}:{state.run_id}:{state.number}:{seq}"
        yield Request(message_id, kind, child.run_id, partition_of(child.workflow_id), encode_message(body))


def farewell_of(state: RunState, cause: str = "") -> Request | None:
    """What tells the parent of a closed child how it ended; nothing where it has none.

    Parameters:
      cause: the request that asks for it once more.
    """
    if state.started is None or state.started.parent is None:
        return None
    link, end = state.started.parent, state.end
    body = ChildClosedBody(
        link.seq,
        link.child,
        state.run_id,
        state.phase.value,
        result=end.result if isinstance(end, e.RunCompleted) else None,
        error=end.error if isinstance(end, e.RunFailed) else None,
    )
    message_id = f"{state.run_id}:closed:{state.number}" + (cause and f":{cause}")
    return Request(message_id[:255], RequestKind.CHILD_CLOSED, link.run_id, link.partition, encode_message(body))


def refusal_of(request: Request, body: StartBody, holder: str) -> Request:
    """What tells a parent that its child cannot begin: another run has the workflow id."""
    assert body.parent is not None
    words = f"workflow id {body.workflow_id!r} is taken by the open run {holder}"
    error = e.ErrorInfo("AlreadyStarted", words)
    closed = ChildClosedBody(body.parent.seq, body.parent.child, request.run_id, RunPhase.FAILED.value, error=error)
    link = body.parent
    message_id = f"{request.message_id}:refused"
    return Request(message_id, RequestKind.CHILD_CLOSED, link.run_id, link.partition, encode_message(closed))


def on_child_closed(state: RunState, request: Request, body: ChildClosedBody) -> Sequence[e.EventBody]:
    """A child tells of its end; nothing where the run does not know it, or knows of its end."""
    child = state.children.get(body.seq)
    if child is None or child.run_id != body.child:
        return ()
    error = body.error
    closed = e.ChildClosed(
        body.seq, child.asked.workflow, body.run_id, request.message_id, body.status, body.result, error
    )
    return (closed,)


def again_after(
    before: RunState, lines: Sequence[e.HistoryEvent], settled: set[int], generation: int, *, is_retry: bool, how: str
) -> Iterator[tuple[int, str]]:
    """Which children that are open at a cut begin again or go on, and as which run.

    One that failed goes on as it is where its parent is retried; one that was stopped, and any where its parent is reset,
    is another run. One that is still under way just goes on.

    Parameters:
      before: the state at the cut.
      lines: what is cut.
      settled: positions whose outcome stays.
      how: what the run was: ``open``, ``closed``, or another one (``fork``).
    """
    ends = {line.body.seq: line.body for line in lines if isinstance(line.body, e.ChildClosed)}
    stopped = {line.body.child for line in lines if isinstance(line.body, e.CancelSent)}
    for seq, child in before.children.items():
        if seq in settled:
            continue
        new = run_id_of_child(before.run_id, generation, seq)
        if how == "fork":
            yield seq, new
        elif seq in ends:
            yield seq, child.run_id if is_retry else new
        elif seq in stopped or how == "closed":
            yield seq, child.run_id if child.asked.on_parent_close == "abandon" else new
