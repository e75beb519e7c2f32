"""Capture and publish: each message of ours gives exactly one final report, and is not acknowledged before it.

The outcome of an attempt is captured where the step ran, or, where its code never ran, in Dramatiq's hooks. It is
published in ``before_ack`` or ``before_nack``, whichever comes; what fails there is tried again until it is out,
since Dramatiq swallows the exceptions of hooks and would go on to acknowledge. A message that is a `Delivery` ends
together with its report, in one; the acknowledgement that follows does nothing. Of all others, a crash

- before the hook: the message was not acknowledged, and is delivered again;
- between report and acknowledgement: it is delivered again, and the second report changes nothing at the coordinator;
- after: nothing is left to do.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final

from dramatiq.broker import Broker, MessageProxy
from dramatiq.errors import ActorNotFound
from dramatiq.middleware import Middleware, SkipMessage

from dramaturg_actors.attempts import Attempt
from dramaturg_actors.context import context_of
from dramaturg_actors.declare import StepActor, actor_of
from dramaturg_actors.deliveries import Begun, Delivery
from dramaturg_actors.failures import interrupted, too_late, unknown_step, worker_lost
from dramaturg_actors.pulse import Pulse
from dramaturg_actors.revocations import Revocations
from dramaturg_actors.suspects import Suspects
from dramaturg_protocol.clock import system_now
from dramaturg_protocol.errors import InternalError, StepCancelled, WorkerShutdown
from dramaturg_protocol.messages import MOST_LOST, ReportKind, StepReport, decode_report, decode_task, encode_message
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.transport import TASK_OPTION

_ATTEMPT: Final = "dramaturg_attempt"
#: For how long a step that was delivered again waits for the word that it is not to begin.
_WORD_SECONDS: Final = 0.3

_CANCELLED: Final = StepCancelled("nobody waits for this step any more: its run was cancelled, or went on without it")

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 5.0

_logger = logging.getLogger("dramaturg.actors")


class ReportAbandoned(BaseException):
    """The worker was stopped while a report could not be published.

    Not an ``Exception``, so that it passes through Dramatiq and the message stays unacknowledged.
    """


class Reporting(Middleware):
    """Publishes what became of the steps that this worker takes; messages of other actors are left alone.

    Parameters:
      report: takes an encoded report; an exception means that it was not taken.
      worker: the name that reports bear.
      decode: decodes the arguments of an attempt, for the broker's other middleware to see.
      now: the clock by which a step's time to begin is over.
    """

    def __init__(
        self,
        report: Callable[[str], None],
        worker: str,
        decode: Callable[[Attempt], None] | None = None,
        *,
        now: Callable[[], datetime] = system_now,
    ) -> None:
        self.worker = worker
        self.state: Mapping[str, Any] = {}
        self.stopping = threading.Event()
        self._pulse = Pulse(self.running, self._tell, worker)
        self._now = now
        self._report = report
        self._decode = decode
        self._abandoned = threading.Event()
        self._revoked = Revocations()
        self._suspects = Suspects()
        self._changed = threading.Condition()
        self._running: dict[Attempt, MessageProxy] = {}
        self._here = threading.local()

    # -- what the threads of the worker ask

    @property
    def current(self) -> Attempt | None:
        """The attempt whose message this thread is processing."""
        return getattr(self._here, "attempt", None)

    def enter(self, attempt: Attempt) -> None:
        """Go on with an attempt in this thread, that another one began."""
        self._here.attempt = attempt

    @staticmethod
    def attempt_of(message: MessageProxy) -> Attempt | None:
        """The attempt that a message became; ``None`` for a message that is not ours."""
        attempt = vars(message).get(_ATTEMPT)
        return attempt if isinstance(attempt, Attempt) else None

    def is_unreported(self, message: MessageProxy) -> bool:
        """Whether the final report of a message is still owed."""
        attempt = self.attempt_of(message)
        return attempt is not None and not attempt.is_reported

    def running(self) -> list[Attempt]:
        """The attempts that were taken and are not reported."""
        with self._changed:
            return list(self._running)

    def wait_idle(self, due: float) -> bool:
        """Wait until nothing is left to report; false if a moment of the monotonic clock came before."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, max(0.0, due - time.monotonic()))

    def release(self, attempt: Attempt, reason: WorkerShutdown) -> None:
        """Report an attempt that does not stop, instead of its thread; tried once."""
        # One that was told to stop before, and did not, has that for its outcome.
        attempt.settle(interrupted(attempt.context.interrupted or reason))
        report = attempt.claim_report(self.worker)
        if report is None:
            return
        try:
            self._send(self._running[attempt], report, lambda: None)
        except Exception:
            _logger.exception("%s was not given back", attempt)

    def revoke(self, ids: Collection[str]) -> None:
        """Nobody waits for these attempts any more: those that run are told to stop, the others are not begun."""
        # In this order: one that is taken between the two lines looks for itself.
        self._revoked.add(ids)
        for attempt in self.running():
            if attempt.task.message_id in ids:
                _logger.info("%s is cancelled", attempt)
                attempt.cancel(_CANCELLED)

    def abandon(self) -> None:
        """Give up on what cannot be published; its messages stay unacknowledged."""
        self._abandoned.set()
        self._pulse.close()

    # -- Dramatiq's hooks

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Take an attempt; say so if its time is limited."""
        self._here.attempt = None
        if TASK_OPTION not in message.options:
            return
        if isinstance(message, Delivery) and not message.begin(self.stopping.is_set):
            raise SkipMessage("another worker may have begun it: it is not this one's any more")
        attempt = self._here.attempt = self._taken(message)
        if attempt is None:
            raise SkipMessage("not a step's task")
        if attempt.task.message_id in self._revoked:
            attempt.cancel(_CANCELLED)
            attempt.settle(interrupted(_CANCELLED))
            raise SkipMessage("nobody waits for it any more")
        if isinstance(message, Delivery) and message.number > 1:
            self._suspects.enter(attempt)
            self._count_delivery(message, attempt)
        self._drop_if_late(attempt)
        if not isinstance(actor_of(broker, message.actor_name), StepActor):
            attempt.fail(unknown_step(attempt.task))
            raise SkipMessage("no step has this name")
        if self._decode is not None:
            self._decode(attempt)
            _show_arguments(message, attempt)
        if attempt.task.announce or attempt.delivery > 1:
            self._say_started(attempt)
            self._wait_for_word(attempt)
        self._pulse.begins()

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Capture what the step's own code could not: the failure of another hook, a step without code."""
        attempt = self.attempt_of(message)
        if attempt is not None and not attempt.is_settled:
            attempt.fail(exception or InternalError(f"{attempt} was not run: another actor bears its name"))
        _keep_from_dead_letters(attempt, message)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Capture that another middleware would not have the step run."""
        attempt = self.attempt_of(message)
        if attempt is not None:
            attempt.fail(SkipMessage("a middleware of the broker skipped the message"))
        _keep_from_dead_letters(attempt, message)

    def before_ack(self, broker: Broker, message: MessageProxy) -> None:
        """Publish the outcome."""
        self._settle(broker, message)

    def before_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Publish the outcome."""
        self._settle(broker, message)

    # -- the report

    def _count_delivery(self, delivery: Delivery, attempt: Attempt) -> None:
        counted: list[Begun] = []
        try:
            self._insist(lambda: counted.append(delivery.begin_again()))
        except ReportAbandoned:
            attempt.settle(interrupted(WorkerShutdown("the worker stopped before the step began")))
            raise SkipMessage("the worker stops") from None
        begun = counted[-1]
        attempt.delivery = 1 + begun.times
        attempt.is_counted = begun.is_exact
        lost = attempt.task.lost + begun.times
        if lost >= MOST_LOST and attempt.settle(worker_lost(attempt.task, lost)):
            _logger.error("%s is not begun again: its workers were lost %d times", attempt, lost)
            raise SkipMessage("its workers were lost")
        _go_on_from(attempt, begun.said)

    def _drop_if_late(self, attempt: Attempt) -> None:
        # One that was begun before was begun in time.
        start_by = attempt.task.start_by
        if (
            attempt.delivery == 1
            and start_by is not None
            and self._now() > start_by
            and attempt.settle(too_late(attempt.task))
        ):
            _logger.warning("%s is dropped: its time to begin was over at %s", attempt, start_by.isoformat())
            raise SkipMessage("too late")

    def _wait_for_word(self, attempt: Attempt) -> None:
        """Where the broker cannot count, the coordinator does, and may say that this was once too often."""
        if not attempt.is_counted and self._revoked.wait_for(attempt.task.message_id, _WORD_SECONDS):
            attempt.settle(interrupted(_CANCELLED))
            raise SkipMessage("nobody waits for it any more")

    def _tell(self, report: StepReport) -> None:
        message = self._message_of(report) if report.heartbeat is not None else None
        if isinstance(message, Delivery):
            message.say(_encoded(report), report.partition)
        else:
            self._report(_encoded(report))

    def _message_of(self, report: StepReport) -> MessageProxy | None:
        with self._changed:
            running = list(self._running.items())
        place = (report.run_id, report.generation, report.seq)
        return next((message for attempt, message in running if attempt.task.key == place), None)

    def _say_started(self, attempt: Attempt) -> None:
        attempt.is_announced = True
        try:
            text = _encoded(attempt.started_report(self.worker))
            self._insist(lambda: self._report(text))
        except ReportAbandoned:
            attempt.settle(interrupted(WorkerShutdown("the worker stopped before the step began")))
            raise SkipMessage("the worker stops") from None

    def _taken(self, message: MessageProxy) -> Attempt | None:
        try:
            task = decode_task(message.options[TASK_OPTION])
        except MalformedMessage as error:
            self._drop(message, error)
            return None
        attempt = Attempt(task, context_of(task, self.state, self.stopping.is_set))
        setattr(message, _ATTEMPT, attempt)
        with self._changed:
            self._running[attempt] = message
        return attempt

    def _drop(self, message: MessageProxy, error: MalformedMessage) -> None:
        if isinstance(message, Delivery):
            self._insist(lambda: message.put_aside(str(error)))
        else:
            _logger.error("message %s on queue %s is dropped: %s", message.message_id, message.queue_name, error)

    def _settle(self, broker: Broker, message: MessageProxy) -> None:
        if TASK_OPTION not in message.options or message.queue_name in broker.delay_queues:
            return
        attempt = self.attempt_of(message)
        if attempt is None:
            attempt = self._never_processed(message)
        if attempt is None:
            return
        report = attempt.claim_report(self.worker)
        if report is None:
            self._is_out(attempt)
            return
        try:
            self._insist(lambda: self._send(message, report, lambda: self._is_out(attempt)))
        except BaseException:
            attempt.disclaim_report()
            raise

    def _is_out(self, attempt: Attempt) -> None:
        self._suspects.leave(attempt)
        with self._changed:
            self._running.pop(attempt, None)
            if not self._running:
                self._changed.notify_all()

    def _never_processed(self, message: MessageProxy) -> Attempt | None:
        error = message._exception  # pyright: ignore[reportPrivateUsage] # noqa: SLF001
        if error is None or (isinstance(error, ActorNotFound) and isinstance(message, Delivery) and message.put_off()):
            return None
        attempt = self._taken(message)
        if attempt is not None:
            attempt.fail(error)
        return attempt

    def _send(self, message: MessageProxy, report: StepReport, tell: Callable[[], None]) -> None:
        if isinstance(message, Delivery):
            message.finish(_encoded(report), report.partition, tell)
        else:
            self._report(_encoded(report))
            tell()

    def _insist(self, publish: Callable[[], None]) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                publish()
                return
            except Exception as error:  # noqa: BLE001 - a report of any kind must not be lost
                _logger.warning("a report was not taken, next try in %.2f s: %r", pause, error)
            if self._abandoned.wait(pause):
                raise ReportAbandoned
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _show_arguments(message: MessageProxy, attempt: Attempt) -> None:
    """Put the arguments of a step where the broker's own middleware looks for them."""
    if attempt.call is not None:
        args, kwargs = attempt.call
        inside: Any = message
        inside._message = dataclasses.replace(inside._message, args=args, kwargs=kwargs)  # noqa: SLF001


