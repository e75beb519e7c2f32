"""`Client` and `Handle`: start runs, look at them, wait for them, stop them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, ParamSpec, Self, TypeVar, TypeVarTuple, Unpack, overload

from dramaturg import stand_ins, views
from dramaturg.answers import Answers
from dramaturg.approvals import Approvals
from dramaturg.batches import Batches
from dramaturg.conversation import Conversation
from dramaturg.dead_letters import DeadLetters
from dramaturg.filters import Chosen, filter_of
from dramaturg.handle import Handle, Positional, PositionalStep
from dramaturg.links import POLL, Link, link_of
from dramaturg.orders import Target, order_of, split_options, target_of
from dramaturg.requests import Requests
from dramaturg.results import Results
from dramaturg.schedules import Schedules
from dramaturg.steps import StepFunction
from dramaturg.workflows import BoundWorkflow, Workflow
from dramaturg_actors.application_broker import serving_command
from dramaturg_protocol.config import Settings, load_settings, use_codec_of
from dramaturg_protocol.durations import Duration, parse_duration
from dramaturg_protocol.errors import NotFound
from dramaturg_protocol.messages import Request
from dramaturg_protocol.options import StartOptions
from dramaturg_protocol.records import RunRecord, StartOrder
from dramaturg_protocol.request_bodies import decode_start
from dramaturg_store.clock import Now, system_now
from dramaturg_store.database import Database
from dramaturg_store.reads import EventRow
from dramaturg_store.store import SqlStore

P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Ts = TypeVarTuple("Ts")

logger = logging.getLogger("dramaturg.client")


class Client(Answers, Batches):
    """Starts runs and looks at them, from any process that reaches the database.

    What a client sends is committed when the call returns. With only a broker, it is as durable as the broker until a
    coordinator took it, and what needs an answer is a `ConfigurationError`.

    Parameters:
      config: settings; by default those of this process.
      broker: a Dramatiq broker over which starts are sent, by a service that does not reach the database.
      engine: a SQLAlchemy engine of the caller's own, whose connections are used instead of those to the database that
        the settings name. Closing the client leaves it as it is.

    Raises:
      ConfigurationError: the database cannot be used; the message says what to do.
      Unavailable: it does not answer.
    """

    def __init__(
        self,
        config: Settings | None = None,
        broker: object = None,
        engine: object = None,
        *,
        _link: Link | None = None,
        _now: Now | None = None,
    ) -> None:
        stand_in = stand_ins.current() if (config, broker, engine, _link) == (None,) * 4 else None
        if stand_in is not None:
            config, _link, _now = stand_in.settings, stand_in.link, stand_in.now
        self.settings = config if config is not None else load_settings()
        use_codec_of(self.settings)
        self._link = _link or link_of(self.settings, broker, engine)
        self._clock = _now
        self._has_looked_for_coordinator = _link is not None
        self.requests = Requests(self, self._link)
        self.results_of = Results(self, self._link, _now)
        self.conversation = Conversation(self, self._link, self._now)
        self.approvals = Approvals(self, lambda: self._link.database.approvals, lambda: self._link.database.secret)
        self.dead_letters = DeadLetters(self, lambda: self._link.database.letters, self._now)
        self.schedules = Schedules(self, lambda: self._link.database.schedules, self._now)

    # Starting.

    @overload
    def start(
        self, wf: Workflow[P, R] | BoundWorkflow[P, R] | StepFunction[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[R]: ...
    @overload
    def start(self, wf: str, /, *args: Any, **kwargs: Any) -> Handle[Any]: ...
    @overload
    def start(self, wf: PositionalStep[*Ts, R], /, *args: *Ts, **options: Unpack[StartOptions]) -> Handle[R]: ...
    # Few arguments one by one: so a workflow's defaults may be left out, which `*args: *Ts` does not allow.
    @overload
    def start(self, wf: Positional[R], /, **options: Unpack[StartOptions]) -> Handle[R]: ...
    @overload
    def start(self, wf: Positional[A, R], a: A, /, **options: Unpack[StartOptions]) -> Handle[R]: ...
    @overload
    def start(self, wf: Positional[A, B, R], a: A, b: B, /, **options: Unpack[StartOptions]) -> Handle[R]: ...
    @overload
    def start(self, wf: Positional[A, B, C, R], a: A, b: B, c: C, /, **options: Unpack[StartOptions]) -> Handle[R]: ...
    @overload
    def start(
        self, wf: Positional[A, B, C, D, R], a: A, b: B, c: C, d: D, /, **options: Unpack[StartOptions]
    ) -> Handle[R]: ...
    @overload
    def start(self, wf: Positional[*Ts, R], /, *args: *Ts, **options: Unpack[StartOptions]) -> Handle[R]: ...
    def start(self, wf: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:  # type: ignore[misc]
        """Start a run; it is accepted when this returns.

        Parameters:
          wf: a workflow, ``wf.options(…)``, a step, or a workflow's name.
          args: its arguments.
          kwargs: its keyword arguments, and the options of a start: ``id``, ``idempotency_key``, ``on_conflict``,
            ``reuse``, ``signal``, ``version``, ``delay``, ``tags``, ``connection``. A name that is both is the option. ``connection`` is a
            SQLAlchemy `Connection` or `Session`: the start happens if and only if its transaction is committed.

        Raises:
          TypeError: the arguments do not fit the workflow.
          PayloadError: an argument cannot be encoded or is too large.
          AlreadyStarted: the id is taken, and the options do not say what to do then.
          IdempotencyMismatch: the key was used with other arguments.
          Unavailable: the database does not answer.
        """
        options, arguments = split_options(kwargs)
        order, target, connection = self._order(wf, args, arguments, options)
        return self._submit([(order, target)], connection)[0]

    @overload
    def start_many(
        self,
        wf: Workflow[P, R] | BoundWorkflow[P, R] | StepFunction[P, R],
        items: Iterable[tuple[Any, ...] | dict[str, Any]],
        **options: Unpack[StartOptions],
    ) -> list[Handle[R]]: ...
    @overload
    def start_many(
        self, wf: str, items: Iterable[tuple[Any, ...] | dict[str, Any]], **options: Unpack[StartOptions]
    ) -> list[Handle[Any]]: ...
    def start_many(
        self, wf: Any, items: Iterable[tuple[Any, ...] | dict[str, Any]], **options: Any
    ) -> list[Handle[Any]]:
        """Start a run for each item, hundreds in one commit.

        Parameters:
          items: a tuple of positional or a dict of keyword arguments each.
          options: of each start.
        """
        orders: list[tuple[StartOrder, Target]] = []
        connection = None
        for item in items:
            args, kwargs = (item, {}) if isinstance(item, tuple) else ((), item)
            if not isinstance(kwargs, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"start_many takes tuples of arguments or dicts of keyword arguments, not {item!r}")
            order, target, connection = self._order(wf, args, kwargs, options)
            orders.append((order, target))
        handles: list[Handle[Any]] = []
        for first in range(0, len(orders), 500):
            handles += self._submit(orders[first : first + 500], connection)
        return handles

    def results(self, handles: Iterable[Handle[R]], timeout: Duration | None = None) -> list[R]:
        """Wait for many runs; their results in order. Parameters and errors as `Handle.result`."""
        deadline = None if timeout is None else time.monotonic() + parse_duration(timeout).total_seconds()
        results: list[R] = []
        for handle in handles:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            results.append(handle.result(left))
        return results

    # Looking.

    @overload
    def handle(self, id: str, run_id: str | None = None, *, wf: Workflow[P, R]) -> Handle[R]: ...
    @overload
    def handle(self, id: str, run_id: str | None = None, wf: None = None) -> Handle[Any]: ...
    def handle(self, id: str, run_id: str | None = None, wf: Any = None) -> Handle[Any]:  # noqa: A002
        """A handle from a workflow id or a run id, without asking anybody.

        Parameters:
          run_id: one run among those that had the workflow id.
          wf: the workflow, for a typed result.
        """
        return Handle(self, id, target_of(wf) if wf is not None else None, run_id)

    def runs(self, *, limit: int = 50, after: str | None = None, **chosen: Unpack[Chosen]) -> list[views.RunSummary]:
        """Runs, newest first.

        Parameters:
          chosen: which: see `dramaturg.filters.Chosen`.
          limit: how many.
          after: the id of the last run of the page before.

        Raises:
          ValueError: an unknown status, a moment without a time zone.
          NotFound: there is no run `after`.
        """
        cursor = None
        if after is not None:
            last = self._link.database.reads.run(after)
            if last is None:
                raise NotFound(f"there is no run {after!r} to go on after")
            cursor = (last.started_at, last.run_id)
        wanted = filter_of(self._now, **chosen)
        return [views.summary_of(record) for record in self._link.database.reads.list_runs(wanted, limit, cursor)]

    def count(self, **chosen: Unpack[Chosen]) -> int:
        """How many runs there are; parameters as `runs`."""
        return self._link.database.reads.count_runs(filter_of(self._now, **chosen))

    def workflow_names(self) -> frozenset[str]:
        """The workflows that live coordinators have registered; empty where there is no coordinator."""
        return self._link.database.reads.workflow_names()

    @property
    def store(self) -> SqlStore:
        """The histories themselves, for tools."""
        return self._link.database.store

    def has_live_coordinator(self) -> bool:
        """Whether anybody is there who goes on with runs."""
        return self._link.database.reads.has_live_coordinator()

    def close(self) -> None:
        """Close the connections to the database."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What handles ask.

    def resolve(self, any_id: str) -> str:
        """The run that an id means.

        Raises:
          NotFound: there is none.
        """
        # Twice: a start that is taken while we look is found in the inbox no more, and among the runs not yet.
        run_id = self._link.database.reads.resolve(any_id) or self._link.database.reads.resolve(any_id)
        if run_id is None:
            raise NotFound(f"there is no run or workflow id {any_id!r}")
        return run_id

    def describe(self, run_id: str) -> views.RunDescription:
        """All about a run; `NotFound` where there is none."""
        found = self.known(run_id)
        if isinstance(found, RunRecord):
            reads = self._link.database.reads
            events, work = reads.events(run_id), reads.open_work(run_id)
            families = self._link.database.families
            return views.describe(
                found,
                events,
                self._now(),
                parked=reads.parked(run_id),
                work=work,
                children=families.children_of([run_id]),
                ended_steps=families.ended_steps,
            )
        body = decode_start(found.body)
        parked = self._link.database.reads.parked(run_id)
        return views.pending(run_id, body.workflow_id, body.workflow, parked=parked)

    @property
    def database(self) -> Database:
        """Where runs are."""
        return self._link.database

    def events_of(self, run_id: str, *, follow: bool) -> Iterator[views.Event]:
        """A run's history; see `Handle.events`."""
        number = 0
        while True:
            rows, is_over = self._next_events(run_id, number, follow=follow)
            for row in rows:
                number = row.number
                yield views.event_of(row)
            if is_over:
                return
            if not rows:
                self._link.notices.wait_for(run_id, self._look_for_event(run_id, number), POLL)

    async def events_of_async(self, run_id: str, *, follow: bool) -> AsyncIterator[views.Event]:
        """As `events_of`, in a coroutine."""
        number = 0
        while True:
            rows, is_over = await asyncio.to_thread(self._next_events, run_id, number, follow=follow)
            for row in rows:
                number = row.number
                yield views.event_of(row)
            if is_over:
                return
            if not rows:
                await self._link.notices.wait_for_async(run_id, self._look_for_event(run_id, number), POLL)

    def _next_events(self, run_id: str, after: int, *, follow: bool) -> tuple[Sequence[EventRow], bool]:
        """Events beyond a number, and whether there will be no more."""
        is_closed = not follow or self.closed(run_id) is not None
        rows = self._link.database.reads.events(run_id, after)
        if not rows and not after:
            self.known(run_id)
        return rows, is_closed and not rows

    def _look_for_event(self, run_id: str, after: int) -> Callable[[], Sequence[EventRow] | None]:
        return lambda: self._link.database.reads.events(run_id, after, 1) or None

    def known(self, run_id: str) -> RunRecord | Request:
        """A run's row, or its start that nobody took yet.

        Raises:
          NotFound: there is neither.
        """
        reads = self._link.database.reads
        # The row is looked for again: the start may have been taken in between.
        found = reads.run(run_id) or reads.pending_start(run_id) or reads.run(run_id)
        if found is None:
            raise NotFound(f"there is no run {run_id!r}")
        return found

    def closed(self, run_id: str) -> RunRecord | None:
        """The row of a closed run; `NotFound` where there is no such run at all."""
        found = self.known(run_id)
        return found if isinstance(found, RunRecord) and found.closed_at is not None else None

    def _order(
        self, wf: object, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> tuple[StartOrder, Target, Any]:
        namespace, limit = self.settings.namespace, int(self.settings.max_payload)
        return order_of(wf, args, kwargs, options, namespace=namespace, max_payload=limit, now=self._now)

    def _submit(self, orders: Sequence[tuple[StartOrder, Target]], connection: Any) -> list[Handle[Any]]:
        outcomes = self.conversation.submit([order for order, _ in orders], connection)
        self.look_for_coordinator()
        return [
            Handle(self, outcome.workflow_id, target, outcome.run_id)
            for outcome, (_, target) in zip(outcomes, orders, strict=True)
        ]

    def tell_coordinator(self) -> None:
        """There is something in the inbox; once, a warning where no coordinator is alive."""
        self._link.wake()
        self.look_for_coordinator()

    def _now(self) -> datetime:
        if self._clock is not None:
            return self._clock()
        return self._link.database.reads.time() if self._link.has_database else system_now()

    def look_for_coordinator(self) -> None:
        """Once, a warning where no coordinator is alive."""
        if self._has_looked_for_coordinator or not self._link.has_database:
            return
        self._has_looked_for_coordinator = True
        if not self.has_live_coordinator():
            logger.warning(
                "no coordinator is running on %s: what is started waits until one is. Start one with: %s",
                self.settings.database_url,
                serving_command(self.settings),
            )
