"""One process of a worker: imports the modules, enters the lifespans, serves steps and plain actors until SIGTERM.

    enlist → settings → broker → modules → wait for the broker → StepWorker → ready → … SIGTERM … → hand back → end

Run by the fleet as a module, with a `Service` as its argument.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import dramatiq
import redis
from dramatiq.broker import Broker
from dramatiq.middleware import AsyncIO, default_middleware
from prometheus_client import CollectorRegistry
from pydantic_core import from_json, to_json

from dramaturg_actors.application_broker import broker_of, our_rabbitmq, use_our_consumer
from dramaturg_actors.declare import actors_of
from dramaturg_actors.fleet import KILL_GRACE_SECONDS, enlist, python
from dramaturg_actors.logs import configure_logging
from dramaturg_actors.metrics import WorkerMetrics
from dramaturg_actors.report_channel import report_over
from dramaturg_actors.worker import StepWorker
from dramaturg_protocol.amqp_inspection import AmqpInspector
from dramaturg_protocol.config import Settings, load_settings
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.garbage import collect_seldom
from dramaturg_protocol.modules import import_modules
from dramaturg_protocol.redis_client import told_as_unreachable

#: Exit codes: the worker could not start or lost a thread; a setting or a module is wrong.
FAILED: Final = 1
USAGE: Final = 2

_LOOK_SECONDS: Final = 1.0
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0

_logger = logging.getLogger("dramaturg.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What one process of a worker serves.

    Attributes:
      modules: besides those of the settings, if any; they come before them.
      queues: those to serve; empty for all that there are.
    """

    modules: tuple[str, ...] = ()
    threads: int = 8
    async_limit: int = 100
    queues: tuple[str, ...] = ()
    except_queues: tuple[str, ...] = ()
    shutdown_seconds: float = 25.0

    def command(self) -> list[str]:
        """The command of a process that serves this."""
        return python("dramaturg_actors.serving", to_json(asdict(self)).decode())

    @classmethod
    def of(cls, text: str) -> Self:
        """The service that a command was made of."""
        return cls(**from_json(text))


class Stopping:
    """Whether this process was told to stop.

    Not an Event: its lock may be held by the very thread in which a signal handler sets it.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._awake, self._waker = socket.socketpair()
        self._waker.setblocking(False)

    def ask(self) -> None:
        """Tell it; fit for a signal handler, and for any thread."""
        self._is_asked = True
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"!")

    def wait(self, seconds: float) -> bool:
        """Wait until it is told; false if the time is over."""
        if not self._is_asked:
            select.select([self._awake], [], [], seconds)
        return self._is_asked


def main() -> int:
    """The life of a process; its exit code."""
    service = Service.of(sys.argv[1])
    stopping = Stopping()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda _number, _frame: stopping.ask())
    tell_ready = enlist(lambda: _stop_alone(stopping, service.shutdown_seconds))
    _log_to_stderr()
    try:
        return serve(service, stopping, tell_ready)
    except ConfigurationError as error:
        _logger.error("%s", error)
        return USAGE
    except BaseException:
        _logger.critical("the worker did not start", exc_info=True)
        return FAILED


def serve(service: Service, stopping: Stopping, tell_ready: Callable[[], object]) -> int:
    """Serve until it is told to stop.

    Raises:
      ConfigurationError: a setting or a module is wrong.
      BaseException: whatever a lifespan raised.
    """
    settings = load_settings(modules=list(service.modules) or None)
    broker = _broker_with_actors(settings)
    if not _wait_for_broker(broker, stopping):
        return 0
    worker = StepWorker(
        broker,
        report_over(broker),
        registry=registry,
        threads=service.threads,
        async_limit=service.async_limit,
        queues=service.queues or None,
        except_queues=service.except_queues,
        more_queues=() if service.queues else _queues_of(settings),
        max_payload=int(settings.max_payload),
        metrics=WorkerMetrics(CollectorRegistry(), registry),
    )
    collect_seldom()
    worker.start()
    tell_ready()
    lost: list[str] = []
    while not lost and not stopping.wait(_LOOK_SECONDS):
        lost = worker.lost_threads()
    if lost:
        _logger.critical("threads have ended that should run (%s): this process ends", ", ".join(lost))
    worker.stop(service.shutdown_seconds)
    broker.close()
    return FAILED if lost else 0


def _broker_with_actors(settings: Settings) -> Broker:
    """The broker, with what the modules declare on it."""
    broker = broker_of(settings)
    is_applications = settings.broker is not None
    if not is_applications:
        # What plain actors expect of a broker, and their options: before the modules declare them on it.
        for middleware in default_middleware:
            broker.add_middleware(middleware())
        dramatiq.set_broker(broker)
    import_modules(settings.modules)
    actors = actors_of(broker)
    if is_applications:
        use_our_consumer(broker)
    elif not actors:
        broker.middleware.clear()
    elif any(inspect.iscoroutinefunction(inspect.unwrap(actor.fn)) for actor in actors.values()):
        broker.add_middleware(AsyncIO())
    _tell_of_actors_elsewhere(broker)
    return broker


def _tell_of_actors_elsewhere(broker: Broker) -> None:
    other: Any = dramatiq.broker.global_broker
    if other is not None and other is not broker and other.actors:
        _logger.warning(
            "actors of another broker than the worker's are not served here: %s; name that broker in DRAMATURG_BROKER",
            ", ".join(sorted(other.actors)),
        )


def _queues_of(settings: Settings) -> set[str]:
    """Queues that the settings name: a step may go there though none here was defined with it."""
    default = settings.step.get("queue")
    return {*settings.queue, *([default] if default else [])}


def _wait_for_broker(broker: Broker, stopping: Stopping) -> bool:
    """Wait until it answers; false if the process was told to stop meanwhile."""
    ping = _ping_of(broker)
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            ping()
        except Unreachable as error:
            _logger.warning("%s; next try in %g s", error, pause)
        else:
            break
        if stopping.wait(pause):
            return False
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    return not stopping.wait(0)


def _ping_of(broker: Broker) -> Callable[[], object]:
    """What asks a broker's server whether it is there; of an unknown kind it is taken for granted."""
    client = getattr(broker, "client", None)
    if isinstance(client, redis.Redis):

        def ping() -> None:
            with told_as_unreachable(client):
                client.ping()  # pyright: ignore[reportUnknownMemberType]

        return ping
    rabbitmq = our_rabbitmq(broker)
    if rabbitmq is not None:
        return AmqpInspector(rabbitmq.parameters).ping
    return lambda: None


def _stop_alone(stopping: Stopping, seconds: float) -> None:
    _logger.warning("the parent process is gone: this one stops")
    stopping.ask()
    if threading.Event().wait(seconds + KILL_GRACE_SECONDS):
        return
    os._exit(FAILED)


def _log_to_stderr() -> None:
    configure_logging(text=f"%(asctime)s %(levelname)-7s [{os.getpid()}] %(name)s: %(message)s")


if __name__ == "__main__":
    sys.exit(main())
