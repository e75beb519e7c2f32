"""Tasks and reports as ordinary Dramatiq messages.

A task goes to its queue over every broker. A report goes as a message only over those that have no better way.
"""

from __future__ import annotations

from typing import Any, Final

import dramatiq
from dramatiq.encoder import JSONEncoder
from pydantic_core import from_json, to_json

from dramaturg_protocol.messages import StepTask, decode_task

#: The option of a Dramatiq message that carries the encoded task.
TASK_OPTION: Final = "dramaturg"

#: The option that carries its priority, where the workflow's side sets one: lower first.
PRIORITY_OPTION: Final = "dramaturg_priority"

#: The actor of a message that carries a report.
REPORT_ACTOR: Final = "report"

#: The option by which Dramatiq's broker over Redis knows a message in a queue.
_REDIS_ID_OPTION: Final = "redis_message_id"


def report_queue(partition: int) -> str:
    """The queue in which the owner of a partition finds reports."""
    return f"dramaturg.reports.{partition}"


def message_of_report(report_text: str, partition: int) -> dramatiq.Message[Any]:
    """The message of an encoded report."""
    return dramatiq.Message(
        queue_name=report_queue(partition), actor_name=REPORT_ACTOR, args=(report_text,), kwargs={}, options={}
    )


def message_of(task_text: str, task: StepTask | None = None) -> dramatiq.Message[Any]:
    """The message of an encoded task, with the id of its attempt.

    Parameters:
      task: what the text says, where that is known.

    Raises:
      MalformedMessage: the text is no task.
    """
    if task is None:
        task = decode_task(task_text)
    options: dict[str, Any] = {TASK_OPTION: task_text}
    if task.priority is not None:
        options[PRIORITY_OPTION] = task.priority
    return dramatiq.Message(
        queue_name=task.queue,
        actor_name=task.name,
        args=(),
        kwargs={},
        options=options,
        message_id=task.message_id,
    )


def priority_of(message: Any, otherwise: int) -> int:
    """The priority of a task's message.

    Parameters:
      otherwise: what the worker knows of its step.
    """
    said = message.options.get(PRIORITY_OPTION)
    return said if isinstance(said, int) else otherwise


def redis_body_of(message: dramatiq.Message[Any]) -> bytes:
    """A message's bytes as Dramatiq's broker over Redis has them, its id in the queue being its own."""
    fields: dict[str, Any] = {
        "queue_name": message.queue_name,
        "actor_name": message.actor_name,
        "args": message.args,
        "kwargs": message.kwargs,
        "options": {**message.options, _REDIS_ID_OPTION: message.message_id},
        "message_id": message.message_id,
        "message_timestamp": message.message_timestamp,
    }
    encoder: Any = dramatiq.get_encoder()
    # The same JSON, sooner; an application may have chosen another encoder.
    body: bytes = to_json(fields) if type(encoder) is JSONEncoder else encoder.encode(fields)
    return body


def message_in(body: bytes) -> dramatiq.Message[Any]:
    """The Dramatiq message in a body.

    Raises:
      DecodeError: there is none.
    """
    kind: Any = dramatiq.Message
    message: dramatiq.Message[Any]
    try:
        message = kind(**from_json(body)) if type(dramatiq.get_encoder()) is JSONEncoder else kind.decode(body)
    except (ValueError, TypeError):
        # Dramatiq's decoder reads some that the quick one does not, and says what is wrong with the others.
        message = kind.decode(body)
    return message
