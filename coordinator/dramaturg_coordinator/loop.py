"""The deterministic event loop on which one run's workflow function executes.

It implements `asyncio.AbstractEventLoop` for just what has one possible outcome: callbacks in first-in-first-out order,
futures, tasks, and timers that somebody else fires. Time stands still but for `set_time`. Everything else of the
interface raises `NonDeterminismError` with advice. No I/O, no clock, no thread: whoever owns the loop calls
`run_ready` after something happened, and it returns when every task waits.

Sets decide orders inside asyncio (``asyncio.wait``, ``TaskGroup``), and the default hash is an address. So futures and
tasks hash to a counter here, with a hash of the run id in the high bits: the same on replay, and different between runs,
since all tasks of a process meet in one set of asyncio's.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import inspect
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Generator
from hashlib import blake2b
from types import FrameType
from typing import Any, TypeVar, TypeVarTuple

from dramaturg_coordinator.running_loop import Running
from dramaturg_protocol.errors import NonDeterminismError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class WorkflowFuture(asyncio.Future[T]):
    """A future with a hash that is the same on every replay."""

    def __init__(self, *, loop: WorkflowLoop) -> None:
        super().__init__(loop=loop)
        self._hash = loop.next_hash()

    def __hash__(self) -> int:
        return self._hash


class WorkflowTask(asyncio.Task[T]):
    """A task with a hash that is the same on every replay."""

    # asyncio puts a task into its set of all tasks while it is still being initialised.
    _hash: int | None = None

    def __init__(self, coro: Any, *, loop: WorkflowLoop, **kwargs: Any) -> None:
        self._hash = loop.next_hash()
        self.ordinal = loop.next_ordinal()
        self._workflow_loop = loop
        self._shields: list[int] = []
        self._held: list[tuple[int, Any]] = []
        super().__init__(coro, loop=loop, **kwargs)

    def __hash__(self) -> int:
        return self._hash or 0

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the task; one that is inside a shield, from outside of it, when it has left that."""
        if not self._shields or self.done() or asyncio.current_task(self._workflow_loop) is self:
            return super().cancel(msg)
        origin = self._workflow_loop.origin_of_cancel()
        if origin > self._shields[-1]:
            return super().cancel(msg)
        self._held.append((origin, msg))
        return True

    def enter_shield(self) -> None:
        """From now on hold what would cancel it from outside."""
        self._shields.append(self._workflow_loop.next_ordinal())

    def leave_shield(self) -> bool:
        """Hold no longer what this shield held, and no other does; whether it is cancelled by that."""
        self._shields.pop()
        outer = self._shields[-1] if self._shields else -1
        due = [msg for origin, msg in self._held if origin >= outer]
        self._held = [each for each in self._held if each[0] < outer]
        for msg in due:
            super().cancel(msg)
        return bool(due)


