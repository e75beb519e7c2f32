"""Steps in processes of their own: a pool of children that are reused, and can be killed whatever they do.

    worker thread ── task ────► child: arguments, code, outcome
                  ◄── outcome ─┘
                  ── SIGKILL ─► for a time-out, a cancel, the worker's stop

A child is a fresh interpreter, never a fork: this process has threads. It imports the module of the step and enters the
lifespans for itself. It ends with its parent: by the closed pipe, and where it runs code that does not look, by a signal
of the kernel's, which it gets when the thread that started it ends; so one thread starts all.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing.spawn
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Pipe
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic_core import to_json

from dramaturg_actors.context import StepContext
from dramaturg_actors.failures import Outcome
from dramaturg_actors.fleet import python
from dramaturg_actors.vital_signs import News, VitalSigns
from dramaturg_protocol.definitions import Registry
from dramaturg_protocol.errors import StepInterrupt
from dramaturg_protocol.messages import StepTask, encode_message
from dramaturg_protocol.sealing import codec_identity

#: The first byte of what goes to a child, and of what comes back.
TASK, STOPPING, READY, UNFIT, NEWS, OUTCOME = b"T", b"S", b"R", b"U", b"N", b"O"

_LOOK_SECONDS: Final = 0.5
_REAP_SECONDS: Final = 5.0
_PREPARED: Final = ("sys_path", "sys_argv", "dir", "orig_dir", "init_main_from_name", "init_main_from_path")
_OUTCOMES: Final[TypeAdapter[Outcome]] = TypeAdapter(Outcome)
_NEWS: Final[TypeAdapter[News]] = TypeAdapter(News)

_logger = logging.getLogger("dramaturg.actors")


class ProcessNotStarted(RuntimeError):
    """A process for an isolated step did not come up."""


class ProcessLost(Exception):
    """The process of an isolated step is gone."""


class ProcessInterruption:
    """Interrupts a step that runs in a process, by killing that."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._kill: Callable[[], None] | None = None
        self._is_over = False

    def send(self, reason: StepInterrupt) -> None:
        """Kill the process, from any thread."""
        with self._lock:
            if self._is_over or self._context.interrupted is not None:
                return
            self._context.interrupted = reason
            if self._kill is not None:
                self._kill()

    def attach(self, kill: Callable[[], None]) -> None:
        """From now on there is a process."""
        if self._context.cancel_reason is not None:
            self.send(self._context.cancel_reason)
        with self._lock:
            self._kill = kill
            if self._context.interrupted is not None:
                kill()

    def detach(self) -> bool:
        """The process is another step's from now on; false where it was killed."""
        with self._lock:
            self._is_over, self._kill = True, None
            return self._context.interrupted is None


class Child:
    """One process; for one thread at a time, but for `kill` and `tell_stopping`."""

    def __init__(self, start: bytes) -> None:
        ours, theirs = Pipe()
        self._link: Any = ours
        self._sending = threading.Lock()
        self._is_ready = False
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
                python("dramaturg_actors.isolated", str(theirs.fileno()), str(os.getpid())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Ctrl-C in a terminal is the worker's to hear; and what a step starts is killed with it.
                process_group=0,
            )
        finally:
            theirs.close()
        self._send(start)

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Wait until it has entered its lifespans.

        Raises:
          ProcessNotStarted: it could not.
          ProcessLost: it is gone.
        """
        if self._is_ready:
            return
        answer = self._receive()
        if answer[:1] == UNFIT:
            raise ProcessNotStarted(answer[1:].decode())
        self._is_ready = True

    def run(self, task: StepTask, module: str, signs: VitalSigns) -> Outcome:
        """Run an attempt there.

        Parameters:
          signs: hears its heartbeats and its progress.

        Raises:
          ProcessLost: it is gone.
        """
        self._send(TASK + to_json({"task": encode_message(task), "module": module}))
        while (answer := self._receive())[:1] == NEWS:
            signs.hear(_NEWS.validate_json(answer[1:]))
        return _OUTCOMES.validate_json(answer[1:])

    def tell_stopping(self) -> None:
        """Let its step know that the worker is about to stop."""
        with contextlib.suppress(ProcessLost):
            self._send(STOPPING)

    def kill(self) -> None:
        """End it and what it has started, at once."""
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Have it exit its lifespans and end, if it has no step."""
        self._link.close()

    def wait(self, seconds: float) -> bool:
        """Wait for its end; false if the time is over."""
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True

    def _send(self, data: bytes) -> None:
        with self._sending:
            try:
                self._link.send_bytes(data)
            except OSError as error:
                raise ProcessLost(self._how_it_ended()) from error

    def _receive(self) -> bytes:
        try:
            # What it has started may hold the pipe open when it is gone.
            while not self._link.poll(_LOOK_SECONDS) and self.is_alive:
                pass
            data: bytes = self._link.recv_bytes() if self._link.poll() else b""
        except (EOFError, OSError) as error:
            raise ProcessLost(self._how_it_ended()) from error
        if not data:
            raise ProcessLost(self._how_it_ended())
        return data

    def _how_it_ended(self) -> str:
        if not self.wait(_REAP_SECONDS):
            self.kill()
            return "it closed its pipe to the worker"
        code = self._process.returncode
        if code >= 0:
            return f"it ended itself with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = ", perhaps by the kernel, for want of memory" if name == "SIGKILL" else ""
        return f"it was ended by {name}{hint}"


