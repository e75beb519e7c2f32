"""A worker over Redis, real or not, with the coordinator's side played by the test."""

from __future__ import annotations

from typing import Any

from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_actors.worker import StepWorker
from dramaturg_protocol.messages import StepReport, StepTask, decode_report, encode_message
from dramaturg_protocol.transport import message_of
from tests.unit.actors.workshop import WAIT_SECONDS, Workshop

PARTITION = 3


class RedisWorkshop(Workshop):
    """A workshop whose reports come by the stream of their partition.

    Parameters:
      client: the worker's.
      own: the test's, where that has to be another.
    """

    def __init__(self, client: Any, namespace: str, *, own: Any = None, **options: Any) -> None:
        self.client = own or client
        self.namespace = namespace
        self.redis_broker = RedisBroker(
            client=client, namespace=namespace, middleware=[], maintenance_chance=0, **options
        )
        super().__init__(self.redis_broker)
        self._last: bytes | str = "0"

    def start_worker(self, **options: Any) -> StepWorker:
        """Start the worker, which reports to Redis."""
        return self.start(self.redis_broker.report, **options)

    def key(self, name: str) -> str:
        """A key of this namespace."""
        return f"{self.namespace}:{name}"

    def publish(self, name: str, *args: Any, **fields: Any) -> StepTask:
        """Put a step into its queue under the id of its attempt, as the coordinator does."""
        task = self.task(name, *args, **fields)
        message = message_of(encode_message(task))
        self.put(task.queue, task.message_id, message.encode())  # pyright: ignore[reportUnknownMemberType]
        return task

    def put(self, queue: str, message_id: str, body: bytes) -> None:
        """Put anything into a queue."""
        pipe = self.client.pipeline()
        pipe.hsetnx(self.key(f"{queue}.msgs"), message_id, body)
        pipe.rpush(self.key(queue), message_id)
        pipe.execute()

    def report(self) -> StepReport:
        """The next report."""
        stream = self.key(f"dramaturg:reports:{PARTITION}")
        found: Any = self.client.xread({stream: self._last}, count=1, block=int(WAIT_SECONDS * 1000))
        # A dict of lists by RESP3, a list of pairs by RESP2.
        entries: Any = found[stream.encode()][0] if hasattr(found, "items") else found[0][1]
        self._last = entries[0][0]
        return decode_report(entries[0][1][b"r"])

    def left(self) -> set[str]:
        """The keys that hold messages or say who holds them."""
        found = {key.decode().removeprefix(f"{self.namespace}:") for key in self.client.keys(self.key("*"))}
        return {key for key in found if not key.startswith(("__heartbeats__", "dramaturg:reports", "signal"))}
