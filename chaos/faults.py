"""What is done to a fleet and its servers. A fault is drawn beforehand, so that a seed repeats all of its decisions.

A new fault is a function `(world, fault) → None` and one line in `FAULTS`. It leaves everything running again: the
next one does not wait for it, each goes on in a thread of its own, but two never work on one target at a time.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import psycopg
import redis

from chaos.members import Member
from chaos.orders import now
from chaos.servers import Server
from chaos.world import World


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a schedule.

    Attributes:
      at: seconds after the load began.
      target: which coordinator or worker, counted from 0 and around.
      seconds: how long it lasts: frozen, away, or until it is started again.
    """

    at: float
    name: str
    target: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.at:7.1f} s  {self.name} [{self.target}] {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault.

    Attributes:
      strike: does it, and undoes it after the fault's seconds.
      on: ``coordinators``, ``workers``, ``redis`` or ``postgres``.
      seconds: the least and the most that it lasts, in lease times for processes that are frozen.
      loses_messages: whether Redis is empty afterwards.
    """

    strike: Callable[[World, Fault], None]
    on: str
    weight: int
    seconds: tuple[float, float]
    in_leases: bool = False
    loses_messages: bool = False


def _coordinator(world: World, fault: Fault) -> Member:
    return world.coordinators[fault.target % len(world.coordinators)]


def _worker(world: World, fault: Fault) -> Member:
    return world.workers[fault.target % len(world.workers)]


def _then_start(world: World, member: Member, fault: Fault) -> None:
    world.over.wait(fault.seconds)
    member.start()


def _frozen(world: World, member: Member, fault: Fault) -> None:
    member.freeze()
    world.over.wait(fault.seconds)
    member.wake()


def _coordinator_killed(world: World, fault: Fault) -> None:
    member = _coordinator(world, fault)
    member.kill()
    _then_start(world, member, fault)


def _coordinator_stopped(world: World, fault: Fault) -> None:
    member = _coordinator(world, fault)
    member.stop()
    _then_start(world, member, fault)


def _worker_killed(world: World, fault: Fault) -> None:
    member = _worker(world, fault)
    member.kill()
    _then_start(world, member, fault)


def _worker_child_killed(world: World, fault: Fault) -> None:
    _worker(world, fault).kill_children()


def _worker_parent_killed(world: World, fault: Fault) -> None:
    member = _worker(world, fault)
    member.kill_parent()
    _then_start(world, member, fault)


def _worker_stopped(world: World, fault: Fault) -> None:
    member = _worker(world, fault)
    member.stop()
    _then_start(world, member, fault)


def _away(world: World, server: Server, fault: Fault, end: Callable[[], None]) -> None:
    end()
    world.over.wait(fault.seconds)
    server.start()


def _server_frozen(world: World, server: Server, fault: Fault) -> None:
    server.signal(signal.SIGSTOP)
    world.over.wait(fault.seconds)
    server.signal(signal.SIGCONT)


def _redis_flushed(world: World, _: Fault) -> None:
    with suppress(redis.RedisError), world.client_of_redis() as client:
        client.flushall()  # pyright: ignore[reportUnknownMemberType]


def _backends_killed(world: World, _: Fault) -> None:
    with suppress(psycopg.OperationalError), psycopg.connect(world.postgres.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


def _connections_exhausted(world: World, fault: Fault) -> None:
    """Take every connection that is left, and every one that others give back, for a while."""
    with ExitStack() as stack:
        over = threading.Timer(fault.seconds, lambda: None)
        over.start()
        while over.is_alive() and not world.over.is_set():
            try:
                stack.enter_context(psycopg.connect(world.postgres.dsn, connect_timeout=2))
            except psycopg.OperationalError:
                world.over.wait(0.05)
        over.cancel()


FAULTS: Mapping[str, Kind] = {
    "coordinator killed": Kind(_coordinator_killed, "coordinators", 6, (0, 8)),
    "coordinator frozen": Kind(
        lambda world, fault: _frozen(world, _coordinator(world, fault), fault),
        "coordinators",
        5,
        (1.5, 4),
        in_leases=True,
    ),
    "coordinator stopped": Kind(_coordinator_stopped, "coordinators", 2, (0, 4)),
    "worker killed": Kind(_worker_killed, "workers", 4, (0, 8)),
    "worker's child killed": Kind(_worker_child_killed, "workers", 4, (0, 0)),
    "worker's parent killed": Kind(_worker_parent_killed, "workers", 2, (0, 4)),
    "worker frozen": Kind(
        lambda world, fault: _frozen(world, _worker(world, fault), fault), "workers", 4, (0.5, 4), in_leases=True
    ),
    "worker stopped": Kind(_worker_stopped, "workers", 2, (0, 4)),
    "Redis emptied": Kind(_redis_flushed, "redis", 3, (0, 0), loses_messages=True),
    "Redis killed": Kind(
        lambda world, fault: _away(world, world.redis, fault, world.redis.crash),
        "redis",
        3,
        (0, 10),
        loses_messages=True,
    ),
    "Redis frozen": Kind(lambda world, fault: _server_frozen(world, world.redis, fault), "redis", 2, (1, 10)),
    "PostgreSQL restarted": Kind(
        lambda world, fault: _away(world, world.postgres, fault, world.postgres.stop), "postgres", 3, (0, 10)
    ),
    "PostgreSQL crashed": Kind(
        lambda world, fault: _away(world, world.postgres, fault, world.postgres.crash), "postgres", 2, (0, 5)
    ),
    "PostgreSQL's backends killed": Kind(_backends_killed, "postgres", 4, (0, 0)),
    "PostgreSQL's connections exhausted": Kind(_connections_exhausted, "postgres", 2, (2, 8)),
}


def schedule(seed: int, seconds: float, mean_pause: float, lease_seconds: float) -> list[Fault]:
    """The faults of a random run, in order: the same for the same arguments."""
    chance = random.Random(seed)
    faults: list[Fault] = []
    at = chance.expovariate(1 / mean_pause)
    while at < seconds:
        name = chance.choices(list(FAULTS), [kind.weight for kind in FAULTS.values()])[0]
        kind = FAULTS[name]
        lasts = chance.uniform(*kind.seconds) * (lease_seconds if kind.in_leases else 1)
        faults.append(Fault(at, name, chance.randrange(1000), lasts))
        at += chance.expovariate(1 / mean_pause)
    return faults


class Strikes:
    """Strikes when it is told to, each fault in a thread of its own.

    Attributes:
      struck: every fault with the time at which it began and was undone, in seconds since the epoch.
      problems: faults that could not be undone.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._locks: dict[tuple[str, int], threading.Lock] = {}
        self._threads: list[threading.Thread] = []
        self.struck: list[tuple[Fault, float, float]] = []
        self.problems: list[str] = []

    def strike(self, fault: Fault) -> None:
        """Begin one."""
        thread = threading.Thread(target=self._strike, args=(fault,), name=fault.name)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Wait until all are over."""
        for thread in self._threads:
            thread.join()

    def _strike(self, fault: Fault) -> None:
        kind = FAULTS[fault.name]
        place = fault.target % len(self._targets(kind.on)) if kind.on in ("coordinators", "workers") else 0
        with self._locks.setdefault((kind.on, place), threading.Lock()):
            begun = now()
            try:
                kind.strike(self._world, fault)
            except Exception as error:
                self.problems.append(f"{fault}: {type(error).__name__}: {error}")
            self.struck.append((fault, begun, now()))

    def _targets(self, on: str) -> Sequence[Member]:
        return self._world.coordinators if on == "coordinators" else self._world.workers
