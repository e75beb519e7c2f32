"""MariaDB and MySQL take statements up to a size, and answer a larger one by hanging up: it is refused before, as data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, text

from dramaturg_protocol.faults import Refused

_PACKET: Final = text("SELECT @@max_allowed_packet")
# What the driver escapes in a text, by one byte each.
_ESCAPED: Final = "\\'\"\n\r\0\x1a"
# Texts that cannot matter, and room for what else is in a statement.
_SMALL: Final = 65_536
_REST: Final = 262_144


def packet_of(connection: Connection) -> int:
    """Bytes that the server takes in one statement."""
    packet = connection.info.get("max_allowed_packet")
    if packet is None:
        packet = connection.info["max_allowed_packet"] = int(connection.scalars(_PACKET).one())
    return int(packet)


def check_packet(texts: Iterable[str], packet: int) -> None:
    """Refuse a row whose texts do not fit into one statement.

    Raises:
      Refused: they do not.
    """
    large = [each for each in texts if len(each) > _SMALL]
    # A text may double where all of it is escaped: only then it is worth counting.
    if sum(2 * len(each.encode()) for each in large) <= packet - _REST:
        return
    size = sum(len(each.encode()) + sum(map(each.count, _ESCAPED)) for each in large)
    if size > packet - _REST:
        raise Refused(
            f"a row of {size:,} bytes is more than the server takes in one statement: raise its max_allowed_packet of "
            f"{packet:,}, or lower DRAMATURG_MAX_PAYLOAD"
        )
