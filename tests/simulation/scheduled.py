"""Schedules under faults: drawn from a seed, with runs that take shorter or longer than the time between two of them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from dramaturg.testing.clock import BEGINNING
from dramaturg.testing.simulation.chance import Chance
from dramaturg.testing.simulation.experiments import Ending, Experiment, Finding, try_seed
from dramaturg.testing.simulation.processes import NAMESPACE
from dramaturg_coordinator.core.schedule_rows import new_row
from dramaturg_protocol.ids import partition_of
from dramaturg_protocol.ordering import start_order
from dramaturg_protocol.schedule_records import ScheduleRecord
from dramaturg_protocol.schedule_specs import Overlap, Spec
from tests.simulation.grammar import Program, expect, simulated_program
from tests.simulation.programs import RULES

_PROGRAMS: tuple[Program, ...] = (
    ["step", 7],
    ["retried step", 2, 7],
    ["sleep", 45],
    ["in order", [["step", 7], ["sleep", 3600]]],
    ["child", ["step", 7]],
)
_EVERY = (timedelta(seconds=20), timedelta(minutes=10), timedelta(hours=5))
_WINDOWS = (60, 3600, 200_000)


def experiment_of(seed: int) -> Experiment:
    """One or two schedules, which end after some times."""
    chance = Chance(seed)
    drawn = [_schedule(chance, f"schedule-{number}") for number in range(1 + chance.below("schedules", 2))]
    endings: dict[str, list[Ending]] = {}
    for record, program in drawn:
        endings[record.id] = [Ending("COMPLETED", json.dumps(expect(program), separators=(",", ":")))]
        if record.overlap == Overlap.CANCEL_OTHER:
            endings[record.id].append(Ending("CANCELLED"))
        if record.overlap == Overlap.TERMINATE_OTHER:
            endings[record.id].append(Ending("TERMINATED"))
    return Experiment([], {}, schedules=[record for record, _ in drawn], scheduled=endings)


def _schedule(chance: Chance, name: str) -> tuple[ScheduleRecord, Program]:
    program, every = chance.pick("scheduled program", _PROGRAMS), chance.pick("every", _EVERY)
    begin: datetime = BEGINNING + timedelta(seconds=1 + chance.below("begin", 30))
    jitter = timedelta(seconds=chance.pick("jitter", (0, 0, 5)))
    spec = Spec(every=every, start_at=begin, end_at=begin + chance.below("times", 8) * every, jitter=jitter)
    schema = simulated_program.definition.schema
    payload = schema.encode_call((json.dumps(program),), {}, limit=1 << 20)
    order = start_order(
        simulated_program.name, payload, {}, namespace=NAMESPACE, schema=schema, message_id=name, run_id=name
    )
    row = new_row(
        name,
        partition_of(name, 1),
        spec,
        BEGINNING,
        workflow=simulated_program.name,
        body=order.body,
        overlap=chance.pick("overlap", list(Overlap)),
        catchup=chance.pick("window", _WINDOWS),
        declared="client",
        paused=False,
        note="",
    )
    return row, program


def find(seed: int) -> Finding | None:
    """Try a seed; why it fails, if it does."""
    return try_seed(experiment_of(seed), RULES, seed)
