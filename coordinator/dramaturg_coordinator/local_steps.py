"""Local steps: begun inside a turn, their outcomes taken by the same turn where they are quick, by a later one if not.

    the code asks ── begin ──► a thread of the executor ── report ──► ended ── take ──► the run goes on
                                                                        └── nobody looks: wake the coordinator

An attempt that begins before the commit that records it may be repeated after a crash; that is what at-least-once
allows. Inside one process it is not: a turn that does not commit is taken again, its code asks for the same step again,
and finds it under way, or its outcome. So outcomes are kept until the turn that took them is committed. An outcome is
for the very task that was asked for: a turn that is taken again may ask for another one at the same position.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Container, Iterable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeAlias

from dramaturg_coordinator.core.run_state import RunState
from dramaturg_coordinator.ports import LocalExecutor
from dramaturg_protocol.faults import Fault
from dramaturg_protocol.messages import ReportKind, StepReport, StepTask

logger = logging.getLogger("dramaturg.coordinator")

#: Seconds of one turn in which runs may go on with the results of local steps.
SLICE = 0.03
#: Seconds without any result after which a turn leaves steps that are under way to a later one.
PATIENCE = 0.01


class _Attempt:
    """An attempt that was begun.

    Attributes:
      reports: what it said, as far as it is taken and not committed.
      has_ended: the last of them is its outcome.
    """

    __slots__ = ("end", "has_ended", "reports", "task")

    def __init__(self, task: StepTask) -> None:
        self.task = task
        self.reports: list[StepReport] = []
        self.has_ended = False
        self.end: Callable[[], None] = _nothing


_Ended: TypeAlias = tuple[_Attempt, StepReport]


class LocalSteps:
    """The local steps of one tenure. All but `_hear` is for the thread that takes turns.

    Parameters:
      wake: ends the coordinator's wait for work; from any thread.
    """

    def __init__(self, executor: LocalExecutor, wake: Callable[[], None]) -> None:
        self._executor = executor
        self._wake = wake
        self._runs: dict[str, dict[tuple[str, int, int], _Attempt]] = {}
        self._fresh: set[_Attempt] = set()
        self._ended: SimpleQueue[_Ended] = SimpleQueue()
        self._left: list[_Ended] = []
        self._is_waited_for = False

    def begin(self, task: StepTask) -> None:
        """Begin an attempt, unless the same one is under way or has ended already."""
        attempts = self._runs.setdefault(task.run_id, {})
        known = attempts.get(task.key)
        if known is not None:
            if known.task == task:
                self._fresh.add(known)
                self._left += [(known, report) for report in known.reports]
                return
            self._fresh.discard(known)
            known.end()
        attempt = attempts[task.key] = _Attempt(task)
        self._fresh.add(attempt)
        attempt.end = self._executor.begin(task, partial(self._hear, attempt))

    def take(self) -> list[StepReport]:
        """What was reported since; of a turn that begins."""
        self._is_waited_for = False
        self._fresh.clear()
        found, self._left = self._left, []
        while not self._ended.empty():
            found.append(self._ended.get())
        return self._reports_of(found)

    def wait(self, seconds: float, runs: Container[str]) -> list[StepReport] | None:
        """What steps of these runs report; ``None`` where none of this turn is worth waiting for.

        Parameters:
          seconds: how long the turn may wait at most.
        """
        if not self._fresh or seconds <= 0:
            return None
        found, self._left = self._left, []
        is_here = any(attempt.task.run_id in runs for attempt, _ in found)
        try:
            found.append(self._ended.get(block=not is_here, timeout=min(seconds, PATIENCE)))
            while not self._ended.empty():
                found.append(self._ended.get())
        except Empty:
            if not is_here:
                self._left = found
                return None
        self._left = [each for each in found if each[0].task.run_id not in runs]
        return self._reports_of(each for each in found if each[0].task.run_id in runs)

    def rest(self) -> bool:
        """From now on a report wakes the coordinator; false where there is one already."""
        # In this order: what is reported between the two lines wakes once too often, not never.
        self._is_waited_for = True
        return not self._left and self._ended.empty()

    def committed(self, state: RunState) -> None:
        """Forget what a run's commit holds, and end what the run no longer waits for."""
        attempts = self._runs.get(state.run_id)
        if attempts is None:
            return
        for key, attempt in list(attempts.items()):
            step = state.steps.get(attempt.task.seq)
            is_open = step is not None and (step.generation, step.attempt) == (key[1], attempt.task.attempt)
            if is_open and not attempt.has_ended:
                attempt.reports.clear()
                continue
            del attempts[key]
            if not attempt.has_ended:
                attempt.end()
        if not attempts:
            del self._runs[state.run_id]

    def not_committed(self, run_ids: Iterable[str]) -> None:
        """Give what these runs took to the next turn once more."""
        for run_id in run_ids:
            for attempt in self._runs.get(run_id, {}).values():
                self._left += [(attempt, report) for report in attempt.reports]

    def give_up(self, partitions: Collection[int] | None = None) -> None:
        """End the steps of partitions that belong to somebody else now; of all for ``None``."""
        for run_id, attempts in list(self._runs.items()):
            for attempt in attempts.values():
                if partitions is None or attempt.task.partition in partitions:
                    self._runs.pop(run_id, None)
                    attempt.end()

    def _reports_of(self, ended: Iterable[_Ended]) -> list[StepReport]:
        return [report for attempt, report in ended if self._is_taken(attempt, report)]

    def _is_taken(self, attempt: _Attempt, report: StepReport) -> bool:
        """Note a report of an attempt; false where it was replaced or given up meanwhile."""
        if self._runs.get(report.run_id, {}).get(attempt.task.key) is not attempt:
            return False
        if report not in attempt.reports:
            attempt.reports.append(report)
        if report.kind.is_final:
            attempt.has_ended = True
            self._fresh.discard(attempt)
        return True

    def _hear(self, attempt: _Attempt, report: StepReport) -> None:
        """Take a report; from any thread."""
        self._ended.put((attempt, report))
        if self._is_waited_for:
            self._is_waited_for = False
            try:
                self._wake()
            except Fault as error:
                logger.debug("nobody was woken: %s", error)


def _nothing() -> None:
    pass


class NoLocalExecutor:
    """The port `LocalExecutor` where nobody runs local steps: each fails with what is missing."""

    def begin(self, task: StepTask, report: Callable[[StepReport], None]) -> Callable[[], None]:
        """Refuse an attempt."""
        report(
            StepReport(
                run_id=task.run_id,
                generation=task.generation,
                seq=task.seq,
                attempt=task.attempt,
                partition=task.partition,
                kind=ReportKind.FAILED,
                error_type="NoLocalExecutor",
                message=f"this coordinator runs no local steps: leave `local` out of step {task.name!r}",
                fatal=True,
                release=task.release,
            )
        )
        return _nothing
