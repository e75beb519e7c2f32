"""``dramaturg dev``: coordinator and workers in one process, until it is told to stop."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from dramaturg.cli.connection import log_to_stderr
from dramaturg.cli.exits import UsageError
from dramaturg.cli.output import say

if TYPE_CHECKING:
    from dramaturg.embedded import Engine

Modules = Annotated[
    list[str] | None, typer.Argument(metavar="[MODULE]...", help="Modules that define workflows and steps.")
]
MoreModules = Annotated[list[str] | None, typer.Option("-m", "--module", metavar="MODULE", help="One more module.")]
Threads = Annotated[int, typer.Option("-t", "--threads", min=1, help="Plain steps that run at once.")]
_DRAIN_SECONDS = 10.0
_LOOK_SECONDS = 0.5


def dev(modules: Modules = None, module: MoreModules = None, threads: Threads = 8) -> None:
    """Serve workflows: coordinator and workers in this process, until Ctrl-C.

    Clients and 'dramaturg start' in other terminals reach it through the database. It stops gracefully at SIGINT or
    SIGTERM: steps that run may end, everything else goes on at the next start. A second signal ends it at once.
    """
    from dramaturg.cli.happenings import log_what_happens
    from dramaturg.embedded import Engine
    from dramaturg.monitoring import Monitoring
    from dramaturg_protocol.config import load_settings

    log_to_stderr(logging.INFO)
    settings = load_settings(modules=[*(modules or ()), *(module or ())] or None)
    if not settings.modules:
        raise UsageError("name a module to serve, like: dramaturg dev orders; or set DRAMATURG_MODULES")
    stopping = stop_on_signals()
    monitoring = Monitoring(settings)
    engine = Engine(settings, threads=threads, observers=[log_what_happens], monitoring=monitoring)
    engine.start()
    try:
        _tell_what_is_served(engine, threads, monitoring.port)
        wait_until_told(stopping)
        say(f"stopping: steps that run have {_DRAIN_SECONDS:g} s to end; again to end at once")
    finally:
        engine.stop(_DRAIN_SECONDS)
    say("stopped; what is open goes on at the next start")


def stop_on_signals() -> threading.Event:
    """An event that the first SIGINT or SIGTERM sets; the second ends the process as if nobody had listened."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        stopping.set()

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop)
    return stopping


def wait_until_told(stopping: threading.Event) -> None:
    """Wait for the event of `stop_on_signals`.

    The kernel gives a signal to any thread of a process that was stopped and goes on, and only the main thread handles
    it: one that waits for ever would never hear of it.
    """
    while not stopping.wait(_LOOK_SECONDS):
        pass


def _tell_what_is_served(engine: Engine, threads: int, metrics_port: int | None) -> None:
    from dramaturg.cli.settings_shown import without_password
    from dramaturg_protocol.definitions import registry

    names = [
        name if set(versions) == {1} else f"{name} (version {', '.join(map(str, sorted(versions)))})"
        for name, versions in sorted(registry.workflows.items())
    ]
    say(f"database   {without_password(engine.settings.database_url)}")
    say(f"workflows  {', '.join(names) or 'none'}")
    say(f"steps      {', '.join(sorted(registry.steps)) or 'none'}, on {threads} threads")
    if metrics_port is not None:
        say(f"metrics    http://127.0.0.1:{metrics_port}/metrics")
    example = f"dramaturg start {min(registry.workflows)}" if names else "dramaturg start NAME"
    say(f"ready; from another terminal: {example}; Ctrl-C stops")
