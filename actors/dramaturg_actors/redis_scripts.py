"""What a worker does in Redis, one script a task, on Dramatiq's keys and ours.

Every way in which Redis does not do what it is told is a `ConnectionClosed`, which Dramatiq's threads answer by trying
again: a full memory, a server that loads its file, a replica, a lost connection. All of them pass, or are for an
operator to mend. Each of these tasks may be done twice.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis
from dramatiq.common import xq_name
from dramatiq.errors import ConnectionClosed

from dramaturg_actors.deliveries import Begun
from dramaturg_protocol.redis_keys import REPORT_FIELD, RedisKeys

#: Messages in one fetch: the script blocks Redis meanwhile, for some 2 µs each.
FETCH_LIMIT: Final = 500
#: Notes on unreadable messages that are kept.
GARBAGE_LIMIT: Final = 1000

_FOLDER: Final = Path(__file__).parent / "scripts"


class Fetched(NamedTuple):
    """A message as it was taken from its queue.

    Attributes:
      number: how often it was taken, this time included.
    """

    id: str
    body: bytes
    number: int


class Finished(NamedTuple):
    """A message that is over.

    Attributes:
      report: empty for a message of a plain actor.
    """

    id: str
    report: str = ""
    partition: int = 0


class RedisScripts:
    """The scripts of one namespace; safe to share between threads.

    A *holder* is the name of a consumer under which it holds messages; a message may be held under one of several.
    """

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._keys = RedisKeys(namespace)
        self._acks = f"{namespace}:__acks__"
        self._heartbeats = f"{namespace}:__heartbeats__"
        self._scripts: dict[str, Any] = {
            path.stem: client.register_script(path.read_text()) for path in _FOLDER.glob("*.lua")
        }

    def fetch(self, queue: str, holder: str, limit: int) -> tuple[bool, list[Fetched]]:
        """Take messages, and give a sign of life; first, whether Redis knew the holder and what it held before."""
        keys = self._keys
        held = self._held(queue, [holder])
        known, *flat = self._run(
            "fetch",
            [keys.queue(queue), keys.bodies(queue), *held, keys.deliveries(queue), self._heartbeats],
            [holder, min(limit, FETCH_LIMIT)],
        )
        triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        return bool(known), [Fetched(message_id.decode(), body, number) for message_id, body, number in triples]

    def finish(self, queue: str, holders: Iterable[str], finished: Iterable[Finished]) -> list[bool]:
        """End messages, and publish their reports; for each, whether it was held."""
        keys = [self._keys.bodies(queue), self._keys.deliveries(queue), *self._held(queue, holders)]
        args: list[Any] = [len(keys) - 2, REPORT_FIELD]
        streams: dict[int, int] = {}
        for each in finished:
            place = streams.get(each.partition)
            if place is None:
                keys.append(self._keys.reports(each.partition))
                place = streams[each.partition] = len(keys)
            args += (each.id, place, each.report)
        return [bool(held) for held in self._run("finish", keys, args)]

    def begin_again(self, queue: str, message_id: str) -> Begun:
        """Count that a message begins which was delivered before."""
        times, said = self._run("begin_again", [self._keys.deliveries(queue)], [message_id])
        return Begun(int(times), said.decode())

    def say(self, queue: str, message_id: str, report: str, partition: int) -> None:
        """Publish a heartbeat of a message that goes on, and keep it for its next delivery."""
        keys = self._keys
        self._run(
            "say",
            [keys.reports(partition), keys.bodies(queue), keys.deliveries(queue)],
            [REPORT_FIELD, report, message_id],
        )

    def refuse(self, queue: str, holders: Iterable[str], message_id: str) -> bool:
        """Move a message to the dead letters; false where nobody held it."""
        keys, dead = self._keys, xq_name(queue)
        return bool(
            self._run(
                "refuse",
                [
                    keys.bodies(queue),
                    keys.deliveries(queue),
                    keys.queue(dead),
                    keys.bodies(dead),
                    *self._held(queue, holders),
                ],
                [message_id],
            )
        )

    def hand_back(self, queue: str, holders: Iterable[str], ids: list[str], *, at_head: bool = True) -> None:
        """Return messages that were never begun to their queue, in this order."""
        if not ids:
            return
        keys = self._keys
        self._run(
            "hand_back",
            [keys.queue(queue), keys.bodies(queue), keys.deliveries(queue), *self._held(queue, holders)],
            ["LPUSH", *reversed(ids)] if at_head else ["RPUSH", *ids],
        )

    def take_over(self, queue: str, holder: str, old: str, working: Iterable[str]) -> tuple[bool, int]:
        """Go on under a new name with what is being worked on.

        Returns:
          Whether Redis knew the old name, and how many others returned to their queue.
        """
        keys = self._keys
        known, returned = self._run(
            "take_over",
            [
                keys.queue(queue),
                keys.bodies(queue),
                keys.deliveries(queue),
                self._heartbeats,
                *self._held(queue, [holder, old]),
            ],
            [holder, old, *working],
        )
        return bool(known), int(returned)

    def put_aside(self, queue: str, holders: Iterable[str], message_id: str, note: str) -> None:
        """Take off what cannot be read, and keep it with a note."""
        keys = self._keys
        self._run(
            "put_aside",
            [keys.garbage, keys.bodies(queue), keys.deliveries(queue), *self._held(queue, holders)],
            [message_id, note, GARBAGE_LIMIT],
        )

    def report(self, report: str, partition: int) -> None:
        """Publish a report on a message that goes on."""
        self._run("report", [self._keys.reports(partition)], [REPORT_FIELD, report])

    def maintain(self, queues: Iterable[str], *, silence: int, dead_message_ttl: int) -> int:
        """Return the messages of dead consumers; how many. Times in milliseconds."""
        args = [self._keys.namespace, silence, dead_message_ttl, *queues]
        return int(self._run("maintain", [self._heartbeats], args))

    def _held(self, queue: str, holders: Iterable[str]) -> list[str]:
        return [f"{self._acks}.{holder}.{queue}" for holder in holders]

    def _run(self, script: str, keys: list[str], args: list[Any]) -> Any:
        with told_as_closed():
            return self._scripts[script](keys=keys, args=args)


@contextmanager
def told_as_closed() -> Generator[None, None, None]:
    """Give every way in which Redis does not do what it is told as the error that Dramatiq's threads expect."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise ConnectionClosed(f"Redis does not do its work: {type(error).__name__}: {error}") from error  # type: ignore[no-untyped-call]
