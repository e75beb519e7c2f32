"""What a worker counts: the attempts of steps that it takes, how long they run, how many run now, of how many it could.

`WorkerMetrics` is a Dramatiq middleware beside `Reporting`. Every process of a worker has its own; their numbers come
together in the parent that answers ``/metrics`` (`shared_metrics`).
"""

from __future__ import annotations

from typing import Any, Final

from dramatiq.broker import Broker, MessageProxy
from dramatiq.middleware import Middleware
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dramaturg_actors.attempts import Attempt
from dramaturg_actors.execution import is_async
from dramaturg_actors.reporting import Reporting
from dramaturg_protocol.definitions import Registry
from dramaturg_protocol.messages import ReportKind

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_LANE: Final = "dramaturg_metrics_lane"

#: The label of steps that are not registered here.
OTHER: Final = "other"
#: What runs on the event loop, and what runs on a thread.
ASYNC, THREAD = "async", "thread"


class WorkerMetrics(Middleware):
    """Counts the attempts of steps; messages of other actors are Dramatiq's own middleware's to count.

    Parameters:
      registry: where the metrics are registered.
      known: the steps of this process.
    """

    def __init__(self, registry: CollectorRegistry, known: Registry) -> None:
        self._known = known
        self._attempts = Counter(
            "dramaturg_worker_attempts",
            "Attempts of steps that ended on a worker, by how.",
            ["step", "queue", "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "dramaturg_worker_attempt_duration_seconds",
            "How long attempts ran, whatever their outcome.",
            ["step"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._running = _live(registry, "dramaturg_worker_attempts_running", "Attempts that run now.")
        self._capacity = _live(registry, "dramaturg_worker_capacity", "Attempts that may run at once.")
        self._children: dict[tuple[str, ...], Any] = {}
        for lane in (THREAD, ASYNC):
            self._running.labels(lane).set(0)

    def may_run(self, *, threads: int, async_limit: int) -> None:
        """What this process has room for."""
        self._capacity.labels(THREAD).set(threads)
        self._capacity.labels(ASYNC).set(async_limit)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """An attempt begins."""
        attempt = Reporting.attempt_of(message)
        if attempt is not None:
            definition = self._known.steps.get(attempt.task.name)
            lane = ASYNC if definition is not None and is_async(definition) else THREAD
            setattr(message, _LANE, lane)
            self._running.labels(lane).inc()

    def before_ack(self, broker: Broker, message: MessageProxy) -> None:
        """An attempt is over, and reported."""
        self._over(message)

    def before_nack(self, broker: Broker, message: MessageProxy) -> None:
        """An attempt is over, and reported."""
        self._over(message)

    def _over(self, message: MessageProxy) -> None:
        attempt = Reporting.attempt_of(message)
        if attempt is None:
            return
        lane = vars(message).pop(_LANE, None)
        if lane is not None:
            self._running.labels(lane).dec()
        kind = attempt.outcome_kind
        if kind is not None:
            self._count(attempt, kind)

    def _count(self, attempt: Attempt, kind: ReportKind) -> None:
        task = attempt.task
        # A name that is not registered may be anything: it would be a time series for ever.
        name = task.name if task.name in self._known.steps else OTHER
        key = (name, task.queue, kind.value.upper())
        counter = self._children.get(key)
        if counter is None:
            counter = self._children[key] = self._attempts.labels(*key)
        counter.inc()
        histogram = self._children.get((name,))
        if histogram is None:
            histogram = self._children[name,] = self._seconds.labels(name)
        if attempt.seconds is not None:
            histogram.observe(attempt.seconds)


def _live(registry: CollectorRegistry, name: str, text: str) -> Gauge:
    return Gauge(name, text, ["lane"], registry=registry, multiprocess_mode="livesum")
