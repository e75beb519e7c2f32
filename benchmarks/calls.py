"""What a step costs the coordinator, in calls of functions: the same each time, on whatever machine.

    python -m benchmarks.calls [--top 30] [--keep docs/figures/calls.json --label "what was done"]

It takes the turns itself, in one thread, over a SQLite file, and plays the broker and the workers: each step's result is
there before the next turn, each local step's at once. So nothing of a broker, a worker or a client is counted. Calls of
Python's functions and of those in C count alike. Beside them the rows that are committed, and the CPU of the same work
with nothing counted: what only the machine at hand says.
"""

from __future__ import annotations

import json
import logging
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Annotated, Any

import typer

from benchmarks.workloads import chain, local_chain
from dramaturg import Client, Settings, Workflow
from dramaturg.embedded import rules_of
from dramaturg_coordinator.memory import MemoryReports
from dramaturg_coordinator.service import Coordinator
from dramaturg_protocol.messages import ReportKind, StepReport, StepTask, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import Lease, RunWrites, WorkItem
from dramaturg_store.database import Database

STEPS = 10
RUNS = 200
ALONE = 200


@dataclass(frozen=True, slots=True)
class Work:
    """Runs that begin at once, of so many steps each."""

    name: str
    workflow: Workflow[[int], int]
    runs: int
    steps: int


WORK = (
    Work("W1", chain, RUNS, STEPS),
    Work("W1 local", local_chain, RUNS, STEPS),
    Work("W4", chain, 1, ALONE),
    Work("W4 local", local_chain, 1, ALONE),
)


class Calls:
    """Counts calls in the thread that it is begun in."""

    def __init__(self) -> None:
        self.by_place: Counter[str] = Counter()
        self._codes: Counter[CodeType] = Counter()
        self._builtins: Counter[Any] = Counter()

    def __enter__(self) -> None:
        sys.setprofile(self._note)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, what: str, called: Any) -> None:
        if what == "call":
            self._codes[frame.f_code] += 1
        elif what == "c_call":
            self._builtins[getattr(called, "__qualname__", str(called))] += 1

    @property
    def total(self) -> int:
        return sum(self._codes.values()) + sum(self._builtins.values())

    def most(self, count: int) -> list[tuple[str, int]]:
        """What was called most often."""
        named: Counter[str] = Counter({f"{{{name}}}": calls for name, calls in self._builtins.items()})
        for code, calls in self._codes.items():
            place = Path(code.co_filename)
            named[f"{place.parent.name}/{place.name}:{code.co_firstlineno} {code.co_qualname}"] += calls
        return named.most_common(count)


class Hands:
    """The ports `Publisher` and `LocalExecutor`: what is sent, and local steps that end before they have begun."""

    can_lose = False

    def __init__(self) -> None:
        self.sent: list[StepTask] = []

    def prepare(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Nothing to note."""

    def publish(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Keep the messages."""
        self.sent += [item.task for item in work if item.task is not None]

    def missing(self, work: Sequence[WorkItem], lease: Lease) -> Sequence[WorkItem]:
        """None: they are all here."""
        return ()

    def is_emptied(self) -> bool:
        """It never is."""
        return False

    def begin(self, task: StepTask, report: Callable[[StepReport], None]) -> Callable[[], None]:
        """Run a local step."""
        report(_done(task, "local"))
        return _nothing


def measure(work: Work, folder: Path, calls: Calls | None = None) -> tuple[float, int, int]:
    """Do it once: the CPU of its turns in seconds, and how many commits and rows they wrote."""
    cpu, hands, reports, seen = 0.0, Hands(), MemoryReports(), Seen()
    settings = Settings(database_url=f"sqlite:///{folder}/calls.db", broker_url="memory://", namespace="calls")
    with Database(settings.database_url, settings.namespace) as database, Client(settings) as client:
        coordinator = Coordinator(
            namespace=settings.namespace,
            owner="calls",
            store=database.store,
            inbox=database.inbox,
            leases=database.leases,
            make_reports=lambda _: reports,
            publisher=hands,
            rules=rules_of(settings, database),
            local=hands,
            observers=[seen.committed],
            # Time stands still: however slow the machine, a turn waits for its local steps.
            monotonic=lambda: 0.0,
        )
        assert coordinator.acquire()
        coordinator.recover()
        client.start_many(work.workflow, [(work.steps,)] * work.runs)
        seen.clear()
        while seen.ended < work.runs:
            begun = time.process_time()
            if calls is None:
                coordinator.take_turn()
            else:
                with calls:
                    coordinator.take_turn()
            cpu += time.process_time() - begun
            for task in hands.sent:
                reports.put(encode_message(_done(task, "worker")))
            hands.sent.clear()
        coordinator.stop()
    return cpu, seen.commits, seen.rows


class Seen:
    """What the coordinator wrote."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.commits = self.rows = self.ended = 0

    def committed(self, writes: Sequence[RunWrites]) -> None:
        """The port `Observer`."""
        self.commits += 1
        self.ended += sum(each.is_closed for each in writes)
        self.rows += sum(1 + len(each.events) + len(each.work) + len(each.settled) for each in writes)


def _done(task: StepTask, worker: str) -> StepReport:
    return StepReport(
        task.run_id,
        task.generation,
        task.seq,
        task.attempt,
        task.partition,
        ReportKind.COMPLETED,
        worker=worker,
        result=Payload("1"),
        seconds=0.001,
        release=task.release,
    )


def _nothing() -> None:
    pass


def main(
    top: Annotated[int, typer.Option(help="Show so many of the functions that are called most often.")] = 0,
    only: Annotated[str, typer.Option(help="One of the workloads.")] = "",
    keep: Annotated[Path | None, typer.Option(help="A JSON file to which the counts are added.")] = None,
    label: Annotated[str, typer.Option(help="Under which they are kept.")] = "now",
) -> None:
    """Count, and print."""
    logging.disable(logging.WARNING)
    counted: dict[str, float] = {}
    for work in WORK:
        if only and only != work.name:
            continue
        steps = work.runs * work.steps
        calls = Calls()
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
            with tempfile.TemporaryDirectory() as warm:
                measure(Work(work.name, work.workflow, 1, 5), Path(warm))
            cpu, commits, rows = measure(work, Path(first))
            measure(work, Path(second), calls)
        counted[work.name] = round(calls.total / steps, 1)
        print(
            f"{work.name:10} {calls.total / steps:7.1f} calls a step, {commits / steps:.3f} commits, "
            f"{rows / steps:.2f} rows; {cpu / steps * 1e6:.0f} µs of CPU here",
            flush=True,
        )
        for place, count in calls.most(top):
            print(f"  {count / steps:8.2f}  {place}")
    if keep is not None:
        kept: dict[str, Any] = json.loads(keep.read_text(encoding="utf-8")) if keep.exists() else {}
        kept[label] = {"python": platform.python_version(), "calls": counted}
        keep.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
