"""Coordinator and workers in this process: `run` for one workflow, `engine` for an application."""

from __future__ import annotations

import asyncio
import atexit
import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from dramaturg.async_client import AsyncClient
from dramaturg.client import Client
from dramaturg.declared_schedules import DeclaredSchedules
from dramaturg.fan_out_blocks import define_blocks
from dramaturg.handle import Handle
from dramaturg.links import DatabaseLink
from dramaturg.notices import Notices
from dramaturg.revoking import revoking_in
from dramaturg.steps import StepFunction
from dramaturg.workflows import BoundWorkflow, Workflow
from dramaturg_actors.brokers import MEMORY_URL, MemoryBroker
from dramaturg_actors.local_runner import LocalRunner
from dramaturg_actors.worker import StepWorker
from dramaturg_coordinator.memory import MemoryReports
from dramaturg_coordinator.publishing import BrokerPublisher
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.service import Coordinator
from dramaturg_coordinator.turn import Observer
from dramaturg_protocol.config import Settings, load_settings, use_codec_of
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.errors import ConfigurationError, Unavailable
from dramaturg_protocol.ids import name_of_process
from dramaturg_protocol.modules import import_modules
from dramaturg_store.database import Database

if TYPE_CHECKING:
    from dramaturg.monitoring import Monitoring
    from dramaturg_actors.metrics import WorkerMetrics

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("dramaturg.engine")

_ANNOUNCE_PERIOD = timedelta(seconds=10)
_PRUNE_PERIOD = timedelta(hours=1)


