"""``dramaturg coordinator``: a coordinator in a process of its own, with a parent that watches it, until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from dramaturg.cli.connection import log_to_stderr
from dramaturg.cli.dev import Modules, MoreModules, stop_on_signals, wait_until_told
from dramaturg.cli.exits import UsageError
from dramaturg.cli.output import say

if TYPE_CHECKING:
    from dramaturg.supervision import Supervised

Quiet = Annotated[bool, typer.Option("--quiet", help="Log warnings and errors only.")]


def coordinator(modules: Modules = None, module: MoreModules = None, quiet: Quiet = False) -> None:
    """Advance workflows, with workers and clients in other processes.

    Several may run: they share the runs, and take over from one that is gone. It waits for a database or a broker that is
    not there, and says so. It works in a child process, which is replaced when it dies or hangs. At SIGINT or SIGTERM it
    finishes its turn and hands over; a second signal ends it at once.
    """
    from dramaturg.supervision import join

    log_to_stderr(logging.WARNING if quiet else logging.INFO)
    named = [*(modules or ()), *(module or ())]
    supervised = join()
    if supervised is None:
        raise typer.Exit(_supervise(named, quiet=quiet))
    _coordinate(named, supervised, quiet=quiet)


def _supervise(modules: Sequence[str], *, quiet: bool) -> int:
    from dramaturg.supervision import Supervisor
    from dramaturg_coordinator.rules import CODE_LIMIT

    options = ["--quiet"] if quiet else []
    command = [
        sys.executable,
        "-u",
        "-m",
        "dramaturg",
        "coordinator",
        *options,
        *(f"--module={each}" for each in modules),
    ]
    supervisor = Supervisor(command, code_limit=CODE_LIMIT)
    asked: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        supervisor.stop()

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop)
    code = supervisor.run()
    if len(asked) > 1:
        # As if nobody had listened: whoever asked twice sees the signal.
        signal.signal(asked[1], signal.SIG_DFL)
        os.kill(os.getpid(), asked[1])
    return code


def _coordinate(modules: Sequence[str], supervised: Supervised, *, quiet: bool) -> None:
    from dramaturg.cli.happenings import log_what_happens
    from dramaturg.coordinating import CoordinatorProcess
    from dramaturg.monitoring import Monitoring
    from dramaturg_protocol.config import load_settings
    from dramaturg_protocol.definitions import registry

    settings = load_settings(modules=list(modules) or None)
    if not settings.modules:
        raise UsageError("name a module to serve, like: dramaturg coordinator orders; or set DRAMATURG_MODULES")
    stopping = stop_on_signals()
    observers = [] if quiet else [log_what_happens]
    process = CoordinatorProcess(
        settings,
        observers=observers,
        monitoring=Monitoring(settings),
        stopping=stopping,
        supervised=supervised,
    )
    try:
        if process.start():
            say(f"coordinator of {', '.join(sorted(registry.workflows)) or 'no workflow'}; Ctrl-C stops")
            wait_until_told(stopping)
    finally:
        process.stop()
    say("stopped; what is open goes on with the next coordinator")
