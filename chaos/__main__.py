"""``python -m chaos``: a fleet under load and faults for some minutes, then its books. Exit code 1 on a discrepancy."""

from __future__ import annotations

import json
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from chaos import scenarios, timetables
from chaos.ending import end
from chaos.faults import Fault, Strikes, schedule
from chaos.load import Load, Pace
from chaos.servers import Missing
from chaos.watch import Watch
from chaos.world import World

RESULTS = Path(__file__).parent / "results"
_CLIENTS = 6
_MOST_OPEN = 600
_WARM_SECONDS = 5.0
_ALL = "all"


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long there are load and faults.")] = 10.0,
    seed: Annotated[int | None, typer.Option(help="Of all decisions; drawn and printed by default.")] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(help=f"Instead of chance: {', '.join(scenarios.SCENARIOS)}, or {_ALL}.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Runs that are started a second.")] = 8.0,
    pause: Annotated[float, typer.Option(min=0.1, help="Mean seconds between two faults.")] = 4.0,
    coordinators: Annotated[int, typer.Option(min=1)] = 3,
    workers: Annotated[int, typer.Option(min=1)] = 4,
    lease: Annotated[float, typer.Option(min=1.0, help="Seconds.")] = 4.0,
    folder: Annotated[Path | None, typer.Option(help="For logs and reports.")] = None,
) -> None:
    """Run it."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    place = folder or RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
    place.mkdir(parents=True)
    logging.basicConfig(filename=place / "clients.log", format="%(asctime)s %(threadName)s %(name)s %(message)s")
    over = threading.Event()
    _set_on_signals(over)
    names = _known(list(scenarios.SCENARIOS) if scenario == [_ALL] else scenario or [])

    def world(name: str = "") -> World:
        inside = place / name
        inside.mkdir(exist_ok=True)
        return World(inside, coordinators=coordinators, workers=workers, lease_seconds=lease, over=over)

    try:
        if names:
            raise typer.Exit(_go_through(names, world, place, console))
        seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
        faults = schedule(seed, minutes * 60, pause, lease)
        console.print(f"seed {seed}, {len(faults)} faults in {minutes:g} min; logs and report: {place}", soft_wrap=True)
        for fault in faults:
            console.print(str(fault), highlight=False, markup=False)
        with world() as one:
            raise typer.Exit(_at_random(one, faults, minutes * 60, Pace(rate, _MOST_OPEN), seed, console))
    except Missing as error:
        console.print(f"cannot run here: {error}")
        raise typer.Exit(2) from None


def _known(names: list[str]) -> list[str]:
    unknown = [name for name in names if name not in scenarios.SCENARIOS]
    if unknown:
        raise typer.BadParameter(
            f"there is no {unknown[0]!r}; it is one of {', '.join(scenarios.SCENARIOS)}, or {_ALL}"
        )
    return names


def _go_through(names: Sequence[str], world: Any, place: Path, console: Console) -> int:
    table = Table("scenario", "steps/s before", "after", "after ÷ before", "s to the next step", "books")
    codes: list[int] = []
    every: list[dict[str, Any]] = []
    for name in names:
        console.print(f"{name}: {scenarios.SCENARIOS[name].title}", highlight=False)
        with world(name) as one:
            code, said = scenarios.run(one, name, console)
        if one.over.is_set():
            return code
        codes.append(code)
        every.append({**said, "exit code": code})
        figures = [f"{value:g}" for value in said.values() if isinstance(value, float)]
        table.add_row(name, *figures, "balance" if code == 0 else "DO NOT BALANCE")
    console.print(table)
    (place / "scenarios.json").write_text(json.dumps(every, indent=2) + "\n", encoding="utf-8")
    return max(codes)


def _at_random(world: World, faults: Sequence[Fault], seconds: float, pace: Pace, seed: int, console: Console) -> int:
    load = Load(world.settings, world.over_broker, world.journal, pace=pace, clients=_CLIENTS, seed=seed)
    watch, strikes = Watch(world), Strikes(world)
    timetables.begin(world, _WARM_SECONDS + seconds)
    load.start()
    watch.start()
    begun = time.monotonic() + _WARM_SECONDS
    try:
        for fault in faults:
            if world.over.wait(max(begun + fault.at - time.monotonic(), 0)):
                break
            strikes.strike(fault)
        world.over.wait(max(begun + seconds - time.monotonic(), 0))
        console.print("calm", highlight=False)
    finally:
        strikes.join()
        world.have_all_up()
        load.stop()
    return end(world, watch, strikes, load.surprises, {"seed": seed}, console)


def _set_on_signals(over: threading.Event) -> None:
    def set_it(_: int, __: FrameType | None) -> None:
        over.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, set_it)


if __name__ == "__main__":
    typer.run(main)
