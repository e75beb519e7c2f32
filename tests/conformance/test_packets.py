"""MariaDB takes statements of a limited size; a row beyond it is refused as data, not taken for an outage."""

from __future__ import annotations

import pytest

from dramaturg_protocol.events import HistoryEvent, StepCompleted
from dramaturg_protocol.faults import Refused
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import StoredRun
from dramaturg_store.database import Database
from tests.conformance.worlds import EPOCH, OpenDatabase, a_lease, a_new_run

pytestmark = pytest.mark.conformance

MIB = 1024 * 1024


def test_a_row_that_is_larger_than_a_statement_may_be_is_refused(database: OpenDatabase) -> None:
    if not isinstance(database, Database) or database.engine.dialect.name not in ("mysql", "mariadb"):
        pytest.skip("only MariaDB limits its statements")
    lease = a_lease(database)
    write = a_new_run("large")
    assert write.record is not None
    number = write.record.last_event
    large = StepCompleted(1, "large", 1, Payload('"' + "x" * 20 * MIB + '"'))
    write.events[-1] = HistoryEvent(number, EPOCH, large)

    with pytest.raises(Refused, match="raise its max_allowed_packet"):
        database.store.commit([write], lease, EPOCH)

    database.store.commit([a_new_run("small")], lease, EPOCH)
    assert isinstance(database.store.load(["small"])["small"], StoredRun)