class Engine:
    """Coordinator and workers in this process, over one database.

    Parameters:
      settings: by default those of this process.
      modules: names of modules to import first; they define workflows and steps.
      threads: of the worker.
      async_limit: async steps at once.
      only: advance these runs only, and those that they start: the set grows. ``None`` for all.
      observers: are told what each turn committed.
      monitoring: answers for this process while it works.
      replay_every_turn: rebuild every run from its history after every turn.

    Attributes:
      client: talks to it.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        modules: Sequence[str] = (),
        threads: int = 8,
        async_limit: int = 100,
        only: set[str] | None = None,
        observers: Sequence[Observer] = (),
        monitoring: Monitoring | None = None,
        replay_every_turn: bool = False,
    ) -> None:
        self._monitoring = monitoring
        self.settings = settings if settings is not None else load_settings()
        use_codec_of(self.settings)
        import_modules([*self.settings.modules, *modules])
        self._broker = _memory_broker(self.settings)
        self.database = Database(
            self.settings.database_url, self.settings.namespace, lease_time=self.settings.lease_time
        )
        self._pid = os.getpid()
        self._is_announced = False
        self._only = only
        self._declared: DeclaredSchedules | None = None
        self._is_stopped = False
        self._name = name_of_process()
        self._reports = MemoryReports()
        self._notices = Notices(period=1.0)
        self._worker = StepWorker(
            self._broker,
            self._reports.put,
            registry=registry,
            threads=threads,
            async_limit=async_limit,
            max_payload=int(self.settings.max_payload),
            name=self._name,
            metrics=_worker_metrics(monitoring),
        )
        self._local = LocalRunner(self._worker.surroundings, process=self._name)
        self._coordinator = Coordinator(
            namespace=self.settings.namespace,
            owner=self._name,
            store=self.database.store if monitoring is None else monitoring.metered(self.database.store),
            inbox=self.database.inbox,
            leases=self.database.leases,
            make_reports=lambda _: self._reports,
            publisher=BrokerPublisher(self._broker),
            rules=rules_of(self.settings, self.database, replay_every_turn=replay_every_turn),
            local=self._local,
            schedules=self.database.schedules,
            postponed=self.database.postponed,
            on_fired=monitoring.fired if monitoring else None,
            only=only,
            observers=[
                self._notices.committed,
                revoking_in(self._worker),
                *([monitoring.committed] if monitoring else []),
                *observers,
            ],
            on_turn=monitoring.turn_took if monitoring else None,
            duties=[
                (lambda: self.database.registry.refresh(self._name), _ANNOUNCE_PERIOD),
                (lambda: self.database.prune.by(self.settings.retention), _PRUNE_PERIOD),
                (self._look_at_schedules, _ANNOUNCE_PERIOD),
                *([monitoring.duty] if monitoring else []),
            ],
        )
        self.client = Client(
            self.settings, _link=DatabaseLink(self.database, self._notices, wake=self._coordinator.wake)
        )

    def acquire(self) -> None:
        """Take the database.

        Raises:
          DatabaseTaken: another process coordinates it.
          ConfigurationError: its values are encoded by a codec, or with a key, that is not here.
        """
        try:
            self.database.check_codec()
            if self._coordinator.acquire():
                return
            holder = self.database.leases.holder()
        except BaseException:
            self.stop(0.0)
            raise
        self.stop(0.0)
        who = f"process {holder.pid} on {holder.host}" if holder is not None else "another process"
        raise DatabaseTaken(
            f"{who} coordinates {self.settings.database_url} already, and a SQLite database takes one coordinator: "
            f"use a Client here, stop the other, or set DRAMATURG_DATABASE_URL to a file of your own"
        )

    def start(self) -> Self:
        """Take the database and begin to work.

        Raises:
          DatabaseTaken: another process coordinates the database.
          Exception: what a lifespan raised.
        """
        if self._is_stopped:
            raise ConfigurationError("an engine starts once: make another one")
        self.acquire()
        return self.begin()

    def begin(self) -> Self:
        """Begin to work, once the database is taken."""
        try:
            self._announce()
            self._worker.start()
            self._coordinator.start()
            self._begin_monitoring()
        except BaseException:
            self.stop(0.0)
            raise
        # A process that ends without a stop would go on working while its interpreter is taken apart.
        atexit.register(self.stop, 0.0)
        return self

    def _announce(self) -> None:
        settings, rows = self.settings, self.database.schedules
        # Whoever advances some runs only is not there for schedules.
        if self._only is None:
            limit = int(settings.max_payload)
            self._declared = DeclaredSchedules(
                rows, registry, self.database.reads.time, namespace=settings.namespace, max_payload=limit
            )
        self.database.registry.announce(
            self._name,
            fingerprint=registry.fingerprint,
            workflows=registry.versions,
            schedules=self._declared.ids if self._declared is not None else (),
        )
        self._is_announced = True
        if self._declared is not None:
            self._declared.take_over()

    def _look_at_schedules(self) -> None:
        if self._declared is not None:
            self._declared.look(is_first=True)

    def stop(self, timeout: float = 10.0) -> None:
        """Stop taking steps, record what they reported, hand the others back, give the database back and close it.

        It may be called twice.

        Parameters:
          timeout: seconds that steps which are under way may still take.
        """
        # A child made by fork has none of the threads, and must leave its parent's database alone.
        if self._is_stopped or os.getpid() != self._pid:
            return
        self._is_stopped = True
        atexit.unregister(self.stop)
        with ExitStack() as steps:
            # In this order from the last, each whatever becomes of the others.
            if self._monitoring is not None:
                steps.callback(self._monitoring.stop)
            steps.callback(self.database.close)
            steps.callback(self._leave)
            steps.callback(self._coordinator.stop)
            steps.callback(self._worker.stop, timeout)
            steps.callback(self._local.stop, timeout)

    def _begin_monitoring(self) -> None:
        if self._monitoring is not None:
            from dramaturg_coordinator.queue_depths import depths_of

            self._monitoring.look_into(self.database, depths_of(self._broker, self._worker.waiting))
            self._monitoring.watch(self._coordinator)
            self._monitoring.serve_engine()

    def _leave(self) -> None:
        try:
            if self._is_announced:
                self.database.registry.remove(self._name)
        except Unavailable as error:
            logger.warning("%s", error)

    def __enter__(self) -> Client:
        self.start()
        return self.client

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> AsyncClient:
        await asyncio.to_thread(self.start)
        return AsyncClient.of(self.client)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)


class DatabaseTaken(ConfigurationError):
    """Another process coordinates the database."""


def engine(
    *, modules: Iterable[str] = (), threads: int = 8, async_limit: int = 100, config: Settings | None = None
) -> Engine:
    """Coordinator and workers in this process, for ``with`` or ``async with``: it gives a client.

    Parameters:
      modules: names of modules to import first.
      threads: of the worker.
      async_limit: async steps at once.
      config: settings; by default those of this process.

    Raises:
      ConfigurationError: a module cannot be imported, or the database cannot be used.
    """
    settings = config if config is not None else load_settings()
    monitoring = None
    if settings.metrics_port:
        # In somebody's own process no port is opened that was not asked for.
        from dramaturg.monitoring import Monitoring

        monitoring = Monitoring(settings)
    return Engine(settings, modules=tuple(modules), threads=threads, async_limit=async_limit, monitoring=monitoring)


def run(wf: Workflow[P, R] | BoundWorkflow[P, R] | StepFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a workflow to its end in this process and give its result. No services, no set-up.

    It advances this run and its children only. ``run(wf.options(id="x"), …)`` takes up an open run of that id where it stopped. Beside
    another process that holds the database it uses a private one, and says so. Steps that are still under way when the
    workflow ends are not waited for.

    Raises:
      WorkflowFailed: the workflow raised.
      WorkflowCancelled, WorkflowTerminated: somebody stopped it.
    """
    return cast("R", run_observed(wf, args, dict(kwargs), ())[1])


