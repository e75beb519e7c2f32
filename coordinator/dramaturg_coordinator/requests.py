"""What a request to a run leads to: its body is read, and the core says which events follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import datetime

from dramaturg_coordinator.core import asking, children, cuts, decide, talk, verbs
from dramaturg_coordinator.core.run_state import RunState
from dramaturg_coordinator.rules import PYTHON, Rules
from dramaturg_protocol import events as e
from dramaturg_protocol.messages import Request, RequestKind, decode_report
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.request_bodies import (
    ControlBody,
    StartBody,
    decode_child_closed,
    decode_control,
    decode_decide,
    decode_resolve,
    decode_settle,
    decode_start,
)
from dramaturg_protocol.talk_messages import decode_signal


def events_of(
    request: Request,
    state: RunState,
    rules: Rules,
    history: Callable[[], Sequence[e.HistoryEvent]],
    check: Callable[[int, Payload], None],
    now: datetime,
) -> Sequence[e.EventBody]:
    """The events that a request leads to; none where it was taken before.

    Parameters:
      history: gives all events of the run; asked for only by what goes back in it.
      check: raises `PayloadError` where the code that waits at a position does not take a payload.

    Raises:
      MalformedMessage: its body cannot be read.
      Refusal: it does not fit the run as it is.
    """
    if request.kind is RequestKind.START:
        return _start(request, state, rules)
    if request.kind is RequestKind.REPORT:
        return _report(request, state, rules, now)
    if request.message_id in state.messages:
        return ()
    match request.kind:
        case RequestKind.SETTLE:
            return verbs.on_settle(state, request, decode_settle(request.body), now)
        case RequestKind.CHILD_CLOSED:
            return children.on_child_closed(state, request, decode_child_closed(request.body))
        case RequestKind.SIGNAL:
            return talk.on_signal(state, request, decode_signal(request.body))
        case RequestKind.DECIDE:
            return asking.on_decide(state, request, decode_decide(request.body), now)
        case RequestKind.RESOLVE:
            return asking.on_resolve(state, request, decode_resolve(request.body), check)
        case _:
            return _controlled(request, state, history, now)


def _controlled(
    request: Request, state: RunState, history: Callable[[], Sequence[e.HistoryEvent]], now: datetime
) -> Sequence[e.EventBody]:
    body = decode_control(request.body)
    if request.kind in (RequestKind.RETRY, RequestKind.RESET):
        return _go_back(request, state, body, history, now)
    match request.kind:
        case RequestKind.RESUME:
            return verbs.on_resume(state, request, body, now)
        case RequestKind.PAUSE:
            return verbs.on_pause(state, request, body)
        case RequestKind.CANCEL:
            return decide.on_cancel(state, request, body)
        case _:
            return decide.on_terminate(state, request, body)


def fork_in(request: Request) -> StartBody | None:
    """The start of a run that shares what another one has recorded; ``None`` where it is no such request.

    Raises:
      MalformedMessage: its body cannot be read.
    """
    # Most starts are no fork, and are not read twice.
    if request.kind is not RequestKind.START or '"fork":{' not in request.body:
        return None
    body = decode_start(request.body)
    return body if body.fork is not None and body.fork.step else None


def _go_back(
    request: Request,
    state: RunState,
    body: ControlBody,
    history: Callable[[], Sequence[e.HistoryEvent]],
    now: datetime,
) -> Sequence[e.EventBody]:
    is_retry = request.kind is RequestKind.RETRY
    if is_retry and state.has_held_steps:
        return verbs.on_resume(state, request, body, now)
    plan = cuts.retry_of if is_retry else cuts.reset_of
    return (
        plan(state, history(), e.Cut(request.message_id, body.to_event or 0, 0, by=body.by, reason=body.reason), now),
    )


def _start(request: Request, state: RunState, rules: Rules) -> Sequence[e.EventBody]:
    body = decode_start(request.body)
    definition = rules.registry.workflow(body.workflow, body.version)
    version = definition.version if definition is not None else body.version or 0
    fingerprint = definition.fingerprint if definition is not None else ""
    if definition is not None:
        body = dataclasses.replace(body, tags={**definition.options.get("tags", {}), **body.tags})
    return decide.on_start(
        state,
        request,
        body,
        version=version,
        python=PYTHON,
        fingerprint=fingerprint,
        timeout=rules.timeout_of(definition),
        limit=rules.limit_of(definition, body.input),
    )


def _report(request: Request, state: RunState, rules: Rules, now: datetime) -> Sequence[e.EventBody]:
    report = decode_report(request.body)
    step = state.steps.get(report.seq)
    return () if step is None else decide.on_report(state, report, rules.options_of(step), now)
