"""Clients that start runs in every way there is, talk to some and stop others, while services come and go.

Each client is a thread with a chance of its own, seeded: what it decides is repeatable, when it gets to it is not.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from chaos.conversations import CONVERSATIONS, Speaker
from chaos.orders import Journal, Order, Promise, Verb, now
from chaos.shapes import SHAPES, Shape
from chaos.talking import TALKS, rounds
from dramaturg import AlreadyStarted, Client, ClientError, Handle, NotAnswered, Settings, Unavailable

#: How long a client insists on a verb while services are away.
_INSISTENCE_SECONDS = 300.0

_ALL = (*SHAPES, *TALKS)

_logger = logging.getLogger("chaos.load")


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is asked for.

    Attributes:
      starts: runs a second, of all clients.
      most_open: above so many open runs clients wait.
    """

    starts: float
    most_open: int


class Load:
    """The clients.

    Parameters:
      settings: with database and broker.
      over_broker: settings of a client without a database.
      seed: of all decisions.
    """

    def __init__(
        self, settings: Settings, over_broker: Settings, journal: Journal, *, pace: Pace, clients: int, seed: int
    ) -> None:
        self._settings = settings
        self._over_broker = over_broker
        self._journal = journal
        self._pace = pace
        self._over = threading.Event()
        self._count_open = _OpenRuns(settings)
        names = [f"client-{number}" for number in range(clients)]
        self._threads = [
            threading.Thread(target=self._serve, args=(random.Random(f"{seed}:{name}"),), name=name) for name in names
        ]
        #: What no client may see: anything but the errors of services that are away.
        self.surprises: list[str] = []

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End: what is under way is waited for."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._count_open.close()

    def _serve(self, chance: random.Random) -> None:
        with Client(self._settings) as client, Client(self._over_broker) as sender:
            one = _OneClient(client, sender, self._journal, chance, self._over)
            while not self._over.is_set():
                started = 1
                try:
                    started = one.do_something()
                except Unavailable:
                    pass
                except Exception as error:
                    self.surprises.append(f"{type(error).__name__}: {error}")
                    _logger.exception("a client was surprised")
                self._wait(chance, started)

    def _wait(self, chance: random.Random, started: int) -> None:
        mean = len(self._threads) * max(started, 1) / self._pace.starts
        self._over.wait(min(chance.expovariate(1 / mean), 5 * mean))
        while not self._over.is_set() and self._count_open() > self._pace.most_open:
            self._over.wait(0.5)


