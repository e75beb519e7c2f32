"""Every event body survives its JSON text."""

from __future__ import annotations

import pytest
from pydantic_core import from_json

from dramaturg_protocol import event_codec
from dramaturg_protocol import events as e
from dramaturg_protocol.payloads import Payload
from tests.unit.coordinator.core.runs import EPOCH

INPUT = Payload('{"args":[1,"ü",null]}')
ERROR = e.ErrorInfo("pkg.Broken", 'NUL \x00, quotes ", 🎭', "Traceback …")

BODIES: list[e.EventBody] = [
    e.RunStarted("m", "id", "flow", 3, INPUT, {"team": "a", "size": 3, "vip": True}, "3.12", "abc"),
    e.RunQueued(1),
    e.RunAdmitted(1),
    e.RunCompleted(Payload('{"a":[1.5,null]}')),
    e.RunFailed(ERROR, (1, 7)),
    e.RunCancelRequested("m", "ada", "because"),
    e.RunCancelled(),
    e.RunTerminated("m", None, "because"),
    e.RunTimedOut(),
    e.RunContinued("next-run", INPUT, ("m-1",)),
    e.RunBlocked("nondeterminism", "no", 4, ("4: a", "5: b"), ("c",), "flow.py:3", unrecorded=True),
    e.RunUnblocked(2),
    e.StepScheduled(1, "charge", INPUT, "payments", {"timeout": 3.5, "retries": {"max_attempts": 2}}),
    e.StepStarted(1, "charge", 2, "worker"),
    e.StepRetrying(1, "charge", 2, ERROR, EPOCH, "released", counts=False),
    e.StepCompleted(1, "charge", 2, Payload("null"), "worker", 0.25),
    e.StepFailed(1, "charge", 2, ERROR, "worker"),
    e.StepSkipped(1, "charge", 1, ERROR, "worker"),
    e.StepTimedOut(1, "charge", 2, ERROR),
    e.StepCancelled(1, "charge"),
    e.StepSettled(1, "charge", 2, "m-2", "complete", "ann", "paid by hand"),
    e.RunPaused("m-3", "ann", "look"),
    e.RunResumed("m-4", "ann"),
    e.RunRetried("m-5", 3, 2, (5, 7), ((1, 3),), ((2, EPOCH),), ("m-3",), ((8, "run"),), "ann", "fixed"),
    e.RunRetrying(ERROR, (1, 7), 2, EPOCH),
    e.RunRetried("m-7", 1, 4, attempt=3, tries=2, anew=True, deadline=EPOCH),
    e.RunReset("m-6", 3, 3),
    e.TimerStarted(1, EPOCH),
    e.TimerFired(1),
    e.TimerCancelled(1),
    e.ChildStarted(4, "ship", "child-run", "ship-1", INPUT, 2, "abandon", {"tenant": "a"}, Payload("{}")),
    e.ChildClosed(4, "ship", "child-run", "m-7", "COMPLETED", Payload("3")),
    e.ChildClosed(4, "ship", "child-run", "m-7", "FAILED", None, ERROR),
    e.CancelSent(5, "ship-1", "child-run", 4),
    e.ApprovalRequested(1, "legal", ("ada", "bob"), "Is it legal?", Payload('{"x":[1]}'), EPOCH, "https://x.example"),
    e.ApprovalDecided(1, "legal", True, EPOCH, "ada", "fine \x00", message_id="m-7"),
    e.ApprovalDecided(1, "legal", False, EPOCH, timed_out=True),
    e.ApprovalWithdrawn(1, "legal"),
    e.HookCreated(1, "paid", EPOCH, "https://x.example"),
    e.HookResolved(1, "paid", Payload('{"cents":1}'), "m-8"),
    e.HookExpired(1, "paid"),
    e.HookWithdrawn(1, "paid"),
    e.MarkerRecorded(1, "side_effect", "draw", Payload("null")),
    e.StepScheduled(3, "refund", INPUT, "payments", {}, e.Compensation("again", None, {"timeout": 3.5}), 1),
    e.CompensationStarted("failed", ERROR, (1, 7)),
    e.CompensationCompleted((3,)),
    e.SignalReceived("m-7", "add", Payload('{"item":"pen"}'), "ann", "why", "run-2"),
    e.SignalSent(4, "order-1", "add", Payload("null")),
    e.UpdateAccepted("m-8", "rename", INPUT),
    e.UpdateCompleted("m-8", "rename", Payload("null")),
    e.UpdateCompleted("m-8", "rename", None, ERROR),
    e.StatusSet(Payload('"packing"')),
    e.Logged("WARNING", "careful \x00"),
]


def test_the_examples_are_complete() -> None:
    assert {type(body) for body in BODIES} == set(e.TYPES.values())


@pytest.mark.parametrize("body", BODIES, ids=e.type_of)
def test_a_body_comes_back_as_it_was(body: e.EventBody) -> None:
    text = event_codec.encode_body(body)

    assert event_codec.decode_body(e.type_of(body), text) == body
    assert isinstance(from_json(text), dict)
    assert "\x00" not in text


@pytest.mark.parametrize(
    "body",
    [
        e.RunStarted("m", "id", "flow", 1, INPUT),
        e.RunBlocked("stuck", "it computes"),
        e.RunUnblocked(),
        e.StepScheduled(1, "charge", INPUT, "default"),
        e.StepCompleted(1, "charge", 1, Payload("[]")),
        e.MarkerRecorded(1, "patched", "change"),
    ],
    ids=e.type_of,
)
def test_fields_that_have_their_default_are_left_out_and_come_back(body: e.EventBody) -> None:
    assert event_codec.decode_body(e.type_of(body), event_codec.encode_body(body)) == body


def test_payloads_are_nested_json_in_the_stored_text() -> None:
    text = event_codec.encode_body(e.StepScheduled(1, "charge", INPUT, "default"))

    assert from_json(text)["input"] == {"args": [1, "ü", None]}


@pytest.mark.parametrize("text", ["", "[]", "null", '{"seq":"one"}', '{"seq":1'])
def test_text_that_is_no_such_event_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        event_codec.decode_body("timer.fired", text)


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(KeyError):
        event_codec.decode_body("timer.exploded", "{}")
