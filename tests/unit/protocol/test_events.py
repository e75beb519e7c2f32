"""The types of events."""

from __future__ import annotations

from dramaturg_protocol import events as e


def test_the_kinds_of_events_are_themselves_and_what_is_a_kind_of_them() -> None:
    assert e.kinds_of(e.StepFailed, e.Cut) == {e.StepFailed, e.StepSkipped, e.RunRetried, e.RunReset}
