"""What others say to a run: `(state, request) → events`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dramaturg_coordinator.core.refusal import Refusal
from dramaturg_coordinator.core.run_state import RunState
from dramaturg_coordinator.core.states import RunPhase
from dramaturg_protocol import events as e
from dramaturg_protocol.messages import ControlBody, Request, RequestKind, encode_message
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
