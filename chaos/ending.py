"""How every chaos run ends: all is up again, what is open is waited for, the fleet stops, the books are balanced."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from chaos import books, report
from chaos.faults import Strikes
from chaos.watch import Watch, start_messages, wait_until_done
from chaos.world import World

_CALM_SECONDS = 300.0
#: The exit code of a run that a signal ended.
STOPPED = 130


def end(
    world: World,
    watch: Watch,
    strikes: Strikes,
    surprises: Sequence[str],
    said: Mapping[str, Any],
    console: Console,
) -> int:
    """Balance the books and write the report; the exit code.

    Parameters:
      surprises: what clients saw and should not have.
      said: of the run itself, for the report: its seed, its rates.
    """
    calm_since = time.monotonic()
    left = wait_until_done(world, _CALM_SECONDS)
    calm = time.monotonic() - calm_since
    watch.stop()
    _stop_fleet(world)
    if world.over.is_set():
        console.print("stopped before its end; no books")
        return STOPPED
    dsn = world.postgres.dsn
    findings = [
        *books.balance(
            dsn, world.postgres.url, world.journal, world.ledger, strikes.struck, queued=start_messages(world)
        ),
        books.Finding("at any time every open run has a next cause", list(watch.without_cause)),
        books.Finding("no coordinator and no worker ended by itself", _own_ends(world)),
        books.Finding("no coordinator and no worker met a bug of its own", _own_bugs(world)),
        books.Finding("clients saw no error but that services are away", surprises),
        books.Finding("every fault was undone", strikes.problems),
    ]
    figures: dict[str, Any] = {
        **said,
        "clients": world.journal.counts(),
        **books.facts(dsn),
        "looks for runs without a cause": watch.looks,
        "seconds until nothing was open": round(calm, 1),
        "left open when time was over": left,
    }
    report.show(findings, figures, console)
    content = {"figures": figures, "books": books.as_json(findings), "struck": strikes.struck}
    report.save(world.folder, content, findings, dsn)
    is_balanced = not any(finding.discrepancies for finding in findings)
    console.print("the books balance" if is_balanced else "[red]THE BOOKS DO NOT BALANCE[/]")
    return 0 if is_balanced else 1


def _stop_fleet(world: World) -> None:
    """End it as a deploy does, all at once."""
    threads = [threading.Thread(target=member.stop) for member in world.members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _own_bugs(world: World) -> list[str]:
    """What coordinators and workers ask to be reported."""
    logs = [(path.name, path.read_text(errors="replace")) for path in sorted(world.folder.glob("*-[0-9]*.log"))]
    return [f"{name}: {line}" for name, said in logs for line in said.splitlines() if "please report" in line]


def _own_ends(world: World) -> list[str]:
    return [f"{member.name}: exit code {code}" for member in world.members for code in member.own_ends]
