"""Do stored histories still fit the code? A replay of open runs that writes nothing and sends nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dramaturg_coordinator.core.evolve import fold
from dramaturg_coordinator.live import Builder, LiveRun
from dramaturg_coordinator.ports import Store
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.watchdog import Watchdog
from dramaturg_protocol import events as e
from dramaturg_protocol.records import RunRecord, StoredRun, Unreadable

_SLICE = 100


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What became of one run.

    Attributes:
      problem: why it would be blocked; ``None`` where it fits.
    """

    record: RunRecord
    problem: e.RunBlocked | None


def rehearse(store: Store, rules: Rules, run_ids: Iterable[str], *, closed_too: bool = False) -> Iterator[Rehearsed]:
    """Replay runs against the registered code, one after the other.

    Parameters:
      closed_too: also those that nothing will advance any more.

    Raises:
      Unreachable: the database does not answer.
    """
    watchdog = Watchdog(rules.code_limit)
    builder = Builder(rules, watchdog)
    try:
        for part in _slices(run_ids):
            for found in store.load(part).values():
                yield Rehearsed(found.record, _problem_of(builder, found, closed_too=closed_too))
    finally:
        watchdog.stop()


def rehearse_history(rules: Rules, run_id: str, history: Sequence[e.HistoryEvent]) -> e.RunBlocked | None:
    """Replay one history against the registered code: why its run would be blocked, ``None`` where it fits."""
    watchdog = Watchdog(rules.code_limit)
    try:
        return _replayed(Builder(rules, watchdog), LiveRun(fold(run_id, 0, history), history), history)
    finally:
        watchdog.stop()


def _problem_of(builder: Builder, found: StoredRun | Unreadable, *, closed_too: bool) -> e.RunBlocked | None:
    if isinstance(found, Unreadable):
        return e.RunBlocked("unreadable", found.reason)
    run = LiveRun(fold(found.record.run_id, found.record.partition, found.history), found.history)
    return None if run.state.is_closed and not closed_too else _replayed(builder, run, found.history)


def _replayed(builder: Builder, run: LiveRun, history: Sequence[e.HistoryEvent]) -> e.RunBlocked | None:
    built = builder.rebuild(run, history)
    if isinstance(built, e.RunBlocked):
        return built
    built[0].drop()
    return None


def _slices(run_ids: Iterable[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for run_id in run_ids:
        part.append(run_id)
        if len(part) == _SLICE:
            yield part
            part = []
    if part:
        yield part
