"""``dramaturg worker``: processes that run steps and plain actors, replaced when they die."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dramaturg.cli.arguments import duration_of
from dramaturg.cli.connection import log_to_stderr
from dramaturg.cli.dev import Modules, MoreModules, Threads
from dramaturg.cli.exits import UsageError
from dramaturg.cli.output import say

if TYPE_CHECKING:
    from dramaturg_actors.serving import Service
    from dramaturg_protocol.checks import Check
    from dramaturg_protocol.config import Settings

Processes = Annotated[int, typer.Option("-p", "--processes", min=1, help="Processes of their own, replaced when dead.")]
Queues = Annotated[
    list[str] | None,
    typer.Option("-Q", "--queue", metavar="QUEUE", help="Serve this queue and no other. Repeatable, or a,b."),
]
ExceptQueues = Annotated[
    list[str] | None,
    typer.Option("-X", "--except-queue", metavar="QUEUE", help="Do not serve this queue. Repeatable, or a,b."),
]
AsyncLimit = Annotated[int, typer.Option(min=1, help="Async steps that run at once, in each process.")]
ShutdownTimeout = Annotated[
    str, typer.Option(metavar="DURATION", help="What steps under way may take once it is told to stop.")
]


def worker(
    modules: Modules = None,
    module: MoreModules = None,
    processes: Processes = 1,
    threads: Threads = 8,
    queue: Queues = None,
    except_queue: ExceptQueues = None,
    async_limit: AsyncLimit = 100,
    shutdown_timeout: ShutdownTimeout = "25s",
) -> None:
    """Serve steps, and plain Dramatiq actors, until SIGTERM or Ctrl-C.

    At the signal it takes no more steps; those that run may end within --shutdown-timeout, what is left then is
    interrupted and handed back, which counts no attempt. A second signal ends it at once.
    """
    from dramaturg_actors.serving import Service
    from dramaturg_protocol.config import load_settings

    log_to_stderr(logging.INFO)
    settings = load_settings(modules=[*(modules or ()), *(module or ())] or None)
    _refuse_what_cannot_be_served(settings)
    queues, left_out = _names("-Q", queue), _names("-X", except_queue)
    if queues and not set(queues) - set(left_out):
        raise UsageError("-X leaves out every queue that -Q names: there is nothing to serve")
    service = Service(
        modules=tuple(settings.modules),
        threads=threads,
        async_limit=async_limit,
        queues=queues,
        except_queues=left_out,
        shutdown_seconds=duration_of("--shutdown-timeout", shutdown_timeout).total_seconds(),
    )
    say(f"serving {', '.join(settings.modules) or settings.broker} with {processes} process(es) of {threads} threads")
    raise typer.Exit(_run(settings, service, processes))


def _run(settings: Settings, service: Service, processes: int) -> int:
    from dramaturg.monitoring import serve_worker
    from dramaturg_actors.fleet import Fleet
    from dramaturg_actors.shared_metrics import SharedMetrics

    with SharedMetrics() as shared:
        fleet = Fleet(
            service.command(),
            processes=processes,
            shutdown_seconds=service.shutdown_seconds,
            on_end=shared.forget_process,
        )
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda _number, _frame: fleet.stop())
        server = serve_worker(settings, shared, health={"processes": fleet.check}, readiness=_readiness(settings))
        try:
            return fleet.run()
        finally:
            server.stop()


def _refuse_what_cannot_be_served(settings: Settings) -> None:
    from dramaturg_actors.brokers import make_broker

    if settings.broker is None and settings.broker_url == "memory://":
        raise UsageError(
            "DRAMATURG_BROKER_URL is memory://, which stays inside one process, so a worker of its own gets no step: "
            "use dramaturg dev, or name a broker like redis://127.0.0.1:6379/0 or amqp://guest:guest@127.0.0.1:5672/"
        )
    if settings.broker is None:
        make_broker(settings.broker_url).close()
    if not settings.modules and settings.broker is None:
        raise UsageError("name a module to serve, like: dramaturg worker orders; or set DRAMATURG_MODULES")


def _names(option: str, given: Sequence[str] | None) -> tuple[str, ...]:
    from dramaturg_protocol.options import check_call_options

    names = [name for each in given or () for name in each.split(",") if name]
    try:
        return tuple(check_call_options({"queue": name}, option)["queue"] for name in names)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _readiness(settings: Settings) -> Mapping[str, Check]:
    from dramaturg.monitoring import broker_check
    from dramaturg.transports import transport_of

    # The application's own broker is known to its processes only: here its modules are not imported.
    return {} if settings.broker is not None else {"broker": broker_check(transport_of(settings))}