class _OneClient:
    """What one of them does, one thing after the other.

    Parameters:
      client: with a database.
      sender: without.
    """

    def __init__(
        self, client: Client, sender: Client, journal: Journal, chance: random.Random, over: threading.Event
    ) -> None:
        self._client = client
        self._sender = sender
        self._journal = journal
        self._chance = chance
        self._over = over
        self._speaker = Speaker(client, journal, chance, _INSISTENCE_SECONDS)

    def do_something(self) -> int:
        """Start one run or many; how many.

        Raises:
          Unavailable: a service is away.
        """
        shape = self._chance.choices(_ALL, [each.weight for each in _ALL])[0]
        ways = (self._start, self._start_with_key, self._start_with_id, self._start_many, self._send)
        way = self._chance.choices(ways, (8, 4, 4, 2, 4))[0]
        if shape.then:
            # One whose start failed could not be found, unless it has a name.
            way = self._start_by_signals if shape.then == "gather" else self._start_with_key
        return way(shape)

    def _start(self, shape: Shape) -> int:
        arguments, tag = shape.draw(self._chance), self._name()

        def call() -> list[Handle[Any]]:
            return [self._client.start(shape.workflow, *arguments, tags={"order": tag})]

        self._follow(self._order(call, shape, [arguments], tag, "start"), shape)
        return 1

    def _start_with_key(self, shape: Shape) -> int:
        return self._start_named(shape, "start with key", {"idempotency_key": self._name()})

    def _start_with_id(self, shape: Shape) -> int:
        # Made again after a failure whose commit went through, the same order is no conflict.
        return self._start_named(
            shape, "start with id", {"id": self._name(), "on_conflict": "use_existing", "reuse": "never"}
        )

    def _start_named(self, shape: Shape, way: str, options: dict[str, Any]) -> int:
        arguments, tag, key = shape.draw(self._chance), self._name(), next(iter(options.values()))

        def call() -> list[Handle[Any]]:
            try:
                return [self._client.start(shape.workflow, *arguments, tags={"order": tag}, **options)]
            except AlreadyStarted as error:
                return [self._client.handle(error.workflow_id, error.run_id)]

        for again in range(2 if self._chance.random() < 0.3 else 1):
            handles = self._order(call, shape, [arguments], tag, f"{way}, again" if again else way, key=key)
            if shape.then != "talk":
                self._follow(handles, shape)
            elif not again:
                self._talk(handles[0], shape, arguments)
        return 1

    def _start_by_signals(self, shape: Shape) -> int:
        """Each start carries a signal: the first one begins the run, and all of them feed it."""
        arguments, tag, workflow_id = shape.draw(self._chance), self._name(), self._name()
        for place in range(arguments[1]):
            call = self._speaker.start(arguments, place, workflow_id, tag)
            self._order(call, shape, [arguments], tag, "start with signal", key=workflow_id)
        return 1

    def _start_many(self, shape: Shape) -> int:
        items, tag = [shape.draw(self._chance) for _ in range(self._chance.randint(2, 30))], self._name()

        def call() -> list[Handle[Any]]:
            return self._client.start_many(shape.workflow, items, tags={"order": tag})

        self._follow(self._order(call, shape, items, tag, "start_many"), shape)
        return len(items)

    def _send(self, shape: Shape) -> int:
        arguments, tag = shape.draw(self._chance), self._name()

        def call() -> list[Handle[Any]]:
            return [self._sender.start(shape.workflow, *arguments, tags={"order": tag})]

        self._order(call, shape, [arguments], tag, "message", promise=Promise.SENT)
        return 1

    def _order(
        self,
        call: Callable[[], list[Handle[Any]]],
        shape: Shape,
        items: Sequence[tuple[Any, ...]],
        tag: str,
        way: str,
        *,
        key: str = "",
        promise: Promise = Promise.ACCEPTED,
    ) -> list[Handle[Any]]:
        """Make a call and write down what came of it. One with a key is made until it is accepted: that is what keys
        are for.
        """
        since = now()
        while True:
            try:
                handles = call()
                run_ids = [handle.run_id for handle in handles]
            except Unavailable as error:
                self._journal.refused(way, error)
                if not key:
                    run_ids = [""] * len(items)
                    promise = Promise.UNCERTAIN
                    self._write(promise, shape, items, tag, way, since, run_ids, key)
                    raise
                threading.Event().wait(0.5)
            else:
                self._write(promise, shape, items, tag, way, since, run_ids, key)
                return handles

    def _write(
        self,
        promise: Promise,
        shape: Shape,
        items: Sequence[tuple[Any, ...]],
        tag: str,
        way: str,
        at: float,
        run_ids: Sequence[str],
        key: str,
    ) -> None:
        name = shape.workflow.name
        self._journal.ordered(
            [
                Order(tag, promise, name, way, at, run_id, json.dumps(shape.result(item)), shape.status, key)
                for item, run_id in zip(items, run_ids, strict=True)
            ]
        )

    def _follow(self, handles: Sequence[Handle[Any]], shape: Shape) -> None:
        """Do what is done with runs of this shape; with the others now and then something."""
        for handle in handles:
            chance = self._chance.random()
            self._over.wait(self._chance.uniform(0, 2) / len(handles) if shape.then or chance < 0.06 else 0)
            if shape.then == "retry":
                self._retry(handle)
            elif shape.then == "stop" or chance < 0.03:
                self._stop_one(handle, self._chance.choice(("cancel", "terminate")), insist=bool(shape.then))
            elif chance < 0.06:
                self._pause(handle)

    def _talk(self, handle: Handle[Any], shape: Shape, arguments: tuple[Any, ...]) -> None:
        """Talk to a run; now and then it is paused meanwhile."""
        converse = partial(CONVERSATIONS[shape.workflow.name], self._speaker, handle, arguments)
        # In a chain the handle shows the first run, and not whether the newest one goes on again.
        if shape.workflow is rounds or self._chance.random() > 0.2:
            converse()
            return
        pausing = threading.Thread(target=self._pause, args=(handle,), name="pausing")
        pausing.start()
        try:
            converse()
        finally:
            pausing.join()

    def _pause(self, handle: Handle[Any]) -> None:
        """Pause a run for a moment; however that ends, it has to go on."""
        with suppress(ClientError):
            handle.pause(by="chaos")
        self._over.wait(1.0)
        self._until(lambda: self._attempt(handle.resume, "resume") and handle.describe().status != "PAUSED")

    def _retry(self, handle: Handle[Any]) -> None:
        """Have a run that fails go on, as often as it takes."""

        def is_done() -> bool:
            if handle.describe().status == "FAILED":
                self._attempt(handle.retry, "retry")
            return handle.describe().status == "COMPLETED"

        self._until(is_done)

    def _attempt(self, verb: Callable[..., None], name: str) -> bool:
        """Use a verb; whether it was answered, be it by a refusal."""
        try:
            verb(by="chaos")
        except (NotAnswered, Unavailable) as error:
            self._journal.refused(name, error)
            return False
        except ClientError as error:
            self._journal.refused(name, error)
        return True

    def _until(self, is_done: Callable[[], bool]) -> None:
        due = time.monotonic() + _INSISTENCE_SECONDS
        while time.monotonic() < due:
            with suppress(Unavailable):
                if is_done():
                    return
            threading.Event().wait(0.5)

    def _stop_one(self, handle: Handle[Any], verb: str, *, insist: bool) -> None:
        due = time.monotonic() + _INSISTENCE_SECONDS
        while True:
            asked, is_answered = now(), True
            try:
                getattr(handle, verb)(by="chaos")
            except (NotAnswered, Unavailable) as error:
                self._journal.refused(verb, error)
                is_answered = False
            self._journal.asked(Verb(handle.run_id, verb, asked, now(), is_answered))
            if is_answered or not insist or time.monotonic() > due:
                return
            threading.Event().wait(0.5)

    def _name(self) -> str:
        return f"{self._chance.getrandbits(64):016x}"


class _OpenRuns:
    """How many runs are open, asked once a second at most; the last answer while the database is away."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings)
        self._lock = threading.Lock()
        self._known, self._due = 0, 0.0

    def __call__(self) -> int:
        with self._lock:
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + 1.0
                with suppress(Unavailable):
                    self._known = self._client.count(status=("PENDING", "RUNNING", "WAITING", "PAUSED", "BLOCKED"))
            return self._known

    def close(self) -> None:
        self._client.close()
