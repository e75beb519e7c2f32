"""`WorkflowEnv`: coordinator, workers and a private database in this process, driven by the test.

Nothing happens by itself: whoever waits for something (`run`, ``handle.result()``, ``handle.cancel()``) drives the
engine until it is there, and skips time where nothing else is left to do. Steps really run, on worker threads.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections import ChainMap
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, Self, TypeVar

import redis
from dramatiq.broker import Broker

from dramaturg import stand_ins
from dramaturg.async_client import AsyncClient
from dramaturg.client import Client
from dramaturg.declared_schedules import DeclaredSchedules
from dramaturg.embedded import rules_of
from dramaturg.graphs.authoring import step_of
from dramaturg.handle import Handle
from dramaturg.links import DatabaseLink
from dramaturg.notices import Notices
from dramaturg.stand_ins import StandIn
from dramaturg.steps import StepFunction
from dramaturg.testing.clock import BEGINNING, VirtualClock
from dramaturg.testing.mocks import StepMock, mock_of
from dramaturg.testing.transports import MemoryTransport, RedisTransport, SharedTransport, Transport
from dramaturg.workflows import BoundWorkflow, Workflow
from dramaturg_actors.local_runner import LocalRunner
from dramaturg_actors.worker import StepWorker
from dramaturg_coordinator.ports import Inbox, Postponed, Publisher, Reports, Schedules, Store
from dramaturg_coordinator.service import Coordinator
from dramaturg_protocol.config import Settings, use_codec_of
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.durations import Duration, parse_duration
from dramaturg_protocol.records import Lease, RunWrites, WorkKind
from dramaturg_protocol.sealing import own_codec
from dramaturg_store.database import Database

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: How long a test waits for a worker, in real seconds, before it takes it for hung.
PATIENCE = 30.0
_UNDER_WAY = (WorkKind.STEP, WorkKind.LOCAL)
_FAR = datetime(9999, 1, 1, tzinfo=UTC)


class WorkflowEnv:
    """The engine in this process under a virtual clock; in memory, unless it is told where.

    Parameters:
      start: where the clock begins, aware.
      auto_advance: whoever waits for a run skips time while only timers are left.
      replay_every_turn: rebuild every run from its history after every turn: finds code that is not deterministic.
      settings: instead of the defaults; database and broker are private all the same, unless the next two are given.
      database_url: of a database that has the settings' namespace (``dramaturg db upgrade``), and no coordinator there.
      redis_client: steps and reports go through this Redis, under the settings' namespace.
      broker_url: steps and reports go through this broker, under the settings' namespace.
      threads: of the worker.
      code_limit: seconds that workflow code may run without awaiting.
      wrap: replace ports by others around them: functions by the port's name, ``store``, ``inbox``, ``publisher``, ``schedules``,
        ``postponed``.
      lifespans: enter those that are registered; ``False`` where `state` gives all that steps take of them.

    Attributes:
      client: talks to this engine; so do ``Client()`` and ``AsyncClient()`` while it is open.
      async_client: the same, awaited.
      clock: moved by `advance`.
    """

    def __init__(
        self,
        *,
        start: datetime = BEGINNING,
        auto_advance: bool = True,
        replay_every_turn: bool = False,
        settings: Settings | None = None,
        database_url: str = "sqlite://",
        redis_client: redis.Redis | None = None,
        broker_url: str | None = None,
        threads: int = 4,
        code_limit: float = 5.0,
        wrap: dict[str, Callable[[Any], Any]] | None = None,
        lifespans: bool = True,
    ) -> None:
        self.clock = VirtualClock(start)
        self._settings = (settings or Settings()).model_copy(update={"database_url": database_url})
        self._stack = ExitStack()
        self._stack.enter_context(_codec_of(self._settings))
        self._auto_advance = auto_advance
        self._redis = redis_client
        self._broker_url = broker_url
        self._threads = threads
        self._wrap = wrap or {}
        self.database = Database(database_url, self._settings.namespace, now=self.clock.now)
        rules = rules_of(self._settings, self.database, replay_every_turn=replay_every_turn)
        self._rules = dataclasses.replace(rules, code_limit=code_limit)
        link = DatabaseLink(self.database, _DrivingNotices(self), close=lambda: None)
        self.client = Client(self._settings, _link=link, _now=self.clock.now)
        self.async_client = AsyncClient.of(self.client)
        self._stand_in = StandIn(self._settings, link, self.clock.now)
        self._has_lifespans = lifespans
        self._state: dict[str, Any] = {}
        self._mocks: list[StepMock] = []
        self._driving = threading.RLock()
        self._reports: Reports
        self._in_flight: set[tuple[str, int, int]] = set()
        self._boots = 0
        self._boot()
        stand_ins.put(self._stand_in)

    @property
    def broker(self) -> Broker:
        """The broker that its worker serves."""
        return self._transport.broker

    @property
    def now(self) -> datetime:
        """The clock's time."""
        return self.clock.now()

    def start(
        self, wf: Workflow[P, R] | BoundWorkflow[P, R] | StepFunction[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[R]:
        """Start a run."""
        return self.client.start(wf, *args, **kwargs)

    def run(
        self, wf: Workflow[P, R] | BoundWorkflow[P, R] | StepFunction[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Start a run and drive it to its end; its result."""
        return self.client.start(wf, *args, **kwargs).result()

    def mock(self, step: StepFunction[..., Any] | str, /, *answer: Any, **answers: Any) -> StepMock:
        """Run something else in the place of a step, until the engine is closed; it tells how it was called.

        Parameters:
          step: the step, or the name of one.
          answer: a function, called with the step's arguments, ``def`` or ``async def``.
          return_value: what it returns; ``None`` by default.
          side_effect: as of `unittest.mock.Mock`: an error to raise, a function, or an iterable of results and errors,
            one for each attempt.

        Raises:
          KeyError: there is no step of this name.
          TypeError: that is no step, or there is more than one answer.
        """
        name = step if isinstance(step, str) else step_of(step).name
        if name not in registry.steps:
            raise KeyError(f"there is no step {name!r} to be mocked")
        mock = mock_of(registry.steps[name], *answer, **answers)
        mock.install(registry)
        self._mocks.append(mock)
        return mock

    def state(self, **entries: Any) -> None:
        """Replace, or add, entries of what lifespans give: ``current_step().state["http"]`` is this ``http`` from now on."""
        self._state.update(entries)

    def run_until_idle(self) -> None:
        """Drive until only timers are left, without moving the clock."""
        while self._step(may_advance_to=None):
            pass

    def advance(self, duration: Duration) -> None:
        """Move the clock on, firing all that is due meanwhile, in order."""
        self.advance_to(self.now + parse_duration(duration))

    def advance_to(self, moment: datetime) -> None:
        """Move the clock to a moment, firing all that is due until then, in order."""
        while self._step(may_advance_to=moment):
            pass
        self.clock.set(moment)
        self.run_until_idle()

    def turn(self) -> bool:
        """Take one turn of the coordinator; whether there was anything to do."""
        with self._driving:
            return self._coordinator.take_turn()

    def crash(self) -> None:
        """Lose the process: coordinator, broker and workers are gone and begin anew over the same database."""
        with self._driving:
            self._shut_down()
            self._boot()

    def restart(self) -> None:
        """Stop and begin anew, as in a deploy; runs that are blocked are tried again."""
        self.crash()

    def close(self) -> None:
        """Shut down and delete the database."""
        stand_ins.take_away(self._stand_in)
        for mock in reversed(self._mocks):
            mock.restore()
        self._mocks.clear()
        with self._stack:
            self._shut_down()
            self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _boot(self) -> None:
        self._in_flight.clear()
        transport = self._transport = self._new_transport()
        self._worker = StepWorker(
            transport.broker,
            transport.report,
            registry=registry,
            threads=self._threads,
            max_payload=int(self._settings.max_payload),
            name="test-worker",
            now=self.clock.now,
            lifespans=None if self._has_lifespans else (),
        )
        self._boots += 1
        self._local = LocalRunner(self._worker.surroundings, process=f"test-coordinator {self._boots}")
        store: Store = self._wrapped("store", self.database.store)
        inbox: Inbox = self._wrapped("inbox", self.database.inbox)
        publisher: Publisher = self._wrapped("publisher", transport.publisher)
        schedules: Schedules = self._wrapped("schedules", self.database.schedules)
        postponed: Postponed = self._wrapped("postponed", self.database.postponed)

        def make_reports(lease: Lease) -> Reports:
            self._reports = transport.make_reports(lease)
            return self._reports

        self._coordinator = Coordinator(
            namespace=self._settings.namespace,
            owner="test-coordinator",
            store=store,
            inbox=inbox,
            leases=self.database.leases,
            make_reports=make_reports,
            publisher=publisher,
            rules=self._rules,
            clock=self.clock,
            observers=[self._note, *transport.observers(self._worker)],
            local=self._local,
            schedules=schedules,
            postponed=postponed,
        )
        self._declare_schedules()
        self._worker.start()
        self._worker.state = ChainMap(self._state, {**self._worker.state})
        self.database.check_codec()
        assert self._coordinator.acquire()
        self._coordinator.recover()
        for kind in _UNDER_WAY:
            self._in_flight.update(item.key for item in self.database.store.sent_work(self.database.partitions, kind))

    def _declare_schedules(self) -> None:
        settings, limit = self._settings, int(self._settings.max_payload)
        declared = DeclaredSchedules(
            self.database.schedules, registry, self.clock.now, namespace=settings.namespace, max_payload=limit
        )
        declared.take_over()
        declared.pause_gone(())

    def _new_transport(self) -> Transport:
        if self._broker_url is not None:
            return SharedTransport(self._broker_url, self._settings.namespace)
        if self._redis is None:
            return MemoryTransport()
        return RedisTransport(self._redis, self._settings.namespace)

    def _wrapped(self, name: str, port: T) -> T:
        wrap = self._wrap.get(name)
        return port if wrap is None else wrap(port)

    def _shut_down(self) -> None:
        self._local.stop(0.0)
        self._coordinator.stop()
        self._worker.stop(0.0)
        self._transport.close()

    def _note(self, writes: Sequence[RunWrites]) -> None:
        for each in writes:
            if each.is_closed:
                self._in_flight = {key for key in self._in_flight if key[0] != each.run_id}
            for item in each.work:
                change = self._in_flight.add if item.kind in _UNDER_WAY else self._in_flight.discard
                change(item.key)
            for generation, seq in each.settled:
                self._in_flight.discard((each.run_id, generation, seq))

    def _step(self, *, may_advance_to: datetime | None) -> bool:
        """Do the next thing: a turn, a wait for a worker, or a leap in time; false where nothing is left."""
        with self._driving:
            return self._step_alone(may_advance_to)

    def _step_alone(self, may_advance_to: datetime | None) -> bool:
        if self._coordinator.take_turn():
            return True
        if self._in_flight:
            self._wait_for_worker()
            return True
        if may_advance_to is None:
            return False
        due = self._next_due(may_advance_to)
        if due is None:
            return False
        self.clock.set(due)
        return True

    def _next_due(self, until: datetime) -> datetime | None:
        """When a timer, a schedule, a message or a limit is due next."""
        numbers = self.database.partitions
        moments = [item.due for item in self.database.store.due_work(numbers, until, 1)]
        moments += [moment for _, moment in self.database.schedules.next_due(numbers, 1)]
        moments.append(self.database.postponed.next_due(numbers, until))
        moments.append(self._coordinator.next_grant())
        return min((moment for moment in moments if moment is not None and moment <= until), default=None)

    def _wait_for_worker(self) -> None:
        due = time.monotonic() + PATIENCE
        while time.monotonic() < due:
            self._reports.wait(timedelta(seconds=due - time.monotonic()))
            self._reports.take_wake()
            if self._reports.take(1) or self._coordinator.take_turn():
                return
        raise AssertionError(f"no worker reported within {PATIENCE:g} s; under way: {sorted(self._in_flight)}")

    def drive(self, look: Callable[[], T | None], deadline: datetime | None) -> T | None:
        """Drive until `look` gives something; ``None`` where nothing more will happen before the deadline."""
        limit = (deadline or _FAR) if self._auto_advance else None
        while True:
            found = look()
            if found is not None:
                return found
            if not self._step(may_advance_to=limit):
                if deadline is not None and self._auto_advance:
                    self.clock.set(deadline)
                return None


@contextmanager
def _codec_of(settings: Settings) -> Generator[None]:
    """The codec of the settings, or none, for as long as the engine is there."""
    with own_codec():
        use_codec_of(settings)
        yield


class _DrivingNotices(Notices):
    """Whoever waits, drives."""

    def __init__(self, env: WorkflowEnv) -> None:
        super().__init__(period=0.0)
        self._env = env

    def wait_for(self, run_id: str, look: Callable[[], T | None], timeout: float | None) -> T | None:
        """Drive the engine until there is something."""
        deadline = None if timeout is None else self._env.now + timedelta(seconds=timeout)
        return self._env.drive(look, deadline)

    async def wait_for_async(
        self,
        run_id: str,
        look: Callable[[], T | None],
        timeout: float | None,  # noqa: ASYNC109 - as `wait_for`
    ) -> T | None:
        """As `wait_for`."""
        return await asyncio.to_thread(self.wait_for, run_id, look, timeout)
