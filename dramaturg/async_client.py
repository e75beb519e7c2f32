"""`AsyncClient`: the verbs of `Client`, awaited. Each runs in a thread, so that the event loop never waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, TypeVarTuple, Unpack, overload

from dramaturg import views
from dramaturg.answers import AsyncAnswers
from dramaturg.approvals import AsyncApprovals
from dramaturg.batches import Asked
from dramaturg.callers_transactions import on_connection
from dramaturg.client import Client
from dramaturg.dead_letters import AsyncDeadLetters
from dramaturg.filters import Chosen
from dramaturg.handle import Handle, Positional, PositionalStep, StepHandle
from dramaturg.steps import StepFunction
from dramaturg.workflows import BoundWorkflow, Workflow
from dramaturg_protocol.config import Settings
from dramaturg_protocol.durations import Duration, parse_duration
from dramaturg_protocol.messages import RequestKind
from dramaturg_protocol.options import StartOptions
from dramaturg_protocol.request_bodies import ControlBody

if TYPE_CHECKING:
    from dramaturg.async_schedules import AsyncSchedules

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Ts = TypeVarTuple("Ts")


class AsyncHandle(Generic[R_co]):
    """One run, by its id; ``await handle`` gives its result."""

    def __init__(self, handle: Handle[R_co]) -> None:
        self._handle = handle

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._handle.run_id

    @property
    def workflow_id(self) -> str:
        """The id that the run was started under."""
        return self._handle.workflow_id

    @property
    def plain(self) -> Handle[R_co]:
        """The handle for threads."""
        return self._handle

    def __await__(self) -> Generator[Any, Any, R_co]:
        return self.result().__await__()

    async def result(self, timeout: Duration | None = None) -> R_co:  # noqa: ASYNC109 - the contract's
        """As `Handle.result`."""
        return await self._handle.client.results_of.wait_async(self._handle, timeout)  # type: ignore[no-any-return]

    async def describe(self) -> views.RunDescription:
        """As `Handle.describe`."""
        return await asyncio.to_thread(self._handle.describe)

    async def tree(self) -> views.RunTree:
        """As `Handle.tree`."""
        return await asyncio.to_thread(self._handle.tree)

    async def events(self, follow: bool = False) -> AsyncIterator[views.Event]:
        """As `Handle.events`."""
        run_id = await asyncio.to_thread(lambda: self._handle.run_id)
        async for event in self._handle.client.events_of_async(run_id, follow=follow):
            yield event

    async def cancel(self, by: str | None = None, reason: str | None = None) -> None:
        """As `Handle.cancel`."""
        await self._control(RequestKind.CANCEL, ControlBody(by, reason))

    async def terminate(self, by: str | None = None, reason: str | None = None) -> None:
        """As `Handle.terminate`."""
        await self._control(RequestKind.TERMINATE, ControlBody(by, reason))

    async def pause(self, by: str | None = None, reason: str | None = None) -> None:
        """As `Handle.pause`."""
        await self._control(RequestKind.PAUSE, ControlBody(by, reason))

    async def resume(self, by: str | None = None, reason: str | None = None) -> None:
        """As `Handle.resume`."""
        await self._control(RequestKind.RESUME, ControlBody(by, reason))

    async def retry(self, by: str | None = None, reason: str | None = None) -> None:
        """As `Handle.retry`."""
        await self._control(RequestKind.RETRY, ControlBody(by, reason))

    async def reset(self, to_event: int, by: str | None = None, reason: str | None = None) -> None:
        """As `Handle.reset`."""
        await self._control(RequestKind.RESET, ControlBody(by, reason, to_event))

    async def approve(self, name: str, by: str, comment: str = "", *, connection: Any = None) -> None:
        """As `Handle.approve`; ``connection`` is an `AsyncConnection` or an `AsyncSession`."""
        await on_connection(connection, lambda own: self._handle.approve(name, by, comment, connection=own))

    async def reject(self, name: str, by: str, comment: str = "", *, connection: Any = None) -> None:
        """As `Handle.reject`; ``connection`` as of `approve`."""
        await on_connection(connection, lambda own: self._handle.reject(name, by, comment, connection=own))

    async def fork(
        self, from_step: int, args: object = None, by: str | None = None, reason: str | None = None
    ) -> AsyncHandle[R_co]:
        """As `Handle.fork`."""
        return AsyncHandle(await asyncio.to_thread(self._handle.fork, from_step, args, by, reason))

    async def signal(
        self,
        name: str,
        payload: object = None,
        idempotency_key: str | None = None,
        delay: Duration | datetime | None = None,
        *,
        by: str | None = None,
        reason: str | None = None,
        connection: Any = None,
    ) -> None:
        """As `Handle.signal`; ``connection`` is an `AsyncConnection` or an `AsyncSession`."""
        await asyncio.to_thread(lambda: self.run_id)

        def send(own: object) -> None:
            self._handle.signal(name, payload, idempotency_key, delay, by=by, reason=reason, connection=own)

        await on_connection(connection, send)

    async def query(self, name: str, *args: Any) -> Any:
        """As `Handle.query`."""
        return await asyncio.to_thread(self._handle.query, name, *args)

    async def update(
        self,
        name: str,
        *args: Any,
        idempotency_key: str | None = None,
        timeout: Duration | None = None,  # noqa: ASYNC109 - as `Handle.update`
    ) -> Any:
        """As `Handle.update`."""
        return await asyncio.to_thread(
            self._handle.update, name, *args, idempotency_key=idempotency_key, timeout=timeout
        )

    def step(self, number: int) -> AsyncStepHandle:
        """As `Handle.step`."""
        return AsyncStepHandle(self._handle.step(number))

    async def _control(self, kind: RequestKind, body: ControlBody) -> None:
        run_id = await asyncio.to_thread(lambda: self._handle.run_id)
        await self._handle.client.requests.send_async(run_id, kind, body)


class AsyncStepHandle:
    """As `StepHandle`, awaited."""

    def __init__(self, handle: StepHandle) -> None:
        self._handle = handle

    async def retry_now(self, by: str | None = None, reason: str | None = None) -> None:
        """As `StepHandle.retry_now`."""
        await asyncio.to_thread(self._handle.retry_now, by, reason)

    async def complete(self, value: object, by: str | None = None, reason: str | None = None) -> None:
        """As `StepHandle.complete`."""
        await asyncio.to_thread(self._handle.complete, value, by, reason)

    async def fail(self, message: str, by: str | None = None, reason: str | None = None) -> None:
        """As `StepHandle.fail`."""
        await asyncio.to_thread(self._handle.fail, message, by, reason)


class AsyncClient(AsyncAnswers):
    """As `Client`, for coroutines. Parameters and errors are the same."""

    def __init__(self, config: Settings | None = None, broker: object = None, engine: object = None) -> None:
        self._client = Client(config, broker, engine)

    @classmethod
    def of(cls, client: Client) -> Self:
        """The verbs of a client, awaited."""
        self = cls.__new__(cls)
        self._client = client
        return self

    @overload
    async def start(
        self, wf: Workflow[P, R] | BoundWorkflow[P, R] | StepFunction[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncHandle[R]: ...
    @overload
    async def start(self, wf: str, /, *args: Any, **kwargs: Any) -> AsyncHandle[Any]: ...
    @overload
    async def start(
        self, wf: PositionalStep[*Ts, R], /, *args: *Ts, **options: Unpack[StartOptions]
    ) -> AsyncHandle[R]: ...
    # Few arguments one by one: so a workflow's defaults may be left out, which `*args: *Ts` does not allow.
    @overload
    async def start(self, wf: Positional[R], /, **options: Unpack[StartOptions]) -> AsyncHandle[R]: ...
    @overload
    async def start(self, wf: Positional[A, R], a: A, /, **options: Unpack[StartOptions]) -> AsyncHandle[R]: ...
    @overload
    async def start(
        self, wf: Positional[A, B, R], a: A, b: B, /, **options: Unpack[StartOptions]
    ) -> AsyncHandle[R]: ...
    @overload
    async def start(
        self, wf: Positional[A, B, C, R], a: A, b: B, c: C, /, **options: Unpack[StartOptions]
    ) -> AsyncHandle[R]: ...
    @overload
    async def start(
        self, wf: Positional[A, B, C, D, R], a: A, b: B, c: C, d: D, /, **options: Unpack[StartOptions]
    ) -> AsyncHandle[R]: ...
    @overload
    async def start(self, wf: Positional[*Ts, R], /, *args: *Ts, **options: Unpack[StartOptions]) -> AsyncHandle[R]: ...
    async def start(self, wf: Any, /, *args: Any, **kwargs: Any) -> AsyncHandle[Any]:  # type: ignore[misc]
        """As `Client.start`; ``connection`` is an `AsyncConnection` or an `AsyncSession`."""
        return AsyncHandle(await _on(_connection_of(wf, kwargs), self._client.start, wf, args, kwargs))

    @overload
    async def start_many(
        self,
        wf: Workflow[P, R] | BoundWorkflow[P, R] | StepFunction[P, R],
        items: Iterable[tuple[Any, ...] | dict[str, Any]],
        **options: Unpack[StartOptions],
    ) -> list[AsyncHandle[R]]: ...
    @overload
    async def start_many(
        self, wf: str, items: Iterable[tuple[Any, ...] | dict[str, Any]], **options: Unpack[StartOptions]
    ) -> list[AsyncHandle[Any]]: ...
    async def start_many(
        self, wf: Any, items: Iterable[tuple[Any, ...] | dict[str, Any]], **options: Any
    ) -> list[AsyncHandle[Any]]:
        """As `Client.start_many`; ``connection`` is an `AsyncConnection` or an `AsyncSession`."""
        handles = await _on(_connection_of(wf, options), self._client.start_many, wf, (items,), options)
        return [AsyncHandle(handle) for handle in handles]

    async def results(self, handles: Iterable[AsyncHandle[R]], timeout: Duration | None = None) -> list[R]:  # noqa: ASYNC109
        """As `Client.results`."""
        deadline = None if timeout is None else time.monotonic() + parse_duration(timeout).total_seconds()
        return [
            await handle.result(None if deadline is None else max(deadline - time.monotonic(), 0.0))
            for handle in handles
        ]

    @overload
    def handle(self, id: str, run_id: str | None = None, *, wf: Workflow[P, R]) -> AsyncHandle[R]: ...
    @overload
    def handle(self, id: str, run_id: str | None = None, wf: None = None) -> AsyncHandle[Any]: ...
    def handle(self, id: str, run_id: str | None = None, wf: Any = None) -> AsyncHandle[Any]:  # noqa: A002 - the contract's
        """As `Client.handle`."""
        return AsyncHandle(self._client.handle(id, run_id, wf=wf))

    async def runs(
        self, *, limit: int = 50, after: str | None = None, **chosen: Unpack[Chosen]
    ) -> list[views.RunSummary]:
        """As `Client.runs`."""
        return await asyncio.to_thread(self._client.runs, limit=limit, after=after, **chosen)

    async def count(self, **chosen: Unpack[Chosen]) -> int:
        """As `Client.count`."""
        return await asyncio.to_thread(self._client.count, **chosen)

    async def cancel_runs(self, **asked: Unpack[Asked]) -> int:
        """As `Client.cancel_runs`."""
        return await asyncio.to_thread(self._client.cancel_runs, **asked)

    async def terminate_runs(self, **asked: Unpack[Asked]) -> int:
        """As `Client.terminate_runs`."""
        return await asyncio.to_thread(self._client.terminate_runs, **asked)

    async def pause_runs(self, **asked: Unpack[Asked]) -> int:
        """As `Client.pause_runs`."""
        return await asyncio.to_thread(self._client.pause_runs, **asked)

    async def resume_runs(self, **asked: Unpack[Asked]) -> int:
        """As `Client.resume_runs`."""
        return await asyncio.to_thread(self._client.resume_runs, **asked)

    async def retry_runs(self, **asked: Unpack[Asked]) -> int:
        """As `Client.retry_runs`."""
        return await asyncio.to_thread(self._client.retry_runs, **asked)

    @property
    def dead_letters(self) -> AsyncDeadLetters:
        """As `Client.dead_letters`, awaited."""
        return AsyncDeadLetters(self._client.dead_letters)

    @property
    def approvals(self) -> AsyncApprovals:
        """As `Client.approvals`, awaited."""
        return AsyncApprovals(self._client.approvals)

    @property
    def schedules(self) -> AsyncSchedules:
        """As `Client.schedules`, awaited."""
        from dramaturg.async_schedules import AsyncSchedules

        return AsyncSchedules(self._client.schedules)

    async def close(self) -> None:
        """As `Client.close`."""
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _connection_of(wf: Any, options: dict[str, Any]) -> Any:
    """The caller's connection, from the options beside the arguments or from ``wf.options(connection=…)``."""
    bound = wf.options if isinstance(wf, BoundWorkflow) else {}
    return options.get("connection", bound.get("connection"))


async def _on(connection: Any, verb: Callable[..., T], wf: Any, args: tuple[Any, ...], options: dict[str, Any]) -> T:
    """Do what a verb of `Client` does: in a thread, or on the connection of a coroutine."""

    def do(own: object) -> T:
        return verb(wf, *args, **(options if own is None else {**options, "connection": own}))

    return await on_connection(connection, do)