def _go_on_from(attempt: Attempt, said: str) -> None:
    """Hand the last heartbeat of a delivery whose worker was lost to this one."""
    if not said:
        return
    try:
        heartbeat = decode_report(said).heartbeat
    except MalformedMessage as error:
        _logger.error("what %s said last before its worker was lost cannot be read: %s", attempt, error)
        return
    if heartbeat is not None:
        attempt.task = dataclasses.replace(attempt.task, heartbeat=heartbeat)
        attempt.context.signs.follow(heartbeat)


def _keep_from_dead_letters(attempt: Attempt | None, message: MessageProxy) -> None:
    # The history has the failure and decides what follows; a dead letter would be a copy of it for a week.
    if attempt is not None and attempt.is_settled:
        message.failed = False


def _encoded(report: StepReport) -> str:
    try:
        return encode_message(report)
    except Exception:
        _logger.exception("the report of step %s of run %s cannot be encoded", report.seq, report.run_id)
        return encode_message(_unspeakable(report))


def _unspeakable(report: StepReport) -> StepReport:
    return dataclasses.replace(
        report,
        kind=ReportKind.FAILED,
        result=None,
        error_type="InternalError",
        bases=(),
        message="the report of the step cannot be encoded; the log of its worker has the reason",
        traceback="",
        retry_after=None,
        fatal=True,
    )
