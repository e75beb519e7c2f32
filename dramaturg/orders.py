"""From what a caller types to a `StartOrder`: options told from arguments, arguments checked and encoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dramaturg.graphs.authoring import Graph
from dramaturg.steps import STEP_WORKFLOW, StepFunction
from dramaturg.workflows import BoundWorkflow, Workflow
from dramaturg_protocol.definitions import WorkflowDefinition, registry
from dramaturg_protocol.durations import Duration, parse_moment
from dramaturg_protocol.ids import new_message_id
from dramaturg_protocol.options import (
    START_OPTIONS,
    check_start_options,
)
from dramaturg_protocol.ordering import start_order
from dramaturg_protocol.payloads import Payload, encode_value
from dramaturg_protocol.records import StartOrder
from dramaturg_protocol.signatures import CallSchema
from dramaturg_protocol.talk_messages import SignalBody
from dramaturg_store.clock import Now, system_now


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be started.

    Attributes:
      definition: where this process knows it.
      options: set on the workflow object.
      is_graph: it was given as a graph, which goes along.
    """

    name: str
    definition: WorkflowDefinition | None
    options: Mapping[str, Any]
    is_graph: bool = False

    @property
    def schema(self) -> CallSchema:
        """How arguments and the result are encoded."""
        return self.definition.schema if self.definition is not None else CallSchema.open(f"workflow {self.name!r}")


def target_of(what: object, version: int | None = None) -> Target:
    """What a caller means by a workflow, a bound workflow, a step or a name.

    Raises:
      TypeError: it is none of these.
    """
    if isinstance(what, BoundWorkflow):
        target = target_of(what.workflow)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return dataclasses.replace(target, options=what.options)
    if isinstance(what, Graph):
        return Target(what.definition.name, what.definition, {}, is_graph=True)
    if isinstance(what, Workflow):
        return Target(what.name, what.definition, {})  # pyright: ignore[reportUnknownMemberType]
    if isinstance(what, StepFunction):
        name = STEP_WORKFLOW + what.name  # pyright: ignore[reportUnknownMemberType]
        return Target(name, registry.workflow(name), {})
    if isinstance(what, str):
        return Target(what, registry.workflow(what, version), {})
    raise TypeError(f"start takes a workflow, a step or the name of a workflow, not {what!r}")


def split_options(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options and arguments; a keyword that bears an option's name is the option."""
    options = {name: value for name, value in kwargs.items() if name in START_OPTIONS}
    return options, {name: value for name, value in kwargs.items() if name not in START_OPTIONS}


def order_of(
    what: object,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: Mapping[str, Any],
    *,
    namespace: str,
    max_payload: int,
    now: Now = system_now,
) -> tuple[StartOrder, Target, Any]:
    """The order, what it starts, and the caller's own connection if there is one.

    Parameters:
      now: from when on a delay counts; asked where there is one.

    Raises:
      TypeError: the arguments do not fit, or an option has the wrong type.
      PayloadError: an argument cannot be encoded or is too large.
    """
    checked = check_start_options(options)
    target = target_of(what, checked.get("version"))
    merged = {**target.options, **checked}
    if not target.is_graph:
        # A start takes the highest version, unless it names one: the arguments are encoded as that one takes them.
        target = Target(target.name, registry.workflow(target.name, merged.get("version")), target.options)
    payload = target.schema.encode_call(args, kwargs, limit=max_payload)
    order = start_order(
        target.name,
        payload,
        merged,
        namespace=namespace,
        schema=target.schema,
        message_id=new_message_id(),
        context=_context_of(target, merged.get("context"), max_payload),
        begins_at=moment_of(merged.get("delay"), now),
        signal=_signal_of(merged.get("signal"), max_payload),
    )
    return order, target, merged.get("connection")


def moment_of(delay: Duration | datetime | None, now: Now) -> datetime | None:
    """When something is to happen that may be put off; ``None`` for at once."""
    if delay is None:
        return None
    present = now()
    moment = parse_moment(delay, present)
    return moment if moment > present else None


def _signal_of(signal: tuple[str, Any] | None, max_payload: int) -> SignalBody | None:
    if signal is None:
        return None
    name, value = signal
    return SignalBody(name, encode_value(value, Any, where=f"the payload of signal {name!r}", limit=max_payload))


def _context_of(target: Target, context: object, max_payload: int) -> Payload | None:
    if context is None:
        return None
    return encode_value(context, Any, where=f"the context of workflow {target.name!r}", limit=max_payload)
