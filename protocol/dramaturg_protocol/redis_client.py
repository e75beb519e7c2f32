"""Connections to Redis, with every option that decides about waiting and repeating set here.

redis-py repeats a command that it lost the answer of, which would publish or acknowledge twice; so it never repeats
here. Whoever calls it decides what a lost answer means.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.faults import Unreachable

#: Seconds that an answer may take; whoever blocks asks Redis to answer well before.
SOCKET_TIMEOUT: Final = 15.0

#: The longest that a blocking command waits, in seconds.
LONGEST_BLOCK: Final = 5.0

# Whoever tails the stream reads it within a second; older ones wake nobody.
_KEPT_WAKES: Final = 100

#: A worker begins a step that it fetched only if Redis said within this many seconds that it still holds it. …
CONFIRMED_SECONDS: Final = 3.0
#: … So once Redis was emptied, nobody begins what he fetched before by the time that this many have passed, and only
#: then a coordinator publishes it again: no step is begun twice side by side, nor after its success was recorded.
SETTLE_SECONDS: Final = 4.0

_URL_SCHEMES: Final = ("redis://", "rediss://", "unix://")


def is_redis_url(url: str) -> bool:
    """Whether a broker's URL means Redis."""
    return url.startswith(_URL_SCHEMES)


def connect(url: str, *, connections: int = 64) -> redis.Redis:
    """A client for a Redis server; connects at the first command.

    Parameters:
      connections: how many at once, the number of threads that use it and some.

    Raises:
      ConfigurationError: the URL cannot be read.
    """
    kind: Any = redis.Redis
    try:
        client: redis.Redis = kind.from_url(
            url,
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=5.0,
            socket_keepalive=True,
            health_check_interval=15,
            max_connections=connections,
            retry=Retry(NoBackoff(), 0),
        )
        return client
    except ValueError as error:
        raise ConfigurationError(f"DRAMATURG_BROKER_URL = {url!r} cannot be read: {error}") from None


@contextmanager
def told_as_unreachable(client: redis.Redis) -> Generator[None, None, None]:
    """Give every way in which Redis does not do what it is told as `Unreachable`.

    A full memory, a server that loads its file, a replica that was written to: all of them pass, or are for an operator
    to mend while the caller waits.
    """
    try:
        yield
    except redis.RedisError as error:
        raise Unreachable(
            f"Redis at {_address(client)} does not do its work: {type(error).__name__}: {error}"
        ) from error
    except OSError as error:
        raise Unreachable(f"Redis at {_address(client)} does not answer: {error}") from error


def wake_coordinators(client: redis.Redis, stream: str) -> None:
    """Tell every coordinator that tails the stream that there is something in the inbox."""
    kind: Any = client
    kind.execute_command(*wake_command(stream))


def wake_command(stream: str) -> tuple[str | int, ...]:
    """What `wake_coordinators` sends."""
    return ("XADD", stream, "MAXLEN", "~", _KEPT_WAKES, "*", "w", "")


def _address(client: redis.Redis) -> str:
    options: dict[str, Any] = client.connection_pool.connection_kwargs
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
