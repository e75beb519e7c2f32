"""Identifiers: of runs, of messages, and which partition a workflow id belongs to."""

from __future__ import annotations

import os
import socket
import time
import uuid
from hashlib import blake2b

_LOCAL = "local "

NAMESPACE_UUID = uuid.UUID("5f0f3a52-7f4e-5d0c-9a6b-9d0f6c1f2b7e")


def new_run_id() -> str:
    """A new run id: a UUID of version 7 (RFC 9562), so that ids sort by the time at which they were made."""
    milliseconds = time.time_ns() // 1_000_000
    chance = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | ((chance >> 62) & 0xFFF) << 64
    value |= 0b10 << 62 | (chance & ((1 << 62) - 1))
    return str(uuid.UUID(int=value))


def new_message_id() -> str:
    """A new id of a message that counts once."""
    return new_run_id()


def run_id_of_key(namespace: str, workflow: str, idempotency_key: str) -> str:
    """The run id that an idempotency key of a workflow stands for, the same in every process."""
    return str(uuid.uuid5(NAMESPACE_UUID, f"{namespace}\0{workflow}\0{idempotency_key}"))


def run_id_of_message(message_id: str) -> str:
    """The run id of a start message that bears neither an id nor a key: its redelivery starts nothing."""
    return str(uuid.uuid5(NAMESPACE_UUID, f"message\0{message_id}"))


def run_id_of_child(run_id: str, generation: int, seq: int) -> str:
    """The run id of the child at a position of a run: asked for again, it is the same run."""
    return str(uuid.uuid5(NAMESPACE_UUID, f"child\0{run_id}\0{generation}\0{seq}"))


def run_id_of_next(run_id: str, generation: int) -> str:
    """The run id of the run that continues another one."""
    return str(uuid.uuid5(NAMESPACE_UUID, f"next\0{run_id}\0{generation}"))


def partition_of(workflow_id: str, partitions: int) -> int:
    """The partition of a workflow id, ``0 <= partition < partitions``."""
    return int.from_bytes(blake2b(workflow_id.encode(), digest_size=8).digest(), "big") % partitions


def name_of_process() -> str:
    """Host, process id, and a part that no process had before: a container's processes have the same id each time."""
    return f"{socket.gethostname()}:{os.getpid()}:{new_run_id()[-8:]}"


def name_of_local_worker(process: str) -> str:
    """What a process calls itself in the reports of local steps."""
    return f"{_LOCAL}{process}"


def is_local_worker(name: str) -> bool:
    """Whether an attempt is one that a coordinator runs itself."""
    return name.startswith(_LOCAL)


def attempt_id(run_id: str, generation: int, seq: int, attempt: int) -> str:
    """The message id of one attempt of a step."""
    return f"{run_id}:{generation}:{seq}:{attempt}"


def idempotency_key_of(run_id: str, generation: int, seq: int) -> str:
    """What a step hands to the outside world so that a repeat is recognised: the same over attempts and redeliveries."""
    return f"{run_id}:{generation}:{seq}"
