"""Dramatiq's worker with three differences: async steps take a lane of their own, it stops at once, no thread dies."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from queue import Empty, PriorityQueue
from typing import Any, Final

from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.common import q_name
from dramatiq.errors import ActorNotFound, BrokerConnectionError
from dramatiq.worker import (
    ConsumerThread,
    Worker,
    WorkerThread,
    _WorkQueueItem,  # pyright: ignore[reportPrivateUsage]
)

from dramaturg_actors.declare import StepActor, actor_of
from dramaturg_actors.reporting import ReportAbandoned
from dramaturg_protocol.transport import TASK_OPTION, priority_of

#: How long an idle thread sleeps; nothing waits for it, since whoever has work or stops the worker wakes it.
_IDLE_MILLISECONDS: Final = 1000

_logger = logging.getLogger("dramaturg.actors")


class WorkQueue(PriorityQueue[Any]):
    """A queue that gives nothing more once it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self._is_closed = False

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The next item; `Empty` when there is none in time."""
        with self.not_empty:
            if block:
                self.not_empty.wait_for(lambda: self._is_closed or self._qsize(), timeout)
            if self._is_closed or not self._qsize():
                raise Empty
            return self._get()

    @property
    def is_closed(self) -> bool:
        """Whether it gives nothing more."""
        return self._is_closed

    def close(self) -> None:
        """Give nothing more, and let go of who waits."""
        with self.mutex:
            self._is_closed = True
            self.not_empty.notify_all()

    def waiting(self) -> list[MessageProxy]:
        """The messages that nobody was given yet."""
        with self.mutex:
            return [item.message for item in self.queue]

    def drain(self) -> list[Any]:
        """What was never given."""
        with self.mutex:
            return [self._get() for _ in range(self._qsize())]


class _Stoppable:
    """Mends that a thread of Dramatiq that is stopped before it ran sets out to run for ever."""

    _is_started = False
    _is_stopped = False

    @property
    def running(self) -> bool:
        return self._is_started and not self._is_stopped

    @running.setter
    def running(self, value: bool) -> None:
        self._is_started = value

    def _stop_for_good(self) -> None:
        self._is_stopped = True


class StepConsumerThread(_Stoppable, ConsumerThread):
    """Sorts what it takes: async steps go to the lane, all else to the worker threads.

    Parameters:
      route: takes a message of ours to the lane, or says that it did not.
      hand_back: gives back what waits for a thread, once none will come.
    """

    def __init__(
        self,
        *,
        route: Callable[[MessageProxy], bool],
        hand_back: Callable[[], None],
        broker: Broker,
        queue_name: str,
        prefetch: int,
        work: WorkQueue,
    ) -> None:
        super().__init__(
            broker=broker,
            queue_name=queue_name,
            prefetch=prefetch,
            work_queue=work,
            worker_timeout=_IDLE_MILLISECONDS,
        )
        self._route = route
        self._hand_back = hand_back
        self._work = work

    def handle_message(self, message: MessageProxy) -> None:
        """Hand a message on."""
        if TASK_OPTION not in message.options or "eta" in message.options:
            super().handle_message(message)
        elif not self._route(message):
            self._hand_to_thread(message)
        # Taken before the worker stopped and put there after. Another broker's consumer would take it again at once.
        if self._work.is_closed and hasattr(self.consumer, "take_nothing"):
            self._hand_back()

    def stop(self) -> None:
        """Take nothing more."""
        self._stop_for_good()
        _ask(self.consumer, "wake")

    def _hand_to_thread(self, message: MessageProxy) -> None:
        actor = actor_of(self.broker, message.actor_name)
        if actor is not None:
            declared = actor.step_priority if isinstance(actor, StepActor) else actor.priority
            self.work_queue.put(_WorkQueueItem(priority_of(message, declared), message))
            return
        # As Dramatiq does, but for its ERROR with a traceback: the report tells, and the log of attempts too.
        message.fail()
        message.stuff_exception(ActorNotFound(message.actor_name))  # type: ignore[no-untyped-call]
        self.post_process_message(message)


class StepWorkerThread(_Stoppable, WorkerThread):
    """Processes messages, and outlives what an interrupt that lands in a hook does to it.

    Parameters:
      is_unreported: whether a message is one of ours whose report is still owed.
    """

    def __init__(
        self,
        *,
        is_unreported: Callable[[MessageProxy], bool],
        broker: Broker,
        consumers: dict[str, ConsumerThread],
        work: WorkQueue,
    ) -> None:
        super().__init__(broker=broker, consumers=consumers, work_queue=work, worker_timeout=_IDLE_MILLISECONDS)
        self._is_unreported = is_unreported
        self.logger = logging.getLogger("dramatiq.worker.WorkerThread.dramaturg")

    def run(self) -> None:
        """Process messages until `stop`."""
        while True:
            try:
                super().run()
                return
            except BaseException:
                # Dramatiq's hooks let it through, and the thread would be gone without a word.
                _logger.critical("an interrupt ended the work of %s; it goes on", self.name, exc_info=True)

    def process_message(self, message: MessageProxy) -> None:
        """Process one message."""
        try:
            super().process_message(message)
        except ReportAbandoned:
            _logger.warning("%s stays unacknowledged: its report was not taken before the worker stopped", message)
        except BaseException:
            _logger.critical("an interrupt landed in a hook while %s was processed", message, exc_info=True)
            if self._is_unreported(message):
                self.consumers[message.queue_name].post_process_message(message)

    def stop(self) -> None:
        """End after the present message."""
        self._stop_for_good()


class StepThreads(Worker):
    """The threads that take messages from a broker and process them."""

    def __init__(
        self,
        broker: Broker,
        *,
        queues: Collection[str] | None,
        except_queues: Collection[str],
        threads: int,
        prefetch: int,
        route: Callable[[MessageProxy], bool],
        is_unreported: Callable[[MessageProxy], bool],
    ) -> None:
        super().__init__(
            broker, queues=set(queues) if queues else None, worker_threads=threads, worker_timeout=_IDLE_MILLISECONDS
        )
        self._except_queues = frozenset(except_queues)
        self.queue_prefetch = prefetch
        self._work = self.work_queue = WorkQueue()
        self._route = route
        self._is_unreported = is_unreported
        self._adding = threading.Lock()

    def refuse_new(self) -> None:
        """Begin no more messages, and hand back those that wait."""
        for consumer in self.consumers.values():
            _ask(consumer.consumer, "take_nothing")
        for thread in self.workers:
            thread.stop()
        self._work.close()
        self._hand_back_waiting()

    def join_workers(self, due: float) -> None:
        """Wait for the messages in work, until a moment of the monotonic clock."""
        _join(self.workers, due)

    def waiting(self) -> list[MessageProxy]:
        """Messages that were taken and not begun."""
        return self._work.waiting()

    def hand_back(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages back that were never begun."""
        by_queue: dict[str, list[MessageProxy]] = defaultdict(list)
        for message in messages:
            by_queue[message.queue_name].append(message)
        for queue_name, of_queue in by_queue.items():
            try:
                self.consumers[queue_name].requeue_messages(of_queue)
            except BrokerConnectionError as error:
                _logger.warning("messages of queue %r return when this worker is found dead: %s", queue_name, error)

    def close(self, due: float) -> None:
        """Take nothing more and hand back what was never begun."""
        for consumer in self.consumers.values():
            consumer.stop()
        _join(self.consumers.values(), due)
        self.broker.middleware[:] = [each for each in self.broker.middleware if vars(each).get("worker") is not self]
        self._hand_back_waiting()
        for consumer in self.consumers.values():
            consumer.close()

    def _hand_back_waiting(self) -> None:
        self.hand_back(item.message for item in self._work.drain())

    def _add_consumer(self, queue_name: str, *, delay: bool = False) -> None:
        with self._adding:
            if queue_name in self.consumers or not self._is_served(q_name(queue_name)):
                return
            consumer = self.consumers[queue_name] = StepConsumerThread(
                route=self._route,
                hand_back=self._hand_back_waiting,
                broker=self.broker,
                queue_name=queue_name,
                prefetch=self.delay_prefetch if delay else self.queue_prefetch,
                work=self._work,
            )
            consumer.start()

    def _is_served(self, queue_name: str) -> bool:
        is_chosen = not self.consumer_whitelist or queue_name in self.consumer_whitelist
        return is_chosen and queue_name not in self._except_queues

    def _add_worker(self) -> None:
        thread = StepWorkerThread(
            is_unreported=self._is_unreported, broker=self.broker, consumers=self.consumers, work=self._work
        )
        thread.start()
        self.workers.append(thread)


def _ask(consumer: Consumer | None, name: str) -> None:
    """Call a method that consumers of ours have."""
    method = getattr(consumer, name, None)
    if method is not None:
        method()


def _join(threads: Iterable[threading.Thread], due: float) -> None:
    for thread in threads:
        thread.join(max(0.0, due - time.monotonic()))
