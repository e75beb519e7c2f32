"""Many streams of Redis, read at once, time and again, on a connection of their own.

What is asked is kept as the bytes that go out. redis-py packs each call anew, argument by argument, two for each stream:
with 64 of them that was a fifth of what a coordinator does for a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import redis

#: The place before the first entry of a stream.
START: Final = "0-0"

_COUNT: Final = 500


class Streams:
    """Reads streams, each from where it was read to. For one thread.

    Attributes:
      positions: the last entry that was read, by stream.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._shared: Any = client
        self._own: Any = None
        self._names = b""
        self._places: dict[str, bytes] = {}
        self.positions: dict[str, str] = {}

    def follow(self, positions: Mapping[str, str]) -> None:
        """Read these streams from now on, each from behind this entry."""
        self._names = b"".join(packed(name) for name in positions)
        self._places = {name: packed(last) for name, last in positions.items()}
        self.positions = dict(positions)

    def move(self, positions: Mapping[str, str]) -> None:
        """Go on from behind other entries in some of the streams."""
        self._places.update((name, packed(last)) for name, last in positions.items())
        self.positions.update(positions)

    def read(self, block: int | None, before: bytes = b"") -> tuple[Any, dict[str, list[Any]]]:
        """Send a command, if one is given, and read in the same round trip.

        Parameters:
          block: for how many milliseconds to wait for an entry; ``None`` for not at all.
          before: the packed command.

        Returns:
          The answer to the command, or the `redis.ResponseError` that it was; and new entries, by stream.

        Raises:
          redis.RedisError: Redis does not do it.
          OSError: it does not answer.
        """
        connection = self._connection()
        connection.send_packed_command([before + self._read_command(block)])
        try:
            answer = _answer(connection) if before else None
            found: Any = self._own.parse_response(connection, "XREAD")
        except BaseException:
            # What was not read of the answers must not be taken for the next ones.
            connection.disconnect()
            raise
        # A list of pairs by RESP2, a dict of lists by RESP3, depending on redis-py's version.
        pairs: Any = ((key, parts[0]) for key, parts in found.items()) if hasattr(found, "items") else found or ()
        entries = {text_of(stream): of_stream for stream, of_stream in pairs if of_stream}
        if entries:
            self.move({stream: text_of(of_stream[-1][0]) for stream, of_stream in entries.items()})
        return answer, entries

    def close(self) -> None:
        """Give the connection back."""
        if self._own is not None:
            self._own.close()
            self._own = None

    def _connection(self) -> Any:
        if self._own is None:
            self._own = self._shared.client()  # with one connection, which it makes here
        return self._own.connection

    def _read_command(self, block: int | None) -> bytes:
        blocks = () if block is None else (b"BLOCK", block)
        words = (b"XREAD", b"COUNT", _COUNT, *blocks, b"STREAMS")
        head = b"*%d\r\n" % (len(words) + 2 * len(self._places))
        return b"".join((head, *map(packed, words), self._names, *self._places.values()))


def packed(part: bytes | str | int) -> bytes:
    """One argument of a command, as it goes out."""
    value = part if isinstance(part, bytes) else str(part).encode()
    return b"$%d\r\n%b\r\n" % (len(value), value)


def packed_command(*parts: bytes | str | int) -> bytes:
    """A command, as it goes out."""
    return b"".join((b"*%d\r\n" % len(parts), *map(packed, parts)))


def text_of(value: bytes | str) -> str:
    """An id or a name, as redis-py gives it."""
    return value.decode() if isinstance(value, bytes) else value


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