def run_observed(
    wf: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    observers: Sequence[Observer],
    on_start: Callable[[Handle[Any]], object] | None = None,
) -> tuple[Handle[Any], Any]:
    """As `run`, with observers; gives the handle too."""
    only: set[str] = set()
    here = _own_engine(only, observers)
    try:
        if _takes_up_open_run(wf):
            kwargs = {**kwargs, "on_conflict": "use_existing"}
        handle: Handle[Any] = here.client.start(wf, *args, **kwargs)
        only.add(handle.run_id)
        only.update(each.run_id for each in here.database.families.below(handle.run_id))
        if on_start is not None:
            on_start(handle)
        here.begin()
        return handle, handle.result()
    finally:
        here.stop(0.0)


def _takes_up_open_run(wf: object) -> bool:
    if not isinstance(wf, BoundWorkflow):
        return False
    options: dict[str, Any] = wf.options  # pyright: ignore[reportUnknownMemberType]
    return bool(options.get("id")) and "on_conflict" not in options


def _memory_broker(settings: Settings) -> MemoryBroker:
    if settings.broker is not None or settings.broker_url != MEMORY_URL:
        raise ConfigurationError(
            f"one process serves itself over {MEMORY_URL}, and the settings name the broker "
            f"{settings.broker or settings.broker_url!r}: unset it here, or run 'dramaturg coordinator MODULE' and "
            f"'dramaturg worker MODULE' as processes of their own"
        )
    return MemoryBroker()


def _own_engine(only: set[str], observers: Sequence[Observer]) -> Engine:
    # No services: whatever broker the surroundings name, this run needs none.
    settings = load_settings().model_copy(update={"broker": None, "broker_url": MEMORY_URL})
    here = Engine(settings, only=only, observers=observers)
    try:
        here.acquire()
    except DatabaseTaken:
        logger.warning("another process coordinates %s; this run uses a private database", settings.database_url)
        here = Engine(settings.model_copy(update={"database_url": "sqlite://"}), only=only, observers=observers)
        here.acquire()
    return here


def _worker_metrics(monitoring: Monitoring | None) -> WorkerMetrics | None:
    if monitoring is None:
        return None
    from dramaturg_actors.metrics import WorkerMetrics

    return WorkerMetrics(monitoring.registry, registry)


def rules_of(settings: Settings, database: Database | None = None, *, replay_every_turn: bool = False) -> Rules:
    """What a coordinator knows besides histories.

    Parameters:
      database: where its namespace is; without one steps cannot be left open, and runs send each other nothing.
    """
    define_blocks(registry)
    rules = Rules(
        registry=registry,
        step_defaults=settings.step,
        queue_defaults=settings.queue,
        max_payload=int(settings.max_payload),
        max_history=settings.max_history,
        history_log_level=logging.getLevelNamesMapping()[settings.history_log_level],
        replay_every_turn=replay_every_turn,
        public_url=settings.public_url or "",
    )
    if database is None:
        return rules
    return dataclasses.replace(rules, secret=database.secret, partition_of=database.partition_of)
