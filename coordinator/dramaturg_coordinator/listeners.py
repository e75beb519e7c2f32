"""Runs that begin because something was recorded: each event that somebody listens to begins a run of one step.

The start is a row of the inbox in the commit that records the event. Its run id follows from run, event and step, so that
a turn that is done again begins nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from pydantic_core import from_json

from dramaturg_coordinator.core.run_state import RunState
from dramaturg_protocol import events as e
from dramaturg_protocol.definitions import Listener, Registry
from dramaturg_protocol.event_codec import encode_body
from dramaturg_protocol.ids import run_id_of_message
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.request_bodies import StartBody
from dramaturg_protocol.shown import shown
from dramaturg_protocol.tags import tagged_text

#: Of the workflow that is a run of one step.
STEP_PREFIX: Final = "step:"


def starts_for(
    state: RunState, events: Iterable[e.HistoryEvent], registry: Registry, partition_of: Callable[[str], int]
) -> Iterator[Request]:
    """What begins the runs of those who listen to events of a run."""
    if not registry.listeners or state.started is None or _is_listener(state.started, registry):
        return
    for event in events:
        for listener in registry.listeners.get(e.type_of(event.body), ()):
            if _fits(listener, state.started):
                yield _start(state, state.started, event, listener, partition_of)


def _is_listener(started: e.RunStarted, registry: Registry) -> bool:
    """Whether the run is one of these itself: what it records is told to nobody, or a failure would never end."""
    name = started.workflow.removeprefix(STEP_PREFIX)
    return name != started.workflow and any(
        name == each.step for listeners in registry.listeners.values() for each in listeners
    )


def _fits(listener: Listener, started: e.RunStarted) -> bool:
    return (listener.workflow is None or listener.workflow == started.workflow) and all(
        name in started.tags and started.tags[name] == value for name, value in listener.tags.items()
    )


def _start(
    state: RunState,
    started: e.RunStarted,
    event: e.HistoryEvent,
    listener: Listener,
    partition_of: Callable[[str], int],
) -> Request:
    run_id = run_id_of_message(f"on\0{state.run_id}\0{event.number}\0{listener.step}")
    about = {
        "run_id": state.run_id,
        "workflow_id": started.workflow_id,
        "workflow": started.workflow,
        "version": state.version,
        "tags": dict(started.tags),
    }
    told = {
        "number": event.number,
        "type": e.type_of(event.body),
        "time": event.time.isoformat(),
        "data": {**shown(from_json(encode_body(event.body))), **about},
    }
    payload = Payload(f'{{"args":[{tagged_text(told, "an event")}]}}')
    body = StartBody(STEP_PREFIX + listener.step, run_id, payload)
    return Request(f"{run_id}:start", RequestKind.START, run_id, partition_of(run_id), encode_message(body))