class ProcessPool:
    """The children of a worker process: as many as isolated steps ran at once, each reused until it is killed.

    Parameters:
      max_payload: bytes that a result may take, encoded.
    """

    def __init__(self, registry: Registry, max_payload: int) -> None:
        self._registry = registry
        self._max_payload = max_payload
        self._changing = threading.Lock()
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._starting: ThreadPoolExecutor | None = None
        self._is_stopping = False

    @contextmanager
    def child(self, interruption: ProcessInterruption) -> Generator[Child, None, None]:
        """A child for one attempt, ready; the interruption kills it.

        Raises:
          ProcessNotStarted: there is none.
          ProcessLost: it is gone.
        """
        child = self._take() or self._start()
        interruption.attach(child.kill)
        is_usable = False
        try:
            child.wait_ready()
            yield child
            is_usable = True
        finally:
            self._give_back(child, is_usable=interruption.detach() and is_usable)

    def tell_stopping(self) -> None:
        """Let steps know that the worker is about to stop."""
        with self._changing:
            self._is_stopping = True
            children = list(self._all)
        for each in children:
            each.tell_stopping()

    def close(self, timeout_seconds: float) -> None:
        """End all: those that are idle exit their lifespans, and whoever still lives after that is killed."""
        with self._changing:
            children, idle = list(self._all), list(self._idle)
            self._all.clear()
            self._idle.clear()
        for each in idle:
            each.close()
        due = time.monotonic() + timeout_seconds
        for each in children:
            if each not in idle or not each.wait(due - time.monotonic()):
                each.kill()
                each.wait(_REAP_SECONDS)
        if self._starting is not None:
            self._starting.shutdown(wait=False)

    def _take(self) -> Child | None:
        with self._changing:
            while self._idle:
                child = self._idle.pop()
                if child.is_alive:
                    return child
                self._all.discard(child)
        return None

    def _start(self) -> Child:
        with self._changing:
            if self._starting is None:
                self._starting = ThreadPoolExecutor(1, thread_name_prefix="dramaturg-processes")
            starting = self._starting
        child = starting.submit(Child, self._first_words()).result()
        with self._changing:
            self._all.add(child)
            is_stopping = self._is_stopping
        if is_stopping:
            child.tell_stopping()
        return child

    def _give_back(self, child: Child, *, is_usable: bool) -> None:
        if not is_usable:
            child.kill()
            child.wait(_REAP_SECONDS)
        with self._changing:
            if is_usable and child in self._all:
                self._idle.append(child)
            else:
                self._all.discard(child)

    def _first_words(self) -> bytes:
        known: dict[str, Any] = multiprocessing.spawn.get_preparation_data("dramaturg-step")
        return to_json(
            {
                "prepare": {name: known[name] for name in _PREPARED if name in known},
                "modules": list(dict.fromkeys(each.__module__ for each in self._registry.lifespans)),
                "max_payload": self._max_payload,
                "codec": codec_identity(),
                "log_level": logging.getLogger().getEffectiveLevel(),
            }
        )
