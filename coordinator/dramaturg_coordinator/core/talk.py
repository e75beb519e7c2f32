"""What others say to a run: `(state, request) → events`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from dramaturg_coordinator.core.refusal import Refusal
from dramaturg_coordinator.core.run_state import RunState
from dramaturg_coordinator.core.states import RunPhase
from dramaturg_protocol import events as e
from dramaturg_protocol.ids import run_id_of_child
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.request_bodies import ControlBody
from dramaturg_protocol.talk_messages import SignalBody


def on_signal(state: RunState, request: Request, body: SignalBody) -> Sequence[e.EventBody]:
    """A signal is recorded whether or not the code can be run, and told when it can.

    Raises:
      Refusal: the run is closed.
    """
    if state.phase is RunPhase.NEW:
        raise Refusal(f"the run did not begin: it takes no signal {body.name!r}")
    if state.is_closed:
        raise Refusal(f"the run is {state.status}: it takes no signal {body.name!r} any more")
    return (e.SignalReceived(request.message_id, body.name, body.payload, body.by, body.reason, body.sender),)


def signal_of(state: RunState, body: e.SignalSent, partition_of: Callable[[str], int]) -> Request:
    """What brings a signal to the run that it was sent to."""
    said = SignalBody(body.name, body.payload, sender=state.run_id)
    return _sent(state, body, RequestKind.SIGNAL, encode_message(said), partition_of)


def signals_again(
    state: RunState, cut: e.Cut, lines: Sequence[e.HistoryEvent], partition_of: Callable[[str], int]
) -> Iterator[Request]:
    """What a run that goes on from an earlier point had told its children by then that are other runs now.

    Parameters:
      lines: what counts of its history; the children's starts are of the state already.
    """
    new = {
        seq: state.children[seq]
        for seq, run_id in cut.children
        if run_id == run_id_of_child(state.run_id, cut.generation, seq)
    }
    names: dict[str, int] = {}
    for line in lines:
        body = line.body
        if isinstance(body, e.ChildStarted) and body.seq in new:
            names |= {body.run_id: body.seq, body.workflow_id: body.seq}
        elif isinstance(body, e.Cut):
            names |= {run_id: seq for seq, run_id in body.children if seq in new}
    for line in lines:
        body = line.body
        if isinstance(body, e.SignalSent) and (body.run_id or body.workflow_id) in names:
            child = new[names[body.run_id or body.workflow_id]]
            yield signal_of(state, replace(body, workflow_id=child.workflow_id, run_id=child.run_id), partition_of)


def cancel_of(state: RunState, body: e.CancelSent, partition_of: Callable[[str], int]) -> Request:
    """What cancels the run that was named."""
    asked = ControlBody(None, f"run {state.run_id} asked for it")
    return _sent(state, body, RequestKind.CANCEL, encode_message(asked), partition_of)


def _sent(
    state: RunState,
    body: e.SignalSent | e.CancelSent,
    kind: RequestKind,
    text: str,
    partition_of: Callable[[str], int],
) -> Request:
    message_id = f"{state.run_id}:{state.generation}:{body.seq}:{kind.value}"
    return Request(message_id, kind, body.run_id or body.workflow_id, partition_of(body.workflow_id), text)
