"""Replay: the history is told to the code, which must ask for the same again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dramaturg_coordinator.core.commands import Command, describe, is_same
from dramaturg_coordinator.core.replay import Mismatch, replay, unrecorded_from
from dramaturg_coordinator.core.run_state import RunState
from dramaturg_protocol import events as e
from dramaturg_protocol.payloads import Payload
from tests.unit.coordinator.core.runs import ERROR, STARTED, a_history, completed, scheduled, timer

END = e.RunCompleted(Payload("1"))
HISTORY = a_history(STARTED, scheduled(1), e.StepStarted(1, "charge", 1), completed(1), timer(2), e.TimerFired(2), END)


def replayed(history: Sequence[e.HistoryEvent], *answers: Sequence[e.EventBody]) -> Sequence[Command] | Mismatch:
    """Replay to code that answers each event that it is told with these."""
    todo = iter(answers)
    return replay(
        RunState("run-1", 0),
        history,
        lambda *_: [Command(body, "flow.py:7") for body in next(todo, ())],
        lambda name, recorded, actual: recorded.replace(" ", "") == actual.replace(" ", ""),
    )


def never(name: str, recorded: Payload, actual: Payload) -> bool:
    return False


def a_mismatch(history: Sequence[e.HistoryEvent], *answers: Sequence[e.EventBody]) -> Mismatch:
    found = replayed(history, *answers)
    assert isinstance(found, Mismatch)
    return found


def test_code_that_asks_for_the_same_fits() -> None:
    assert replayed(HISTORY, [scheduled(1)], [timer(2)], [END]) == ()


def test_arguments_may_be_written_differently() -> None:
    assert replayed(HISTORY[:4], [scheduled(1, arguments='{ "args": [] }')]) == ()


def test_a_recorded_command_that_the_code_does_not_ask_for() -> None:
    found = a_mismatch(HISTORY, [])

    assert (found.event, found.expected) == (2, 'step charge #1 {"args":[]}')
    assert found.actual == ()
    assert "now the code asks for «nothing more» (flow.py:9)" in found.as_event("flow.py:9").message


def test_a_command_that_is_not_recorded() -> None:
    found = a_mismatch(HISTORY, [scheduled(1), scheduled(2, "ship")], [timer(3)])

    assert (found.event, found.expected) == (4, "step.completed")
    assert found.actual == ('step ship #2 {"args":[]}',)


def test_a_command_beyond_the_end() -> None:
    found = a_mismatch(HISTORY[:4], [scheduled(1)], [timer(2)])

    assert (found.event, found.expected) == (5, "nothing more")
    assert found.actual[0].startswith("timer #2")


@pytest.mark.parametrize(
    ("actual", "text"),
    [
        (scheduled(1, "ship"), 'step ship #1 {"args":[]}'),
        (scheduled(1, arguments='{"args":[1]}'), 'step charge #1 {"args":[1]}'),
        (scheduled(2), 'step charge #2 {"args":[]}'),
        (timer(1), "timer #1 until 2030-01-01T01:00:00.000000Z"),
        (e.MarkerRecorded(1, "patched", "change"), "patched change #1"),
        (END, "return 1"),
        (e.RunFailed(ERROR), "raise ValueError: no"),
        (e.RunCancelled(), "end as cancelled"),
    ],
)
def test_the_error_shows_what_is_recorded_and_what_is_asked_for_side_by_side(actual: e.EventBody, text: str) -> None:
    event = a_mismatch(HISTORY, [actual]).as_event("elsewhere.py:1")

    assert event.reason == "nondeterminism"
    assert event.event == 2
    assert event.line == "flow.py:7"
    assert event.actual == (text,)
    assert event.recorded[0] == "1: run.started"
    assert event.recorded[1] == '2: step charge #1 {"args":[]}'
    assert (
        f'event 2 recorded «step charge #1 {{"args":[]}}», now the code asks for «{text}» (flow.py:7)' in event.message
    )


def test_long_arguments_are_shortened() -> None:
    text = describe(scheduled(1, arguments='{"args":["' + "x" * 500 + '"]}'))

    assert len(text) < 130
    assert text.endswith("…")


def test_options_and_due_times_are_not_compared() -> None:
    other = e.StepScheduled(1, "charge", Payload('{"args":[]}'), "other", {"retries": 1})

    assert is_same(scheduled(1), other, never)


def test_commands_that_were_never_recorded_are_given_back_where_the_code_was_interrupted() -> None:
    history = a_history(STARTED, scheduled(1), completed(1), e.RunBlocked("stuck", "", unrecorded=True))

    commands = replayed(history, [scheduled(1)], [timer(2)])

    assert not isinstance(commands, Mismatch)
    assert [command.body for command in commands] == [timer(2)]


def test_what_was_held_is_told_when_the_run_is_unblocked() -> None:
    history = a_history(
        STARTED, scheduled(1), timer(2), e.RunBlocked("stuck", ""), completed(1), e.TimerFired(2), e.RunUnblocked(), END
    )

    assert replayed(history, [scheduled(1), timer(2)], [], [END]) == ()


def test_a_cancel_of_what_has_an_outcome_already_is_no_command() -> None:
    history = a_history(
        STARTED, scheduled(1), timer(2), e.RunBlocked("stuck", ""), completed(1), e.TimerFired(2), e.RunUnblocked(), END
    )

    assert replayed(history, [scheduled(1), timer(2)], [e.TimerCancelled(2), END]) == ()


@pytest.mark.parametrize(
    ("bodies", "number"),
    [
        ([STARTED, scheduled(1), completed(1)], None),
        ([STARTED, e.RunBlocked("unknown_workflow", "", unrecorded=True)], 1),
        ([STARTED, scheduled(1), completed(1), e.RunBlocked("stuck", "", unrecorded=True)], 3),
        ([STARTED, scheduled(1), completed(1), e.RunBlocked("nondeterminism", "")], None),
        ([STARTED, e.RunBlocked("stuck", "", unrecorded=True), e.RunUnblocked(), scheduled(1)], None),
        ([STARTED, timer(1), scheduled(2), completed(2), e.RunBlocked("s", "", unrecorded=True), e.TimerFired(1)], 4),
        ([STARTED, scheduled(1), completed(1), END, e.RunReset("m", 1, 2, (), (), (), ())], 1),
        ([STARTED, scheduled(1), completed(1), END, e.RunReset("m", 2, 2, (), (), (), ())], 5),
        ([STARTED, scheduled(1), completed(1), e.Logged("INFO", ""), END, e.RunReset("m", 4, 2)], 6),
    ],
)
def test_from_where_on_the_code_was_never_heard(bodies: list[e.EventBody], number: int | None) -> None:
    assert unrecorded_from(a_history(*bodies)) == number