class DurableTimerHandle(asyncio.TimerHandle):
    """What `call_at` gives: it knows the position of its timer, and whether it has fired."""

    __slots__ = ("has_fired", "ordinal", "seq")

    def __init__(
        self, when: float, callback: Callable[..., object], args: Any, loop: WorkflowLoop, context: Any
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self.seq = 0
        self.has_fired = False
        self.ordinal = loop.next_ordinal()


class WorkflowLoop(asyncio.AbstractEventLoop):
    """One run's event loop.

    Parameters:
      run_id: gives the futures of this run hashes of their own.
      scope: what code that runs here finds by `ambient.current_scope`.
      start_timer: called with a moment in seconds since the epoch; gives the timer's position.
      cancel_timer: called with the position of a timer that has not fired.
      report_problem: called with asyncio's context of an error that nobody awaits.
    """

    def __init__(
        self,
        run_id: str,
        *,
        scope: object,
        start_timer: Callable[[float], int],
        cancel_timer: Callable[[int], None],
        report_problem: Callable[[dict[str, Any]], None],
    ) -> None:
        self.scope = scope
        self.is_closing = False
        self.is_interrupted = False
        #: Asked before anything is made to run: raises where that is not allowed.
        self.check: Callable[[str], None] = lambda _: None
        self._start_timer = start_timer
        self._cancel_timer = cancel_timer
        self._report_problem = report_problem
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: dict[int, DurableTimerHandle] = {}
        self._tasks: dict[WorkflowTask[Any], None] = {}
        self._task_count = 0
        self._ordinal = 0
        self._running: asyncio.Handle | None = None
        self._time = 0.0
        self.run_id = run_id
        self._hash = (int.from_bytes(blake2b(run_id.encode(), digest_size=4).digest(), "big") & 0x0FFFFFFF) << 32

    def next_hash(self) -> int:
        """The hash of the next future or task of this run."""
        self._hash += 1
        return self._hash

    @property
    def counters(self) -> tuple[int, ...]:
        """What names and hashes are made of."""
        return self._hash, self._ordinal, self._task_count

    @counters.setter
    def counters(self, counters: tuple[int, ...]) -> None:
        self._hash, self._ordinal, self._task_count = counters

    def next_ordinal(self) -> int:
        """The number of the next task, timer or shield of this run: what began later has the higher one."""
        self._ordinal += 1
        return self._ordinal

    def origin_of_cancel(self) -> int:
        """The number of what a cancel stems from that happens now; 0 for one from outside, or from another task.

        asyncio's time-outs and task groups cancel the task that is inside them from a callback: of their timer, or of
        the member that failed.
        """
        handle = self._running
        if handle is None or asyncio.current_task(self) is not None:
            return 0
        if isinstance(handle, DurableTimerHandle):
            return handle.ordinal
        subject = handle._args[0] if handle._args else None
        return subject.ordinal if isinstance(subject, WorkflowTask) else 0

    def set_time(self, time: float) -> None:
        """Let it be this moment, in seconds since the epoch."""
        self._time = time

    @property
    def open_timers(self) -> Collection[int]:
        """Positions of the timers that have not fired."""
        return self._timers.keys()

    def run_ready(self) -> None:
        """Run until every task waits; stop early where `is_interrupted` is set meanwhile."""
        ready = self._ready
        if not ready:
            return
        with Running(self, self._finish_generator):
            while ready and not self.is_interrupted:
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                # The task that raised one of these has it as its exception; asyncio raises it once more to end the
                # process, which a workflow has no say in.
                self._running = handle
                try:
                    handle._run()
                except (SystemExit, KeyboardInterrupt):
                    continue
                finally:
                    self._running = None

    def call(self, function: Callable[[], T]) -> T:
        """Call a function as if it were called here."""
        with Running(self, self._finish_generator):
            return function()

    def fire_timer(self, seq: int) -> None:
        """Make a timer's callback ready; nothing where there is no such timer."""
        handle = self._timers.pop(seq, None)
        if handle is not None:
            handle.has_fired = True
            self._ready.append(handle)

    def drop(self, tries: int) -> int:
        """Forget the run: throw `GeneratorExit` into every suspended coroutine.

        Whoever calls this has seen to it that what the code does in reply (``finally``, ``except BaseException``)
        leaves no trace. Gives the number of coroutines that would not end after so many tries; they are kept alive,
        because their deallocation would run them again at any moment, inside another run.
        """
        self.is_closing = True
        self.is_interrupted = False
        self._ready.clear()
        self._timers.clear()
        stubborn: list[asyncio.Task[Any]] = []
        with Running(self, self._finish_generator):
            # Clean-up code may create tasks; they are ended as well.
            while self._tasks:
                tasks, self._tasks = self._tasks, {}
                stubborn += [task for task in tasks if not task.done() and not self._end(task, tries)]
        for task in stubborn:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
        return len(stubborn)

    def _finish_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        # An async generator that is left early cleans up in a task, as under any loop of asyncio's. One that is found
        # by the garbage collector while another run is at work, or whose run is being dropped, just goes.
        if self.is_running() and not self.is_closing:
            self.create_task(generator.aclose())

    def _end(self, task: asyncio.Task[Any], tries: int) -> bool:
        # asyncio would report a pending task that is garbage collected; this one is dropped on purpose.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine: Any = task.get_coro()
        # Clean-up code may look for its task; if that raised, `while True: try … except BaseException` would spin.
        asyncio.tasks._enter_task(self, task)
        try:
            for _ in range(tries):
                # The innermost first: one that is awaited and does not end would be orphaned by the end of its awaiter.
                chain = _chain_of(coroutine)
                while chain and not self.is_interrupted and _close(chain[-1]):
                    chain.pop()
                if not chain or self.is_interrupted:
                    return not chain
            return False
        finally:
            asyncio.tasks._leave_task(self, task)

    def _forget(self, task: Any) -> None:
        self._tasks.pop(task, None)

    # What asyncio's own code calls.

    def time(self) -> float:
        """The time of the event that is being applied, in seconds since the epoch."""
        return self._time

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Run a callback in this turn, after all that are ready."""
        self.check("have anything run later")
        handle = asyncio.Handle(callback, args, self, context)
        if not self.is_closing:
            self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback when a durable timer fires."""
        handle = DurableTimerHandle(when, callback, args, self, context)
        if not self.is_closing:
            handle.seq = self._start_timer(when)
            self._timers[handle.seq] = handle
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback when a durable timer fires."""
        return self.call_at(self._time + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        # asyncio cancels timers that have fired as well, on some versions of Python and not on others.
        if isinstance(handle, DurableTimerHandle) and not handle.has_fired and not self.is_closing:
            handle.has_fired = True
            self._timers.pop(handle.seq, None)
            self._cancel_timer(handle.seq)

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this run."""
        return WorkflowFuture(loop=self)

    def create_task(self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], **kwargs: Any) -> asyncio.Task[T]:
        """A task of this run."""
        # Whether a task starts eagerly would change the order of commands between versions of Python.
        kwargs.pop("eager_start", None)
        self._task_count += 1
        if kwargs.get("name") is None:
            # asyncio's own names count the tasks of the process.
            kwargs["name"] = f"Task-{self._task_count}"
        task: WorkflowTask[T] = WorkflowTask(coro, loop=self, **kwargs)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report an error that nobody awaits."""
        if not self.is_closing:
            self._report_problem(context)

    def get_debug(self) -> bool:
        """Never: debug mode would change what is called."""
        return False

    def is_running(self) -> bool:
        """Whether this loop is the one that runs in this thread."""
        return asyncio._get_running_loop() is self

    def is_closed(self) -> bool:
        """Whether the run was dropped."""
        return False


def _chain_of(coroutine: Any) -> list[Any]:
    """A coroutine and those that it awaits through others, as far as they can be seen."""
    chain: list[Any] = []
    while inspect.iscoroutine(coroutine) or not chain:
        chain.append(coroutine)
        coroutine = getattr(coroutine, "cr_await", None)
    return chain


def _close(coroutine: Any) -> bool:
    """Throw `GeneratorExit` into a coroutine; whether it has ended."""
    _close_what_did_not_begin(getattr(coroutine, "cr_frame", None))
    try:
        coroutine.close()
    except RuntimeError:
        # "coroutine ignored GeneratorExit", it awaits again in its clean-up; or an error of the clean-up's own.
        return getattr(coroutine, "cr_frame", None) is None
    except BaseException:  # noqa: BLE001
        # Raised in reply to GeneratorExit; there is nobody to tell, and the coroutine has ended.
        return True
    return True


def _close_what_did_not_begin(frame: FrameType | None) -> None:
    # A coroutine that waits in a variable for its turn would warn that it was never awaited.
    for value in list(frame.f_locals.values()) if frame is not None else ():
        for each in value if type(value) in (list, tuple) else (value,):
            if _has_not_begun(each):
                each.close()


def _has_not_begun(value: Any) -> bool:
    return inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED


_ADVICE = {
    "run_in_executor": "put the work into a step",
    "call_soon_threadsafe": "a workflow has no threads; put the work into a step",
    "getaddrinfo": "put the look-up into a step",
    "getnameinfo": "put the look-up into a step",
    "run_until_complete": "await instead",
    "run_forever": "await instead",
    "stop": "return from the workflow instead",
    "close": "return from the workflow instead",
}
_DEFAULT_ADVICE = "put input and output into a step: a workflow that is replayed would do it again"


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(self: object, *args: object, **kwargs: object) -> Any:
        raise NonDeterminismError(f"loop.{name}() does not work in a workflow: {_ADVICE.get(name, _DEFAULT_ADVICE)}")

    return refuse


for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in vars(WorkflowLoop):
        setattr(WorkflowLoop, _name, _refusal(_name))
