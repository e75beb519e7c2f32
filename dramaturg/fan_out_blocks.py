"""Large fan-outs are spread over child runs: each runs a block of the calls, under the name ``fan_out:`` and the step's.

So no history grows with the number of items, and the coordinators of several partitions share the work. A block takes and
gives values as they are encoded: the run that asked for it knows their types.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json

from dramaturg.members import Members
from dramaturg_protocol.ambient import StepRequest, workflow_scope
from dramaturg_protocol.definitions import Registry, WorkflowDefinition
from dramaturg_protocol.errors import StepFailed, StepTimeout
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.signatures import CallSchema

#: Before the name of the step.
BLOCK_PREFIX = "fan_out:"

#: Of the way in which blocks are run; another one gets another number, so that open runs go on as they began.
_VERSION = 1


async def run_block(order: dict[str, Any]) -> str:
    """Run the calls of a block.

    Parameters:
      order: ``step``, ``queue`` and ``options`` of every call; ``calls``, the arguments of each, and ``limits``, the values
        of its limits' keys; how many are under way ``at_once``; how many ``items`` they are in all, so many in a
        ``chunk``; how many may fail (``tolerated``).

    Returns:
      JSON: ``results`` by position, ``null`` for one that failed; and what became of these, by position, ``failed``.
    """
    scope = workflow_scope("a block of a fan-out")
    group = scope.begin_fan_out(order["step"], order["items"], order["chunk"])

    def begin(index: int) -> asyncio.Future[Any]:
        payload = Payload(to_json(order["calls"][index]).decode())
        limits: dict[str, str] = order["limits"][index] if order["limits"] else {}
        request = StepRequest(order["step"], order["queue"], payload, order["options"], str, limits=limits, group=group)
        return scope.start_step(request)

    given = await Members(begin, order["items"], order["chunk"], order["at_once"], order["tolerated"]).run()
    results = ",".join("null" if isinstance(each, StepFailed) else each for each in given)
    failed = {str(index): failure_of(each) for index, each in enumerate(given) if isinstance(each, StepFailed)}
    return f'{{"results":[{results}],"failed":{to_json(failed).decode()}}}'


def failure_of(failed: StepFailed) -> dict[str, Any]:
    """A failure as it lies in a history."""
    return {
        "step": failed.step,
        "attempts": failed.attempts,
        "error_type": failed.error_type,
        "message": failed.message,
        "traceback": failed.traceback,
        "timed_out": isinstance(failed, StepTimeout),
    }


def failed_of(failure: Mapping[str, Any], seq: int) -> StepFailed:
    """The failure that lies in a history.

    Parameters:
      seq: position of the block.
    """
    told = dict(failure)
    kind = StepTimeout if told.pop("timed_out") else StepFailed
    return kind(**told, seq=seq)


class BlockSchema(CallSchema):
    """Arguments and result of a block: JSON as it is, of any size, since its parts were checked one by one."""

    __slots__ = ()

    def encode_call(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, limit: int | None, secrets: bool | None = None
    ) -> Payload:
        """The order of a block."""
        (order,) = args
        return Payload(f'{{"args":[{order}]}}')

    def decode_call(self, payload: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The order of a block."""
        return tuple(from_json(payload)["args"]), {}

    def encode_result(self, value: Any, *, limit: int | None, secrets: bool | None = None) -> Payload:
        """What `run_block` gave."""
        return Payload(value)

    def decode_result(self, payload: str) -> Any:
        """What `run_block` gave, as it is."""
        return payload

    def same_call(self, recorded: str, actual: str) -> bool:
        """Whether it is the same block."""
        return bool(from_json(recorded) == from_json(actual))


def define_blocks(registry: Registry) -> None:
    """Let a registry know the workflow of blocks, whatever the step."""
    registry.add_family(BLOCK_PREFIX, block_definition)


def block_definition(name: str) -> WorkflowDefinition:
    """The workflow of blocks of a step."""
    return WorkflowDefinition(name, _VERSION, run_block, BlockSchema(run_block, f"workflow {name!r}"))
