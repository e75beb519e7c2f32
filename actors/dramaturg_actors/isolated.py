"""The life of a process for isolated steps: one step after the other, until its parent is gone or has no need of it.

Run by `processes` as a module, with the descriptor of a pipe and the parent's pid as its arguments.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib
import logging
import multiprocessing.spawn
import os
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Final

from pydantic_core import from_json, to_json

from dramaturg_actors.attempts import Attempt
from dramaturg_actors.context import context_of
from dramaturg_actors.event_loop import EventLoopThread
from dramaturg_actors.execution import Execution
from dramaturg_actors.failures import Outcome
from dramaturg_actors.interrupts import Deadlines
from dramaturg_actors.lifespans import Lifespans
from dramaturg_actors.processes import NEWS, OUTCOME, READY, STOPPING, TASK, UNFIT
from dramaturg_actors.vital_signs import VitalSigns
from dramaturg_protocol.codec_choice import choose_codec
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.errors import FatalError
from dramaturg_protocol.messages import ReportKind, StepTask, decode_task

_EXIT_SECONDS: Final = 5.0
_NEWS_SECONDS: Final = 0.5
_PR_SET_PDEATHSIG: Final = 1
_MAIN: Final = "__main__"


class Isolated:
    """Runs the tasks that come through a pipe, in the main thread.

    Parameters:
      words: what the parent said first.
    """

    def __init__(self, link: Any, words: Mapping[str, Any]) -> None:
        self._link = link
        self._main = {name: value for name, value in words["prepare"].items() if name.startswith("init_main")}
        self._stopping = threading.Event()
        self._tasks: SimpleQueue[tuple[StepTask, str] | None] = SimpleQueue()
        self._is_busy = False
        self._sending = threading.Lock()
        self._signs: VitalSigns | None = None
        self._begun, self._ended = threading.Event(), threading.Event()
        self._loop = EventLoopThread()
        self._execution = Execution(registry, Deadlines(), words["max_payload"])
        self._state: Mapping[str, Any] = {}
        self._lifespans: Lifespans | None = None

    def enter(self, modules: list[str]) -> None:
        """Enter the lifespans that these modules define."""
        for module in modules:
            self._import(module)
        if registry.lifespans:
            self._loop.start()
            self._lifespans = Lifespans(registry.lifespans, self._loop)
            self._state = self._lifespans.start()

    def serve(self) -> None:
        """Run what comes until the pipe is closed."""
        threading.Thread(target=self._listen, name="dramaturg-parent", daemon=True).start()
        threading.Thread(target=self._tell, name="dramaturg-pulse", daemon=True).start()
        while (job := self._tasks.get()) is not None:
            outcome = OUTCOME + to_json(self._run(*job))
            self._is_busy = False
            self._send(outcome)
        if self._lifespans is not None:
            self._lifespans.stop(_EXIT_SECONDS)
            self._loop.stop(_EXIT_SECONDS)

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                words = self._link.recv_bytes()
                if words[:1] == STOPPING:
                    self._stopping.set()
                elif words[:1] == TASK:
                    self._is_busy = True
                    said = from_json(words[1:])
                    self._tasks.put((decode_task(said["task"]), said["module"]))
        if self._is_busy:
            # The worker is gone, and nobody hears what comes of it.
            os._exit(1)
        self._tasks.put(None)

    def _tell(self) -> None:
        """Pass on what a step says of itself."""
        while self._begun.wait():
            self._send_news()
            self._ended.wait(_NEWS_SECONDS)

    def _send_news(self) -> None:
        with self._sending:
            news = None if self._signs is None else self._signs.take()
            if news is not None:
                self._link.send_bytes(NEWS + to_json(news._asdict()))

    def _send(self, data: bytes) -> None:
        """Send the last of a step."""
        self._send_news()
        with self._sending:
            self._signs = None
            self._link.send_bytes(data)

    def _run(self, task: StepTask, module: str) -> Outcome:
        context = context_of(task, self._state, self._stopping.is_set)
        # Its time is limited by the parent, which kills.
        attempt = Attempt(dataclasses.replace(task, timeout=None, heartbeat_timeout=None, isolated=False), context)
        try:
            self._know(task, module)
        except BaseException as error:  # noqa: BLE001 - whatever a module raises at its import
            attempt.fail(error)
        else:
            self._signs = context.signs
            self._ended.clear()
            self._begun.set()
            # What the step raised is in its outcome.
            with contextlib.suppress(BaseException):
                self._execution.run_in_thread(attempt)
            self._begun.clear()
            self._ended.set()
        return attempt.outcome or Outcome(ReportKind.FAILED, error_type="InternalError", message="there is no outcome")

    def _know(self, task: StepTask, module: str) -> None:
        if self._has_code(task):
            return
        self._import(module)
        if not self._has_code(task):
            raise FatalError(
                f'step {task.name!r} with isolation="process" is not there after an import of module {module!r} in its '
                f"own process: define it at the top level of a module"
            )

    def _has_code(self, task: StepTask) -> bool:
        definition = registry.steps.get(task.name)
        return definition is not None and definition.fn is not None

    def _import(self, module: str) -> None:
        if module == _MAIN:
            # As multiprocessing does it: under the name __mp_main__, so that `if __name__ == "__main__"` holds it back.
            multiprocessing.spawn.prepare(self._main)
        else:
            importlib.import_module(module)


def main() -> int:
    """The life of a process; its exit code."""
    _end_with(int(sys.argv[2]))
    for each in (signal.SIGINT, signal.SIGTERM):
        # The worker decides, and kills.
        signal.signal(each, signal.SIG_IGN)
    link: Any = Connection(int(sys.argv[1]))
    words: dict[str, Any] = from_json(link.recv_bytes())
    _log_as(words["log_level"])
    prepare: Any = {name: value for name, value in words["prepare"].items() if not name.startswith("init_main")}
    multiprocessing.spawn.prepare(prepare)
    isolated = Isolated(link, words)
    try:
        if words["codec"] is not None:
            name, *keys = words["codec"]
            choose_codec(name, keys)
        isolated.enter(words["modules"])
    except BaseException as error:  # noqa: BLE001 - whatever a lifespan raises
        link.send_bytes(UNFIT + f"{type(error).__name__}: {error}".encode())
        return 1
    link.send_bytes(READY)
    isolated.serve()
    return 0


def _end_with(parent: int) -> None:
    """Be killed when the parent is; Linux only, elsewhere the closed pipe has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _log_as(level: int) -> None:
    form = f"%(asctime)s %(levelname)-7s [{os.getpid()}] %(name)s: %(message)s"
    logging.basicConfig(level=level, format=form, datefmt="%H:%M:%S %Z")


if __name__ == "__main__":
    sys.exit(main())
