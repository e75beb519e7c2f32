"""Named scenarios: one kind of fault again and again under a load that never lets up, and the rate before and after."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from chaos import ledger
from chaos.ending import end
from chaos.faults import Fault, Strikes
from chaos.orders import Order, Promise, now
from chaos.shapes import chain
from chaos.watch import Watch
from chaos.world import World
from dramaturg import Client, Unavailable

_WARM_SECONDS = 15.0
_MEASURED_SECONDS = 20.0
_SETTLE_SECONDS = 20.0
_OPEN_RUNS = 200
_STEPS = 10


@dataclass(frozen=True, slots=True)
class Scenario:
    """One of them.

    Attributes:
      faults: their times count from the first one.
      title: what happens.
    """

    title: str
    faults: tuple[Fault, ...]


def _again(name: str, times: int, pause: float, seconds: float = 0.0) -> tuple[Fault, ...]:
    return tuple(Fault(number * pause, name, number, seconds) for number in range(times))


SCENARIOS: Mapping[str, Scenario] = {
    "postgresql-restarted": Scenario(
        "PostgreSQL is restarted six times in thirty seconds", _again("PostgreSQL restarted", 6, 5)
    ),
    "backends-killed": Scenario(
        "every connection to PostgreSQL is ended fifteen times in thirty seconds",
        _again("PostgreSQL's backends killed", 15, 2),
    ),
    "connections-exhausted": Scenario(
        "PostgreSQL has no connection left for twenty seconds",
        _again("PostgreSQL's connections exhausted", 1, 1, 20.0),
    ),
    "crash": Scenario(
        "a coordinator is killed, and a worker",
        (*_again("coordinator killed", 1, 1, 2.0), Fault(5, "worker killed", 0, 2.0)),
    ),
    "crash-loop": Scenario(
        "a coordinator or a worker is killed every two seconds, for thirty",
        tuple(
            Fault(number * 2, ("coordinator killed", "worker killed")[number % 2], number // 2, 1.0)
            for number in range(15)
        ),
    ),
}


class SteadyLoad:
    """Keeps so many runs of ten steps open that the fleet never waits for work."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="steady-load")
        self._started = self._accepted = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End: no more runs are started."""
        self._over.set()
        self._thread.join()

    def _go_on(self) -> None:
        with Client(self._world.settings) as client:
            while not self._over.wait(0.1):
                with suppress(Unavailable):
                    # What is still in the inbox is open too, and no run of a table yet.
                    missing = _OPEN_RUNS - (self._accepted - client.count(status="COMPLETED"))
                    if missing >= _OPEN_RUNS // 10:
                        self._start(client, missing)

    def _start(self, client: Client, count: int) -> None:
        since, first, self._started = now(), self._started, self._started + count
        numbers, tag = range(first, first + count), f"steady-{first}"
        promise, run_ids = Promise.UNCERTAIN, [""] * count
        try:
            handles = client.start_many(chain, [(number, _STEPS) for number in numbers], tags={"order": tag})
            promise, run_ids = Promise.ACCEPTED, [handle.run_id for handle in handles]
            self._accepted += count
        finally:
            self._world.journal.ordered(
                [
                    Order(tag, promise, chain.name, "start_many", since, run_id, str(number + _STEPS), "COMPLETED")
                    for run_id, number in zip(run_ids, numbers, strict=True)
                ]
            )


def run(world: World, name: str, console: Console) -> tuple[int, dict[str, Any]]:
    """Go through a scenario; its exit code, and its rates."""
    scenario = SCENARIOS[name]
    load, watch, strikes = SteadyLoad(world), Watch(world), Strikes(world)
    load.start()
    watch.start()
    windows: list[tuple[float, float]] = []
    try:
        world.over.wait(_WARM_SECONDS)
        windows.append(_window(world))
        struck = time.monotonic()
        for fault in scenario.faults:
            world.over.wait(max(struck + fault.at - time.monotonic(), 0))
            strikes.strike(fault)
        strikes.join()
        over = now()
        world.over.wait(_SETTLE_SECONDS)
        windows.append(_window(world))
    finally:
        strikes.join()
        world.have_all_up()
        load.stop()
    said = {"scenario": name, "what": scenario.title, **_rates(world, windows, over)}
    return end(world, watch, strikes, [], said, console), said


def _window(world: World) -> tuple[float, float]:
    begun = now()
    world.over.wait(_MEASURED_SECONDS)
    return begun, now()


def _rates(world: World, windows: list[tuple[float, float]], over: float) -> dict[str, float]:
    """Steps a second before and after, and how long after the last fault the first step ended."""
    done = [entry.at for entry in ledger.read(world.ledger) if entry.what == "done"]
    before, after = (sum(begun <= at < until for at in done) / (until - begun) for begun, until in windows)
    return {
        "steps a second before": round(before, 1),
        "steps a second after": round(after, 1),
        "after over before": round(after / before, 3) if before else 0.0,
        "seconds from the last fault to the next step": round(
            min((at for at in done if at >= over), default=over) - over, 2
        ),
    }
