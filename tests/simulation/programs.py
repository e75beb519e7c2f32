"""Generated programs and what clients do with them: drawn from a seed, tried, and reduced where one fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from dramaturg.embedded import rules_of
from dramaturg.testing.simulation.chance import Chance
from dramaturg.testing.simulation.clients import Call
from dramaturg.testing.simulation.experiments import Ending, Experiment, Finding, reduce, try_seed
from dramaturg.testing.simulation.processes import NAMESPACE
from dramaturg_protocol.config import Settings
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.ordering import start_order
from dramaturg_protocol.records import StartOrder
from dramaturg_protocol.request_bodies import ControlBody
from tests.simulation import outside, talk
from tests.simulation.grammar import (
    Draw,
    Program,
    calls_for,
    expect,
    is_program,
    parts_of,
    programs_in,
    simulated_program,
)
from tests.simulation.limited import LIMITED_WORKFLOWS, OF_CLIENTS

#: Their constructs are drawn, too.
GRAMMARS = (talk,)

RULES = rules_of(Settings(), replay_every_turn=False)

#: Most constructs of one program.
MOST = 8


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one seed does.

    Attributes:
      programs: each is a run.
      ending: what a client does to the first run: nothing, ``cancel``, ``terminate``, ``pause`` and resume, ``retry`` of a
        run that fails, ``reset`` to its beginning; or the start of another run under its id: ``use_existing``,
        ``terminate_existing``, ``raise``, or the same idempotency key: ``key``.
      at: when, in seconds.
      limit: what becomes of a run while another one is there, where one is let through at a time: ``queue``, ``skip``,
        ``cancel_running``.
    """

    programs: tuple[Program, ...]
    ending: str = ""
    at: float = 0.0
    limit: str = ""


#: Seconds after which nothing of any program is under way.
LATE = 1e7

ENDINGS = ("cancel", "terminate", "pause", "retry", "reset", "use_existing", "terminate_existing", "raise", "key")


def scenario_of(seed: int) -> Scenario:
    """The scenario of a seed."""
    chance = Chance(seed)
    limit = chance.pick("limit", list(LIMITED_WORKFLOWS)) if chance.happens("has limit", 0.15) else ""
    programs = tuple(
        ["in order", [draw.program(2) for _ in range(1 + draw.number(3))]]
        for _ in range(1 + chance.below("runs", 2) + bool(limit))
        for draw in [Draw(chance, 1 + chance.below("size", MOST))]
    )
    ending = chance.pick("ending", ENDINGS) if chance.happens("has ending", 0.6) else ""
    if ending == "retry":
        programs = (_doomed(programs[0], chance), *programs[1:])
    return Scenario(programs, ending, round(chance.number("at") * 8, 2), limit)


def _doomed(program: Program, chance: Chance) -> Program:
    """A program one of whose parts fails the run, alone or beside what else it does at that moment."""
    parts = list(program[1])
    place = chance.below("place of doom", len(parts))
    doomed: Program = ["step that fails its run", chance.below("value", 100)]
    beside = chance.pick("beside", ("", "gather", "task group"))
    parts[place] = [beside, [parts[place], doomed]] if beside else doomed
    return [program[0], parts]


def experiment_of(scenario: Scenario) -> Experiment:
    """What clients send, and how the runs may end."""
    calls: list[Call] = []
    endings: dict[str, list[Ending]] = {}
    for number, program in enumerate(scenario.programs):
        options: dict[str, Any] = {}
        if number == 0 and scenario.ending:
            options = {"idempotency_key": "k"} if scenario.ending == "key" else {"id": "w"}
        order = _order(scenario, program, f"run-{number}", options)
        calls.append(Call(float(number), order=order))
        endings[order.run_id] = [Ending("COMPLETED", json.dumps(expect(program), separators=(",", ":")))]
        if scenario.limit in ("skip", "cancel_running"):
            endings[order.run_id].append(Ending("CANCELLED"))
    optional = _end(scenario, calls, endings)
    for run_id, program in zip(endings, (*scenario.programs, scenario.programs[0]), strict=False):
        calls += calls_for(program, run_id)
    calls.append(Call(5.0, finds=outside.redrives))
    return Experiment(calls, endings, optional)


