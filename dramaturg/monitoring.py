"""Metrics and health of a process that serves: what its command wires together, in the order of its start.

A coordinator::

    monitoring = Monitoring(settings).serve(broker=broker_check(transport))  # answers before anything is reachable
    monitoring.look_into(database, depths)                               # once the database is there
    coordinator = Coordinator(store=monitoring.metered(database.store), observers=[monitoring.committed, …],
                              on_turn=monitoring.turn_took, duties=[monitoring.duty, …], …)
    monitoring.watch(coordinator)                                        # again for each that follows it
    …
    monitoring.stop()

A worker, in the parent of its processes, and in each of them::

    shared = SharedMetrics()                                             # before the first child
    server = serve_worker(settings, shared, health={"processes": …}, readiness={"broker": broker_check(transport)})
    …; shared.forget_process(pid)                                        # for each child that ended
    StepWorker(…, metrics=WorkerMetrics(CollectorRegistry(), registry))  # in the child
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from prometheus_client import CollectorRegistry, GCCollector, Info, PlatformCollector, ProcessCollector

from dramaturg.queue_names import named_queues
from dramaturg_coordinator.gauges import PERIOD, Gauges
from dramaturg_coordinator.metrics import CoordinatorMetrics
from dramaturg_coordinator.queue_depths import Depths
from dramaturg_coordinator.schedule_metrics import ScheduleMetrics
from dramaturg_coordinator.troubles import Troubles
from dramaturg_protocol.checks import Check, Checks
from dramaturg_protocol.config import Settings
from dramaturg_protocol.definitions import Registry
from dramaturg_protocol.definitions import registry as registered
from dramaturg_protocol.errors import Unavailable
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.health import COORDINATOR_PORT, EVERYWHERE, LOOPBACK, WORKER_PORT, HealthServer
from dramaturg_protocol.records import RunWrites
from dramaturg_protocol.schedule_records import Fired

if TYPE_CHECKING:
    from dramaturg.transports import Transport
    from dramaturg_actors.shared_metrics import SharedMetrics
    from dramaturg_coordinator.ports import Store
    from dramaturg_coordinator.service import Coordinator
    from dramaturg_store.database import Database


class Monitoring:
    """Metrics and health of a process with a coordinator.

    Parameters:
      settings: its port, namespace and queues.
      known: the workflows and steps of this process.

    Attributes:
      registry: what ``/metrics`` shows; a worker in the same process adds its own.
    """

    def __init__(self, settings: Settings, *, known: Registry = registered) -> None:
        self._settings = settings
        self._known = known
        self._database: Database | None = None
        self._coordinator: Coordinator | None = None
        self._gauges: Gauges | None = None
        self._server: HealthServer | None = None
        self.registry = process_registry()
        self._metrics = CoordinatorMetrics(self.registry, known, settings.queue)
        self._schedule_metrics = ScheduleMetrics(self.registry)

    @property
    def port(self) -> int | None:
        """Where it answers; ``None`` for nowhere."""
        return None if self._server is None else self._server.port

    def serve(self, *, host: str = EVERYWHERE, **readiness: Check) -> Self:
        """Answer from now on.

        Parameters:
          readiness: checks of ``/readyz`` besides database and lease.
        """
        health = Checks({"coordinator": self._check_thread})
        ready = Checks({"database": self._check_database, "lease": self._check_lease, **readiness})
        self._server = HealthServer(self.registry, health=health, readiness=ready)
        self._server.start(self._settings.metrics_port, default=COORDINATOR_PORT, host=host)
        return self

    def serve_engine(self) -> None:
        """Answer for coordinator and worker in one process.

        On loopback, where nobody set a port: nobody is meant to come from elsewhere then.
        """
        self.serve(host=LOOPBACK if self._settings.metrics_port is None else EVERYWHERE)

    def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.stop()

    # What is there by and by.

    def look_into(self, database: Database, depths: Depths, *, queues: Sequence[str] = ()) -> None:
        """The database and the broker that gauges and checks look into.

        Parameters:
          queues: besides those that steps and settings name.
        """
        self._database = database
        self._gauges = Gauges(
            self.registry,
            self._known,
            figures=database.figures,
            depths=depths,
            partitions_held=self._partitions_held,
            is_first=self._is_first,
            troubles=lambda: Troubles() if self._coordinator is None else self._coordinator.troubles,
            queues=named_queues(self._settings, self._known).union(queues),
        )

    def watch(self, coordinator: Coordinator) -> None:
        """The coordinator that gauges and checks are about."""
        self._coordinator = coordinator
        with suppress(Unreachable):
            self._refresh()

    # What a coordinator is given.

    @property
    def duty(self) -> tuple[Callable[[], object], timedelta]:
        """Reads the gauges."""
        return self._refresh, PERIOD

    def committed(self, writes: Sequence[RunWrites]) -> None:
        """An observer."""
        self._metrics.committed(writes)

    def fired(self, decided: Sequence[Fired]) -> None:
        """Counts what schedules did."""
        self._schedule_metrics.fired(decided)

    def turn_took(self, seconds: float) -> None:
        """Counts a turn."""
        self._metrics.turn_took(seconds)

    def metered(self, store: Store) -> Store:
        """The same store; its commits are timed."""
        return self._metrics.metered(store)

    def _refresh(self) -> None:
        if self._gauges is not None:
            self._gauges.refresh()

    # Checks.

    def _partitions_held(self) -> int:
        return 0 if self._coordinator is None else self._coordinator.partitions_held

    def _is_first(self) -> bool:
        coordinator, database = self._coordinator, self._database
        return coordinator is not None and database is not None and coordinator.holds(database.partitions[0])

    def _check_thread(self) -> str:
        if self._coordinator is None:
            return "starting"
        if self._coordinator.has_ended:
            raise Unavailable("its thread has ended")
        return "alive"

    def _check_database(self) -> str:
        if self._database is None:
            raise Unreachable("not reached yet")
        self._database.ping()
        return ""

    def _check_lease(self) -> str:
        if self._coordinator is None:
            return "not asked for yet"
        if self._coordinator.has_ended:
            raise Unavailable("lost")
        held = self._partitions_held()
        if held and not self._coordinator.is_safe:
            raise Unavailable("could not be renewed in time")
        return f"holds {held} partition(s)" if held else "stands by"


def serve_worker(
    settings: Settings, shared: SharedMetrics, *, health: Mapping[str, Check], readiness: Mapping[str, Check]
) -> HealthServer:
    """Answer for the processes of a worker, in their parent.

    Parameters:
      health: are the processes alive?
      readiness: do broker and queues answer?
    """
    server = HealthServer(shared.registry(), health=Checks(health), readiness=Checks(readiness))
    return server.start(settings.metrics_port, default=WORKER_PORT)


def process_registry() -> CollectorRegistry:
    """A registry with what is worth knowing of every Python process."""
    from importlib.metadata import version

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    Info("dramaturg_build", "Version of this process.", registry=registry).info({"version": version("dramaturg")})
    return registry


def broker_check(transport: Transport) -> Check:
    """Whether the broker answers."""

    def check() -> str:
        transport.ping()
        return ""

    return check
