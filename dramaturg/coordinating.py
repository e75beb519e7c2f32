"""A coordinator as a process of its own: database and broker are waited for, workers are elsewhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from dramaturg.declared_schedules import DeclaredSchedules
from dramaturg.embedded import rules_of
from dramaturg.queue_names import named_queues
from dramaturg.transports import transport_of
from dramaturg_actors.application_broker import is_shared
from dramaturg_actors.local_runner import LocalRunner
from dramaturg_actors.surroundings import OwnSurroundings
from dramaturg_coordinator.entry import EntryQueue
from dramaturg_coordinator.service import Coordinator
from dramaturg_coordinator.turn import Observer
from dramaturg_protocol.config import Settings, use_codec_of
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.errors import ConfigurationError, Unavailable
from dramaturg_protocol.garbage import collect_seldom
from dramaturg_protocol.ids import name_of_process
from dramaturg_protocol.modules import import_modules
from dramaturg_protocol.records import RunWrites
from dramaturg_protocol.redis_keys import START_QUEUE
from dramaturg_store.database import Database

if TYPE_CHECKING:
    from dramaturg.monitoring import Monitoring
    from dramaturg.supervision import Supervised

T = TypeVar("T")

logger = logging.getLogger("dramaturg.coordinator")

_ANNOUNCE_PERIOD = timedelta(seconds=10)
_PRUNE_PERIOD = timedelta(hours=1)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
#: How long local steps that are under way may still take when the process stops.
_LOCAL_SECONDS = 10.0


def waking_receivers(wake: Callable[[], object]) -> Observer:
    """What wakes the other coordinators, after each commit in which a run sent another something."""

    def look(writes: Sequence[RunWrites]) -> None:
        if any(run.sends for run in writes):
            wake()

    return look


class CoordinatorProcess:
    """Everything that ``dramaturg coordinator`` runs.

    Parameters:
      modules: names of modules to import first.
      observers: are told what each turn committed.
      stopping: set from outside, it ends every wait.
      supervised: what is shared with the supervisor of this process, if there is one.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        modules: Sequence[str] = (),
        observers: Sequence[Observer] = (),
        monitoring: Monitoring | None = None,
        stopping: threading.Event | None = None,
        supervised: Supervised | None = None,
    ) -> None:
        if not is_shared(settings):
            raise ConfigurationError(
                f"DRAMATURG_BROKER_URL is {settings.broker_url!r}: a coordinator of its own reaches its workers over "
                f"Redis or RabbitMQ; set redis://… or amqp://…, or serve everything in one process with: dramaturg dev MODULE"
            )
        use_codec_of(settings)
        import_modules([*settings.modules, *modules])
        self._settings = settings
        self._observers = observers
        self._monitoring = monitoring
        self._stopping = stopping or threading.Event()
        self._supervised = supervised
        self._name = name_of_process()
        self._transport = transport_of(settings)
        self._fingerprint = registry.fingerprint
        self._stack = ExitStack()

    def start(self) -> bool:
        """Wait for the database and the broker, then join the coordinators that are there; false where it was told to stop meanwhile.

        Raises:
          ConfigurationError: the database cannot be used by this code.
        """
        settings = self._settings
        self._serve_monitoring()
        database = self._patiently(
            lambda: Database(settings.database_url, settings.namespace, lease_time=settings.lease_time, is_shared=True)
        )
        if database is None:
            return False
        self._stack.callback(database.close)
        if self._patiently(lambda: self._check_codec(database)) is None:
            return False
        if self._patiently(self._ping_broker) is None:
            return False
        local = LocalRunner(
            OwnSurroundings(registry, int(settings.max_payload)),
            process=self._name,
            note=self._supervised.note if self._supervised is not None else None,
        )
        limit = int(settings.max_payload)
        declared = DeclaredSchedules(
            database.schedules, registry, database.reads.time, namespace=settings.namespace, max_payload=limit
        )
        coordinator = self._make_coordinator(database, local, declared)
        if self._patiently(lambda: self._announce(database, declared)) is None:
            return False
        self._stack.callback(self._leave, database)
        self._stack.callback(coordinator.stop)
        collect_seldom()
        self._stack.callback(local.stop, _LOCAL_SECONDS)
        if self._supervised is not None:
            # From here on whatever ends this process is no failure to start.
            self._supervised.tell_ready()
        coordinator.start()
        entry = EntryQueue(
            self._transport.broker,
            namespace=settings.namespace,
            starts=database.starts,
            registry=registry,
            put_aside=database.store.put_aside,
            wake=self._transport.wake,
        )
        self._stack.callback(entry.stop)
        entry.start()
        self._begin_monitoring(database, coordinator)
        return True

    def stop(self) -> None:
        """Finish the turn that is under way, give the lease back, close everything."""
        self._stopping.set()
        self._stack.close()
        self._transport.close()

    def _make_coordinator(self, database: Database, local: LocalRunner, declared: DeclaredSchedules) -> Coordinator:
        settings, monitoring = self._settings, self._monitoring
        first = database.partitions[0]
        queues = named_queues(settings, registry) | {START_QUEUE}

        def once(duty: Callable[[], object]) -> Callable[[], object]:
            """Do it in one coordinator of the namespace only."""
            return lambda: duty() if coordinator.holds(first) else None

        coordinator = Coordinator(
            namespace=settings.namespace,
            owner=self._name,
            store=database.store if monitoring is None else monitoring.metered(database.store),
            inbox=database.inbox,
            leases=database.leases,
            make_reports=self._transport.reports_of,
            publisher=self._transport.publisher,
            rules=rules_of(settings, database),
            local=local,
            schedules=database.schedules,
            postponed=database.postponed,
            on_fired=monitoring.fired if monitoring else None,
            note=self._supervised.note if self._supervised is not None else None,
            peers=database.peers(self._fingerprint),
            observers=[
                *self._transport.observers,
                waking_receivers(self._transport.wake),
                *([monitoring.committed] if monitoring else []),
                *self._observers,
            ],
            on_turn=monitoring.turn_took if monitoring else None,
            duties=[
                (lambda: database.registry.refresh(self._name), _ANNOUNCE_PERIOD),
                (once(lambda: database.prune.by(settings.retention)), _PRUNE_PERIOD),
                (lambda: declared.look(is_first=coordinator.holds(first)), _ANNOUNCE_PERIOD),
                *((once(duty), period) for duty, period in self._transport.duties(queues, database.store.put_aside)),
                *self._transport.own_duties(queues),
                *([monitoring.duty] if monitoring else []),
            ],
        )
        return coordinator

    def _announce(self, database: Database, declared: DeclaredSchedules) -> bool:
        database.registry.announce(
            self._name, fingerprint=self._fingerprint, workflows=registry.versions, schedules=declared.ids
        )
        declared.take_over()
        if self._supervised is not None:
            self._supervised.count_deaths(database.deaths(self._fingerprint))
        return True

    def _leave(self, database: Database) -> None:
        try:
            database.registry.remove(self._name)
        except Unavailable as error:
            logger.warning("%s", error)

    def _check_codec(self, database: Database) -> bool:
        database.check_codec()
        return True

    def _ping_broker(self) -> bool:
        self._transport.ping()
        return True

    def _serve_monitoring(self) -> None:
        """Answer before anything is reachable: whoever asks then hears what is missing."""
        if self._monitoring is None:
            return
        from dramaturg.monitoring import broker_check

        self._monitoring.serve(broker=broker_check(self._transport))
        self._stack.callback(self._monitoring.stop)

    def _begin_monitoring(self, database: Database, coordinator: Coordinator) -> None:
        if self._monitoring is None:
            return
        depths = self._transport.depths(database.partitions)
        self._monitoring.look_into(database, depths, queues=[START_QUEUE])
        self._monitoring.watch(coordinator)

    def _patiently(self, work: Callable[[], T]) -> T | None:
        """Do it as soon as it can be done, saying what is missing; ``None`` where it was told to stop."""
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                return work()
            except Unavailable as error:
                logger.warning("%s; trying again in %.1f s", error, pause)
            self._stopping.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return None
