"""What one turn asks of limits for one run, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dramaturg_coordinator.core import decide
from dramaturg_coordinator.core.run_state import OpenStep
from dramaturg_coordinator.limits import Granted, Limits
from dramaturg_coordinator.live import LiveRun
from dramaturg_protocol import events as e
from dramaturg_protocol.definitions import EffectiveOptions
from dramaturg_protocol.limit_messages import LimitBody, decode_limit
from dramaturg_protocol.limits import RUN_SEQ, LimitKind, LimitSize, Slot, Ticket, limit_id_of
from dramaturg_protocol.messages import Request, RequestKind
from dramaturg_protocol.records import RunWrites, WorkItem, WorkKind


@dataclass(frozen=True, slots=True)
class _Held:
    """What an attempt may have of limits, or wait for, when a turn touches it first."""

    step: OpenStep
    limits: tuple[tuple[LimitKind, str], ...]
    waits: bool


class RunLimits:
    """The attempts of one run that limits let through, or not yet, in one turn.

    Attributes:
      has_moved: some began or ceased to wait for a limit.
    """

    def __init__(self, run: LiveRun, limits: Limits, writes: RunWrites, now: datetime) -> None:
        self._run = run
        self._limits = limits
        self._writes = writes
        self._now = now
        self._held: dict[Ticket, _Held] = {}
        self._passed: dict[tuple[int, int], tuple[str, bool]] = {}
        self._asks: dict[tuple[str, int], LimitBody] = {}
        self._place_held = ""
        self.has_moved = False

    def note(self, step: OpenStep, options: EffectiveOptions) -> None:
        """Something is about to happen to a step."""
        if not options.limits or self._ticket(step) in self._held:
            return
        ids = tuple((size.kind, _id(step, size)) for size in options.limits)
        waits = (step.generation, step.seq) in self._run.limited
        self._held[self._ticket(step)] = _Held(step, ids, waits)

    def note_run(self) -> None:
        """Something is about to happen to the run as a whole."""
        limit = self._limit
        if limit is not None and not self._run.state.is_closed:
            self._place_held = self._id_of_run(limit)

    def at_once(self, seq: int) -> Sequence[e.EventBody]:
        """What follows at once where the code has asked for the run's place at this position."""
        queued, limit = self._run.state.queued, self._limit
        if queued is None or queued.seq != seq or limit is None:
            return ()
        return (e.RunAdmitted(seq),) if self._enter_run(limit, limit.on_conflict) else self._skipped(limit)

    def ask_again(self) -> Sequence[e.EventBody]:
        """What follows where a run that waits for its place asks for it once more."""
        queued = self._run.state.queued
        return () if queued is None else self.at_once(queued.seq)

    def take_place(self, grant: Granted | Request) -> Sequence[e.EventBody]:
        """What follows where a grant is for the run as a whole."""
        state, limit = self._run.state, self._limit
        if isinstance(grant, Granted):
            tickets, limit_id, is_refused = [grant.ticket], grant.limit_id, False
        else:
            body = decode_limit(grant.body)
            tickets = [Ticket(state.run_id, *each) for each in body.tickets]
            limit_id, is_refused = body.limit_id, body.is_refused
        if tickets[0].seq != RUN_SEQ:
            return ()
        if state.queued is None or limit is None:
            if state.is_closed:
                self._free(tickets[0], [limit_id])
            return ()
        if is_refused:
            return self._skipped(limit, is_refused=True)
        if isinstance(grant, Granted):
            self._enter_run(limit, limit.on_conflict)
        return (e.RunAdmitted(state.queued.seq),)

    def go_on(self) -> None:
        """A run that had its place goes on after it was closed: it has one again, beyond the limit if need be."""
        state, limit = self._run.state, self._limit
        if limit is not None and state.queued is None and not state.is_put_off:
            self._enter_run(limit, "force")

    def take(self, grant: Granted | Request) -> Iterator[tuple[int, int]]:
        """The attempts that a grant lets through; one for an attempt that does not wait for it is given back.

        Raises:
          MalformedMessage: the request cannot be read.
        """
        if isinstance(grant, Granted):
            found = (
                [grant.ticket]
                if grant.ticket.seq != RUN_SEQ and self._lets(grant.ticket, grant.limit_id, is_recorded=False)
                else []
            )
        else:
            body = decode_limit(grant.body)
            tickets = [Ticket(self._run.state.run_id, *each) for each in body.tickets]
            found = [
                each for each in tickets if each.seq != RUN_SEQ and self._lets(each, body.limit_id, is_recorded=True)
            ]
        return ((ticket.generation, ticket.seq) for ticket in found)

    def admitted(self, item: WorkItem, options: EffectiveOptions, *, begins: bool) -> WorkItem:
        """The row of an attempt as its limits have it: as it is, or waiting for one of them."""
        key = (item.generation, item.seq)
        if item.kind not in (WorkKind.STEP, WorkKind.LOCAL):
            self._set_waits(key, waits=False)
            return item
        step = self._run.state.steps[item.seq]
        waits = not self._passes(step, options) if begins else key in self._run.limited
        self._set_waits(key, waits=waits)
        return replace(item, kind=WorkKind.LIMITED) if waits else item

    def write(self) -> None:
        """Give back what is over, and ask those elsewhere."""
        state = self._run.state
        for ticket, held in self._held.items():
            step = None if state.is_closed else state.steps.get(ticket.seq)
            if step is None or self._ticket(step) != ticket:
                self._set_waits((ticket.generation, ticket.seq), waits=step is not None and self._waits_anew(step))
                self._free(ticket, freed_by(held.limits, held.waits))
        if self._place_held and state.is_closed:
            mine = self._ticket_of_run
            # A run may begin and end in one turn.
            self._writes.slots[:] = [slot for slot in self._writes.slots if slot.ticket != mine]
            self._free(mine, [self._place_held])
        if state.is_closed:
            self._asks.clear()
        self._writes.sends += [
            body.request(RequestKind.ASK, self._limits.partition_of(limit_id))
            for (limit_id, _), body in self._asks.items()
        ]

    # Parts.

    @property
    def _limit(self) -> e.RunLimit | None:
        """What the run as a whole is under."""
        started = self._run.state.started
        limit = None if started is None else started.limit
        return None if limit is None or limit.error else limit

    @property
    def _ticket_of_run(self) -> Ticket:
        return Ticket(self._run.state.run_id, 0, RUN_SEQ)

    def _id_of_run(self, limit: e.RunLimit) -> str:
        started = self._run.state.started
        assert started is not None
        return limit_id_of(LimitKind.CONCURRENCY, f"workflow {started.workflow}", limit.key)

    def _enter_run(self, limit: e.RunLimit, on_conflict: str) -> bool:
        """Ask for the run's place: whether it has it."""
        state, limit_id, started = self._run.state, self._id_of_run(limit), self._run.state.started
        assert started is not None
        priority, name = started.priority or 0, f"workflow {started.workflow}"
        partition = self._limits.partition_of(limit_id)
        if not self._limits.holds(limit_id):
            self._asks[limit_id, priority] = LimitBody(
                limit_id, state.run_id, (self._ticket_of_run[1:],), state.partition, priority, limit.most, 0.0, name,
                limit.key, on_conflict,
            )  # fmt: skip
            return on_conflict == "force"
        wanted = Slot(
            *self._ticket_of_run, limit_id, partition, state.partition, priority, 0, limit.most, 0.0, None, None,
            name, limit.key,
        )  # fmt: skip
        may_begin, row = self._limits.enter(wanted, self._now, on_conflict)
        if row is not None:
            self._writes.slots.append(row)
            self._writes.fences.add(partition)
            if not may_begin and on_conflict == "cancel_running":
                self._writes.sends += self._limits.stops(wanted)
        return may_begin

    def _skipped(self, limit: e.RunLimit, *, is_refused: bool = False) -> Sequence[e.EventBody]:
        """The run ends before it began, where it is not to wait."""
        is_here = self._limits.holds(self._id_of_run(limit))
        if limit.on_conflict != "skip" or not (is_here or is_refused):
            return ()
        state = self._run.state
        why = f"skipped: {limit.most} of its workflow run already" + (f" for {limit.key!r}" if limit.key else "")
        return (e.RunCancelRequested(f"{state.run_id}:skipped:{state.number}", None, why),)

    def _lets(self, ticket: Ticket, limit_id: str, *, is_recorded: bool) -> bool:
        """Whether an attempt waits for this grant.

        Parameters:
          is_recorded: whoever granted has committed its row.
        """
        state, key = self._run.state, (ticket.generation, ticket.seq)
        step = state.steps.get(ticket.seq)
        is_open = step is not None and self._ticket(step) == ticket
        if is_open and key in self._run.limited and decide.is_to_send(state, *ticket[1:4], self._now):
            self._passed[key] = (limit_id, is_recorded)
            return True
        if not is_open:
            self._free(ticket, [limit_id])
        return False

    def _waits_anew(self, step: OpenStep) -> bool:
        return (step.generation, step.seq) in self._run.limited

    def _passes(self, step: OpenStep, options: EffectiveOptions) -> bool:
        """Ask limit by limit, in their order; the next one only once the one before has granted."""
        limit_id, is_recorded = self._passed.get((step.generation, step.seq), ("", False))
        ids = [_id(step, size) for size in options.limits]
        first = ids.index(limit_id) if limit_id in ids else 0
        return all(
            self._passes_one(step, size, options)
            for size in options.limits[first + (limit_id in ids and is_recorded) :]
        )

    def _passes_one(self, step: OpenStep, size: LimitSize, options: EffectiveOptions) -> bool:
        limit_id, run = _id(step, size), self._run
        key = step.limits.get(size.kind, "")
        priority, ticket = options.priority or 0, self._ticket(step)
        partition = self._limits.partition_of(limit_id)
        if not self._limits.holds(limit_id):
            before = self._asks.get((limit_id, priority))
            mine = (*(before.tickets if before else ()), ticket[1:])
            self._asks[limit_id, priority] = LimitBody(
                limit_id, run.state.run_id, mine, run.state.partition, priority, size.most, size.per, step.name, key
            )  # fmt: skip
            return False
        wanted = Slot(
            *ticket, limit_id, partition, run.state.partition, priority, 0, size.most, size.per, None, None,
            step.name, key,
        )  # fmt: skip
        may_begin, row = self._limits.enter(wanted, self._now)
        if row is not None:
            self._writes.slots.append(row)
            self._writes.fences.add(partition)
        return may_begin

    def _free(self, ticket: Ticket, limit_ids: Iterable[str]) -> None:
        ids = list(limit_ids)
        if ids:
            self._writes.freed.append(ticket)
        for limit_id in ids:
            if not self._limits.holds(limit_id):
                body = LimitBody(limit_id, ticket.run_id, (ticket[1:],))
                self._writes.sends.append(body.request(RequestKind.FREE, self._limits.partition_of(limit_id)))

    def _set_waits(self, key: tuple[int, int], *, waits: bool) -> None:
        if waits != (key in self._run.limited):
            self.has_moved = True
            (self._run.limited.add if waits else self._run.limited.discard)(key)

    def _ticket(self, step: OpenStep) -> Ticket:
        return Ticket(self._run.state.run_id, step.generation, step.seq, step.attempt, step.releases)


def freed_by(limits: Iterable[tuple[LimitKind, str]], waits: bool) -> list[str]:
    """The limits to which an attempt that is over gives something back: of a rate only its place among those that wait."""
    return [limit_id for kind, limit_id in limits if waits or kind is LimitKind.CONCURRENCY]


def _id(step: OpenStep, size: LimitSize) -> str:
    return limit_id_of(size.kind, step.name, step.limits.get(size.kind, ""))
