"""What an actor that is a step says of its exceptions: `throws` and `retry_when`, asked where the exception is."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any, Final

from dramaturg_actors.failures import Outcome
from dramaturg_protocol.definitions import StepDefinition
from dramaturg_protocol.messages import ReportKind, StepTask

_logger: Final = logging.getLogger("dramaturg.actors")


def refine(outcome: Outcome, error: BaseException, task: StepTask, definition: StepDefinition) -> Outcome:
    """The outcome of an attempt, made final where its actor's options say so.

    As with Dramatiq's own retries `throws` is asked first, and `retry_when` gets the number of retries made.
    """
    options: dict[str, Any] = definition.actor.options
    throws = options.get("throws")
    if throws and isinstance(error, throws) and not _overrides_throws(definition):
        return dataclasses.replace(outcome, kind=ReportKind.FAILED, fatal=True)
    retry_when = options.get("retry_when")
    if retry_when is None or outcome.kind is not ReportKind.FAILED or outcome.fatal:
        return outcome
    return _asked(outcome, error, task, retry_when)


def _overrides_throws(definition: StepDefinition) -> bool:
    policy = definition.options.get("retries")
    return policy is not None and bool(policy.give_up_on)


def _asked(
    outcome: Outcome, error: BaseException, task: StepTask, retry_when: Callable[[int, BaseException], object]
) -> Outcome:
    try:
        return outcome if retry_when(task.attempt - 1, error) else dataclasses.replace(outcome, fatal=True)
    except Exception as wrong:
        _logger.exception("retry_when of actor %r failed; the step is not tried again", task.name)
        message = f"{outcome.message} (not tried again: its retry_when raised {type(wrong).__name__}: {wrong})"
        return dataclasses.replace(outcome, message=message, fatal=True)
