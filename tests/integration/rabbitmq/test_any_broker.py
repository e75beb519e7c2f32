"""What every Dramatiq broker can do, with RabbitMQ's stock one for an example: reports by `enqueue` and `consume` alone."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.rabbitmq import RabbitmqBroker as StockRabbitmqBroker

from dramaturg_coordinator.queue_reports import QueueReports
from dramaturg_protocol.messages import ReportKind, StepReport, encode_message
from dramaturg_protocol.records import DeadLetter
from dramaturg_protocol.transport import message_of_report, report_queue
from tests.services import needs

#: One that nobody else has: this broker knows no namespace.
PARTITION = 1_000_000 + secrets.randbelow(1_000_000_000)


@pytest.fixture
def broker() -> Iterator[Any]:
    broker: Any = StockRabbitmqBroker(url=needs("rabbitmq"), middleware=[], confirm_delivery=True)
    yield broker
    for suffix in ("", ".DQ", ".XQ"):
        broker.channel.queue_delete(report_queue(PARTITION) + suffix)
    broker.close()


def a_report(seq: int) -> StepReport:
    return StepReport("run", 1, seq, 1, PARTITION, ReportKind.COMPLETED, worker="w")


def take(reports: QueueReports, count: int) -> Sequence[StepReport | DeadLetter]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        taken = reports.take(count)
        if len(taken) == count:
            return taken
        # A wait for reports returns at once while some are there.
        threading.Event().wait(0.02)
    raise AssertionError(f"only {reports.take(count)}")


def test_reports_stay_until_they_are_acknowledged_and_come_to_whoever_reads_next(broker: Any) -> None:
    broker.declare_queue(report_queue(PARTITION))
    for seq in (1, 2, 3):
        report = a_report(seq)
        broker.enqueue(message_of_report(encode_message(report), report.partition))
    first = QueueReports(broker, {PARTITION: 1})
    assert take(first, 3) == [a_report(1), a_report(2), a_report(3)]
    first.acknowledge(2)
    assert first.is_past(first.mark()) is False
    first.close()

    second = QueueReports(broker, {PARTITION: 1})
    assert take(second, 1) == [a_report(3)]
    second.acknowledge(1)
    assert second.is_past(second.mark())
    second.close()


def test_what_is_no_report_is_a_dead_letter(broker: Any) -> None:
    broker.declare_queue(report_queue(PARTITION))
    broker.enqueue(dramatiq.Message(report_queue(PARTITION), "greet", ("you",), {}, {}))
    broker.enqueue(message_of_report("nonsense", PARTITION))
    reports = QueueReports(broker, {PARTITION: 1})

    letters = take(reports, 2)
    reports.acknowledge(2)
    reports.close()

    assert [type(each) for each in letters] == [DeadLetter, DeadLetter]
    assert [each.body for each in letters if isinstance(each, DeadLetter)][1] == "nonsense"
