"""What the work runs on: everything in this process, or processes of their own over real servers."""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import URL, create_engine, make_url, text

from benchmarks.baseline import in_memory, over_redis
from benchmarks.measure import COMMITS, DATABASE_COMMITS, WAL_BYTES, Ends, Figures, Stopwatch
from benchmarks.processes import Processes, free_port, look_for, postgresql_server, redis_server
from benchmarks.workloads import Bench, warm_up
from dramaturg import Client, Settings
from dramaturg.embedded import Engine
from dramaturg_protocol.redis_client import connect
from dramaturg_protocol.redis_keys import RedisKeys
from dramaturg_store.engines import make_engine
from dramaturg_store.upgrade import upgrade

_MODULE = "benchmarks.workloads"
_STATISTICS_SECONDS = 1.1


@dataclass(frozen=True, slots=True)
class Size:
    """How much serves a stack, and what part of the work is done.

    Attributes:
      threads: of each process.
    """

    processes: int
    threads: int
    scale: float


@dataclass(frozen=True, slots=True)
class Running:
    """A stack whose servers are up.

    Attributes:
      bare: measures bare Dramatiq on it, with so many messages.
      bench: a new database and what serves it, for the time of a block.
    """

    bare: Callable[[int], Figures]
    bench: Callable[[], AbstractContextManager[Bench]]


@dataclass(frozen=True, slots=True)
class Stack:
    """One way to run.

    Attributes:
      programs: those that have to be installed.
      running: has it up for the time of a block; takes a folder for data.
      is_inside: whether all of it is this process; then each workload gets an engine of its own.
    """

    name: str
    title: str
    programs: tuple[str, ...]
    running: Callable[[Path, Size], AbstractContextManager[Running]]
    is_inside: bool = False

    def look(self) -> None:
        """Say what is missing for it.

        Raises:
          Missing: a program.
        """
        look_for(*self.programs)


class RedisEnds:
    """Counts the runs that end, from what the coordinator tells over Redis as it commits."""

    def __init__(self, url: str, namespace: str) -> None:
        self.cpu: list[float] = []
        client: Any = connect(url)
        self._news = client.pubsub(ignore_subscribe_messages=True)
        self._news.psubscribe(RedisKeys(namespace).news("*"))

    @contextmanager
    def awaited(self, count: int, timeout: float = 300.0) -> Generator[None, None, None]:
        """Leave the block when so many runs have ended since it was entered."""
        while self._news.get_message(timeout=0.01) is not None:
            pass
        yield
        due, left = time.monotonic() + timeout, count
        while left:
            if self._news.get_message(timeout=1.0) is not None:
                left -= 1
            elif time.monotonic() > due:
                raise TimeoutError(f"{left} of {count} runs are still open after {timeout:g} s")

    def close(self) -> None:
        self._news.close()


@contextmanager
def _embedded(folder: Path, size: Size) -> Generator[Running, None, None]:
    yield Running(partial(in_memory, size.threads), partial(_embedded_bench, folder, size))


@contextmanager
def _embedded_bench(folder: Path, size: Size) -> Generator[Bench, None, None]:
    ends = Ends()
    with TemporaryDirectory(dir=folder, prefix="database-") as place:
        settings = Settings(database_url=f"sqlite:///{place}/bench.db", broker_url="memory://", namespace="bench")
        apart = settings.model_copy(update={"database_url": f"sqlite:///{place}/apart.db"})
        with Engine(settings, threads=size.threads, observers=[ends.committed]) as client:
            bench = Bench(client, apart, ends, lambda: Stopwatch(counts=lambda: {COMMITS: ends.commits}), size.scale)
            warm_up(bench)
            yield bench


@contextmanager
def _on_postgresql(folder: Path, size: Size) -> Generator[Running, None, None]:
    processes = Processes(folder)
    # The server's user has to get through.
    folder.chmod(0o755)
    with postgresql_server(processes, folder) as server, redis_server(processes, folder) as url:

        def new_database() -> str:
            name = f"bench_{token_hex(4)}"
            engine = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            engine.dispose()
            return f"{server}/{name}"

        yield _over_redis(processes, url, size, new_database)


@contextmanager
def _on_sqlite(folder: Path, size: Size) -> Generator[Running, None, None]:
    processes = Processes(folder)
    with redis_server(processes, folder) as url:
        yield _over_redis(processes, url, size, lambda: f"sqlite:///{folder}/bench_{token_hex(4)}.db")


def _over_redis(processes: Processes, url: str, size: Size, new_database: Callable[[], str]) -> Running:
    return Running(
        partial(over_redis, processes, url, size.processes, size.threads),
        lambda: _bench_over_redis(processes, url, size, new_database()),
    )


@contextmanager
def _bench_over_redis(processes: Processes, url: str, size: Size, database: str) -> Generator[Bench, None, None]:
    namespace = f"bench_{token_hex(4)}"
    settings = Settings(database_url=database, broker_url=url, namespace=namespace, modules=[_MODULE])
    apart = settings.model_copy(update={"namespace": f"{namespace}_apart"})
    engine = make_engine(database)
    for each in (settings, apart):
        upgrade(engine, each.namespace)
    engine.dispose()
    ports = free_port(), free_port()
    environment = [
        {
            "DRAMATURG_DATABASE_URL": database,
            "DRAMATURG_BROKER_URL": url,
            "DRAMATURG_NAMESPACE": namespace,
            "DRAMATURG_METRICS_PORT": str(port),
        }
        for port in ports
    ]
    command = [sys.executable, "-m", "dramaturg"]
    coordinator = [*command, "coordinator", "--quiet", _MODULE]
    worker = [*command, "worker", "-p", str(size.processes), "--threads", str(size.threads), _MODULE]
    ends = RedisEnds(url, namespace)
    try:
        with (
            processes.running("coordinator", coordinator, partial(_is_ready, ports[0]), environment[0]),
            processes.running("worker", worker, partial(_is_ready, ports[1]), environment[1]),
            Client(settings) as client,
        ):
            counts = partial(_counts, ports[0], database)
            watch = partial(Stopwatch, processes.cpu_seconds, counts)
            bench = Bench(client, apart, ends, watch, size.scale)
            warm_up(bench)
            yield bench
    finally:
        ends.close()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except OSError:
        return False


def _commits(port: int) -> float:
    """How often the coordinator committed so far: it counts that itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("dramaturg_commit_seconds_count"))


def _counts(port: int, database: str) -> dict[str, float]:
    url = make_url(database)
    return {COMMITS: _commits(port), **(_database_counts(url) if url.get_backend_name() == "postgresql" else {})}


def _database_counts(url: URL) -> dict[str, float]:
    """What PostgreSQL counts itself: commits of everybody, clients too, and bytes of its write-ahead log."""
    # Its backends tell of their transactions once a second.
    time.sleep(_STATISTICS_SECONDS)
    engine = create_engine(url)
    with engine.connect() as connection:
        commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        written = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"
        found = {
            DATABASE_COMMITS: float(connection.scalar(text(commits)) or 0),
            WAL_BYTES: float(connection.scalar(text(written)) or 0),
        }
    engine.dispose()
    return found


STACKS = (
    Stack("embedded", "everything in one process: a SQLite file and memory", (), _embedded, is_inside=True),
    Stack(
        "redis-postgresql",
        "Redis and PostgreSQL; coordinator and worker in processes of their own",
        ("redis-server", "initdb", "postgres", "pg_isready"),
        _on_postgresql,
    ),
    Stack(
        "redis-sqlite",
        "Redis and a SQLite file; coordinator and worker in processes of their own",
        ("redis-server",),
        _on_sqlite,
    ),
)