def _end(scenario: Scenario, calls: list[Call], endings: dict[str, list[Ending]]) -> list[str]:
    first = next(iter(endings))
    program = scenario.programs[0]
    match scenario.ending:
        case "":
            return []
        case "cancel" | "terminate":
            calls.append(Call(scenario.at, request=_ask(RequestKind(scenario.ending), first)))
            endings[first].append(Ending("CANCELLED" if scenario.ending == "cancel" else "TERMINATED"))
            return []
        case "pause" | "retry" | "reset":
            calls += [Call(at, request=request) for at, request in _requests(scenario, first)]
            return []
        case "key":
            calls.append(Call(scenario.at, order=_order(scenario, program, "again", {"idempotency_key": "k"})))
            return []
        case _:
            order = _order(scenario, program, "again", {"id": "w", "on_conflict": scenario.ending})
            calls.append(Call(scenario.at, order=order))
            endings["again"] = list(endings[first])
            if scenario.ending == "terminate_existing":
                endings[first].append(Ending("TERMINATED"))
            # The client that is told of a conflict starts nothing, nor does one that is content with the run there is.
            # A start that is delayed may come first, too: then the other one meets it.
            endings["again"].append(Ending("TERMINATED"))
            return ["again", first]


def _requests(scenario: Scenario, run_id: str) -> list[tuple[float, Request]]:
    match scenario.ending:
        case "pause":
            # The first resume may overtake the pause; the last one does not.
            return [
                (scenario.at, _ask(RequestKind.PAUSE, run_id)),
                (scenario.at + 20, _ask(RequestKind.RESUME, run_id)),
                (LATE, _ask(RequestKind.RESUME, run_id, 1)),
            ]
        case "retry":
            times = (scenario.at, scenario.at + 40, LATE)
            return [(at, _ask(RequestKind.RETRY, run_id, number)) for number, at in enumerate(times)]
        case _:
            return [(scenario.at, _ask(RequestKind.RESET, run_id, to_event=1))]


def _ask(kind: RequestKind, run_id: str, number: int = 0, to_event: int | None = None) -> Request:
    body = encode_message(ControlBody("somebody", to_event=to_event))
    return Request(f"{kind} {number}", kind, run_id, 1, body)


def _order(scenario: Scenario, program: Program, name: str, options: dict[str, Any]) -> StartOrder:
    wf = LIMITED_WORKFLOWS[scenario.limit] if scenario.limit else simulated_program
    schema = wf.definition.schema
    args = (OF_CLIENTS,) if scenario.limit else ()
    payload = schema.encode_call((*args, json.dumps(program)), {}, limit=1 << 20)
    return start_order(
        wf.name,
        payload,
        options,
        namespace=NAMESPACE,
        schema=schema,
        message_id=f"start {name}",
        run_id=name,
    )


def find(seed: int) -> Finding | None:
    """Try a seed; why it fails, if it does."""
    return try_seed(experiment_of(scenario_of(seed)), RULES, seed)


def explain(finding: Finding) -> str:
    """A failure, reduced: what it takes of the program and of the faults, and how to see it again."""
    scenario = scenario_of(finding.seed)
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for smaller in _smaller_scenarios(scenario):
            found = try_seed(experiment_of(smaller), RULES, finding.seed)
            if found is not None and found.kind == finding.kind:
                scenario, finding, is_smaller = smaller, found, True
                break
    finding = reduce(experiment_of(scenario), RULES, finding)
    return f"{finding}\n  the programs: {scenario}\n  to see it again: make simulate SEEDS={finding.seed}"


def _smaller_scenarios(scenario: Scenario) -> Iterator[Scenario]:
    if len(scenario.programs) > 1:
        for index in range(len(scenario.programs)):
            left = scenario.programs[:index] + scenario.programs[index + 1 :]
            yield replace(scenario, programs=left)
    if scenario.ending not in ("", "retry"):
        yield replace(scenario, ending="")
    if scenario.limit:
        yield replace(scenario, limit="")
    for index, program in enumerate(scenario.programs):
        for smaller in _smaller(program):
            yield replace(scenario, programs=(*scenario.programs[:index], smaller, *scenario.programs[index + 1 :]))


def _smaller(program: Program) -> Iterator[Program]:
    yield from parts_of(program)
    for place, parameter in enumerate(program[1:], start=1):
        if is_program(parameter):
            for smaller in _smaller(parameter):
                yield [*program[:place], smaller, *program[place + 1 :]]
            continue
        parts = programs_in(parameter)
        for index, part in enumerate(parts):
            if len(parts) > 1:
                yield [*program[:place], parts[:index] + parts[index + 1 :], *program[place + 1 :]]
            for smaller in _smaller(part):
                yield [*program[:place], [*parts[:index], smaller, *parts[index + 1 :]], *program[place + 1 :]]
