"""What a coordinator counts as it commits: runs, steps, their times; and how long its own turns take.

Counted from the events of committed turns, so that nothing is counted that did not happen, and nothing twice. A
counter begins at zero with the process, as Prometheus expects: ``rate`` and ``increase`` over all coordinators bridge
a fail-over. What was counted in memory and not scraped before a crash is missing; the histories have it all.

Memory for the times between two events of a step is bounded: beyond that, and for what a coordinator before this one
scheduled, a time is not observed; the outcomes are counted all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias, cast

from prometheus_client import CollectorRegistry, Counter, Histogram

from dramaturg_coordinator.ports import Store
from dramaturg_protocol import events as e
from dramaturg_protocol.definitions import DEFAULT_QUEUE, Registry
from dramaturg_protocol.records import Lease, RunWrites

#: The label of names beyond those that are registered and as many more as are kept apart.
OTHER: Final = "other"

_STRANGERS: Final = 50
_RUNS_KEPT: Final = 50_000

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_WAITS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_STEPS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_RUNS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400, 604800)

# The queue of a step under way, and since when its attempt has been waiting; `None` once a worker has it.
_Waiting: TypeAlias = tuple[str, datetime | None]


class Names:
    """Bounds the values of a label: what is registered, and a number of other names.

    A client may start a workflow by any name; each would be a time series for ever.
    """

    def __init__(self, registered: Callable[[], Collection[str]], strangers: int = _STRANGERS) -> None:
        self._registered = registered
        self._left = strangers
        self._known: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        """The value of the label for a name."""
        known = self._known.get(name)
        if known is not None:
            return known
        if name not in self._registered():
            if self._left <= 0:
                return OTHER
            self._left -= 1
        self._known[name] = name
        return name


class _Series:
    """The children of a metric, by the names that they were asked for: quicker than ``labels()``."""

    def __init__(self, metric: Any, *names: Names | None) -> None:
        self._metric = metric
        self._names = names
        self._children: dict[tuple[str, ...], Any] = {}

    def __call__(self, *labels: str) -> Any:
        child = self._children.get(labels)
        if child is not None:
            return child
        bounded = tuple(label if name is None else name(label) for name, label in zip(self._names, labels, strict=True))
        child = self._metric.labels(*bounded)
        if bounded == labels:
            self._children[labels] = child
        return child


class CoordinatorMetrics:
    """Counts what one coordinator commits.

    Parameters:
      registry: where the metrics are registered; one `CoordinatorMetrics` a registry.
      known: the workflows and steps of this process.
      queues: names of queues besides those of the registered steps.
    """

    def __init__(self, registry: CollectorRegistry, known: Registry, queues: Collection[str] = ()) -> None:
        self._known = known
        workflows, steps = Names(lambda: known.workflows), Names(lambda: known.steps)
        places = Names(lambda: {*queues, *queues_of(known)})
        make = _Maker(registry)
        self._started = _Series(make.counter("runs_started", "Runs that began.", "workflow"), workflows)
        self._closed = _Series(
            make.counter("runs", "Runs that were closed, by their status.", "workflow", "status"), workflows, None
        )
        self._run_seconds = _Series(
            make.histogram("run_duration_seconds", "From a run's start to its end.", _RUNS, "workflow"), workflows
        )
        self._steps = _Series(
            make.counter("steps", "Steps that came to their end, by outcome.", "step", "queue", "outcome"),
            steps,
            places,
            None,
        )
        self._retries = _Series(
            make.counter(
                "step_retries", "Attempts without an outcome, after which another one follows.", "step", "reason"
            ),
            steps,
            None,
        )
        self._waits = _Series(
            make.histogram(
                "step_schedule_to_start_seconds",
                "How long an attempt waited for a worker; of those that completed, or said that they began.",
                _WAITS,
                "queue",
            ),
            places,
        )
        self._step_seconds = _Series(
            make.histogram("step_duration_seconds", "How long the attempt that completed a step took.", _STEPS, "step"),
            steps,
        )
        self._turns = make.histogram("turn_seconds", "Turns that had anything to do.", _FAST)
        self._commits = make.histogram("commit_seconds", "Commits of turns to the database.", _FAST)
        self._steps_of_runs: dict[str, dict[int, _Waiting]] = {}
        self._takers: Mapping[type[Any], Callable[[str, datetime, Any], None]] = {
            e.StepScheduled: self._scheduled,
            e.StepStarted: self._began,
            e.StepRetrying: self._retried,
            e.StepCompleted: self._completed,
            e.StepFailed: lambda run_id, _, body: self._ended(run_id, body, "FAILED"),
            e.StepSkipped: lambda run_id, _, body: self._ended(run_id, body, "SKIPPED"),
            e.StepTimedOut: lambda run_id, _, body: self._ended(run_id, body, "TIMED_OUT"),
            e.StepCancelled: lambda run_id, _, body: self._ended(run_id, body, "CANCELLED"),
        }

    # What a coordinator tells.

    def committed(self, writes: Sequence[RunWrites]) -> None:
        """Count what a turn committed: an observer."""
        takers = self._takers
        for each in writes:
            for event in each.events[each.copied :]:
                take = takers.get(type(event.body))
                if take is not None:
                    take(each.run_id, event.time, event.body)
            if each.record is not None and (each.is_new or each.is_closed):
                self._run_moved(each)

    def turn_took(self, seconds: float) -> None:
        """A turn that had anything to do is over."""
        self._turns.observe(seconds)

    def metered(self, store: Store) -> Store:
        """The same store; its commits are timed."""
        return cast("Store", MeteredStore(store, self._commits.observe))

    # Runs.

    def _run_moved(self, writes: RunWrites) -> None:
        record = writes.record
        assert record is not None
        if writes.is_new:
            self._started(record.workflow).inc()
        if writes.is_closed and record.closed_at is not None:
            self._closed(record.workflow, record.status).inc()
            self._run_seconds(record.workflow).observe((record.closed_at - record.started_at).total_seconds())
            self._steps_of_runs.pop(writes.run_id, None)

    # Steps.

    def _scheduled(self, run_id: str, moment: datetime, body: e.StepScheduled) -> None:
        steps = self._steps_of_runs.get(run_id)
        if steps is None:
            if len(self._steps_of_runs) >= _RUNS_KEPT:
                del self._steps_of_runs[next(iter(self._steps_of_runs))]
            steps = self._steps_of_runs[run_id] = {}
        steps[body.seq] = (body.queue, moment)

    def _began(self, run_id: str, moment: datetime, body: e.StepStarted) -> None:
        self._observe_wait(run_id, body.seq, moment, 0.0)

    def _retried(self, run_id: str, _: datetime, body: e.StepRetrying) -> None:
        self._retries(body.name, body.reason).inc()
        steps = self._steps_of_runs.get(run_id)
        waiting = steps.get(body.seq) if steps is not None else None
        if steps is not None and waiting is not None:
            steps[body.seq] = (waiting[0], body.retry_at)

    def _completed(self, run_id: str, moment: datetime, body: e.StepCompleted) -> None:
        if body.seconds is not None:
            self._observe_wait(run_id, body.seq, moment, body.seconds)
            self._step_seconds(body.name).observe(body.seconds)
        self._ended(run_id, body, "COMPLETED")

    def _ended(
        self, run_id: str, body: e.StepCompleted | e.StepFailed | e.StepTimedOut | e.StepCancelled, outcome: str
    ) -> None:
        steps = self._steps_of_runs.get(run_id)
        waiting = steps.pop(body.seq, None) if steps is not None else None
        queue = waiting[0] if waiting is not None else self._queue_of(body.name)
        self._steps(body.name, queue, outcome).inc()

    def _observe_wait(self, run_id: str, seq: int, moment: datetime, ran: float) -> None:
        """A worker had the attempt in hand `ran` seconds before that moment."""
        steps = self._steps_of_runs.get(run_id)
        waiting = steps.get(seq) if steps is not None else None
        if steps is None or waiting is None or waiting[1] is None:
            return
        self._waits(waiting[0]).observe(max(0.0, (moment - waiting[1]).total_seconds() - ran))
        steps[seq] = (waiting[0], None)

    def _queue_of(self, step: str) -> str:
        definition = self._known.steps.get(step)
        return DEFAULT_QUEUE if definition is None else definition.queue or DEFAULT_QUEUE


class MeteredStore:
    """A store whose commits are timed, also those that fail."""

    def __init__(self, store: Store, observe: Callable[[float], None]) -> None:
        self._store = store
        self._observe = observe

    def commit(self, writes: Sequence[RunWrites], lease: Lease, now: datetime) -> None:
        """As the store's."""
        began = time.monotonic()
        try:
            self._store.commit(writes, lease, now)
        finally:
            self._observe(time.monotonic() - began)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Maker:
    """Makes metrics under our prefix."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"dramaturg_{name}", text, labels, registry=self._registry)

    def histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"dramaturg_{name}", text, labels, buckets=buckets, registry=self._registry)


def queues_of(known: Registry) -> set[str]:
    """The queues that the registered steps name."""
    return {DEFAULT_QUEUE, *(step.queue for step in list(known.steps.values()) if step.queue is not None)}
