"""What one turn sends from a run to its children, its parent and others, beside what it records."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from dramaturg_coordinator.core import chains, children, cuts, talk
from dramaturg_coordinator.core.effective import effective
from dramaturg_coordinator.core.refusal import Refusal
from dramaturg_coordinator.core.run_state import OpenChild
from dramaturg_coordinator.core.states import RunPhase
from dramaturg_coordinator.live import LiveRun
from dramaturg_coordinator.rules import Rules
from dramaturg_protocol import events as e
from dramaturg_protocol.messages import Request, RequestKind
from dramaturg_protocol.records import RunWrites
from dramaturg_protocol.request_bodies import StartBody, decode_start

#: Claims a workflow id for a run: the open run that has it instead, if any does.
ClaimId = Callable[[str, str], str | None]


class Family:
    """The requests between a run and its family in one turn.

    Parameters:
      claim_id: asked for a child whose parent chose its workflow id.
    """

    def __init__(self, run: LiveRun, rules: Rules, writes: RunWrites, claim_id: ClaimId) -> None:
        self._run = run
        self._partition_of = rules.partition_of
        self._writes = writes
        self._claim_id = claim_id

    @property
    def _sends(self) -> list[Request]:
        return self._writes.sends

    def asked(self, body: e.EventBody) -> None:
        """The code asked for this just now."""
        state = self._run.state
        match body:
            case e.ChildStarted(seq=seq):
                self._sends.append(children.start_of(state, seq, self._partition_of))
            case e.CancelSent(child=child) if child is not None:
                self._sends.append(children.cancel_of(state, body, self._partition_of))
            case e.CancelSent():
                self._sends.append(talk.cancel_of(state, body, self._partition_of))
            case e.SignalSent():
                self._sends.append(talk.signal_of(state, body, self._partition_of))
            case _:
                pass

    def closed(self, open_children: Mapping[int, OpenChild]) -> None:
        """The run has just closed, with these children open."""
        state = self._run.state
        self._writes.sends += children.stops_of(state, open_children, f"is {state.phase.value}", self._partition_of)
        if isinstance(state.end, e.RunContinued):
            self._go_on_as(state.end)
        else:
            self._say_farewell()

    def _go_on_as(self, end: e.RunContinued) -> None:
        """Begin the next run of the chain, and hand on what the code did not take."""
        state, execution = self._run.state, self._run.execution
        assert state.started is not None
        self._writes.next_of_id = (state.started.workflow_id, end.run_id)
        self._sends.append(chains.next_of(state, end))
        untaken = execution.scope.dialogue.untaken() if execution is not None else []
        self._writes.sends += chains.signals_of(state, end, untaken)

    def hand_on(self, request: Request) -> bool:
        """Whether the run went on as another one, which is sent what came; `MalformedMessage` where it cannot be read."""
        end = self._run.state.end
        if not isinstance(end, e.RunContinued):
            return False
        if not chains.goes_on(self._run.state, end, request, _start_in(request)):
            return False
        self._sends.append(dataclasses.replace(request, run_id=end.run_id, arrival=0))
        return True

    def cut(self, open_children: Mapping[int, OpenChild], history: Sequence[e.HistoryEvent]) -> None:
        """The run goes on from an earlier point, as the last event of its history says.

        Parameters:
          open_children: those that were open before that.
        """
        body = history[-1].body
        assert isinstance(body, e.Cut)
        state = self._run.state
        left = {
            seq: child
            for seq, child in open_children.items()
            if seq not in state.children or state.children[seq].run_id != child.run_id
        }
        self._writes.sends += children.stops_of(state, left, "went back to before it was started", self._partition_of)
        again = children.RETRY if isinstance(body, e.RunRetried) else children.TELL
        for seq, _ in body.children:
            self._sends.append(children.start_of(state, seq, self._partition_of, again))
            if state.children[seq].is_cancelled:
                cancel = e.CancelSent(seq, state.children[seq].workflow_id, state.children[seq].run_id, seq)
                self._sends.append(children.cancel_of(state, cancel, self._partition_of))
        self._writes.sends += talk.signals_again(state, body, effective(history), self._partition_of)

    def ask_again(self) -> None:
        """Have the children that have ended tell of it: it was lost."""
        state = self._run.state
        for seq in state.children:
            self._sends.append(children.start_of(state, seq, self._partition_of, children.TELL))

    def events_of(
        self, request: Request, history: Callable[[], Sequence[e.HistoryEvent]], now: datetime
    ) -> Sequence[e.EventBody] | None:
        """What a parent's start leads to where it is not just a start; ``None`` for every other request.

        Parameters:
          history: gives all events of the run.
        """
        state = self._run.state
        body = _start_in(request)
        if body is None or body.parent is None or request.message_id in state.messages:
            return None
        if state.phase is RunPhase.NEW:
            return self._refused(request, body)
        if not body.again or not state.is_closed:
            return ()
        if body.again == children.RETRY and state.phase is not RunPhase.COMPLETED:
            if (holder := self._holder_of_id()) is not None:
                self._sends.append(children.refusal_of(request, body, holder))
                return ()
            asked = e.Cut(request.message_id, 0, 0, reason="its parent was retried")
            return (cuts.retry_of(state, history(), asked, now, takes_stopped=True),)
        self._say_farewell(request.message_id)
        return ()

    def keep_id(self) -> None:
        """Have a closed run that is to go on bear its workflow id again.

        Raises:
          Refusal: it is another open run's.
        """
        holder = self._holder_of_id()
        if holder is not None:
            state = self._run.state
            assert state.started is not None
            raise Refusal(
                f"workflow id {state.started.workflow_id!r} belongs to the open run {holder}: run {state.run_id} can go on "
                f"when that one is closed; fork begins a new run instead"
            )

    def _holder_of_id(self) -> str | None:
        """The other open run that has the run's workflow id, if any; else it is this one's from now on."""
        started = self._run.state.started
        if started is None or started.workflow_id == self._run.state.run_id:
            return None
        return self._claim_id(started.workflow_id, self._run.state.run_id)

    def _refused(self, request: Request, body: StartBody) -> Sequence[e.EventBody] | None:
        """A child whose workflow id is another open run's cannot begin, and its parent is told."""
        if body.workflow_id == request.run_id:
            return None
        holder = self._claim_id(body.workflow_id, request.run_id)
        if holder is None:
            return None
        self._sends.append(children.refusal_of(request, body, holder))
        return ()

    def _say_farewell(self, cause: str = "") -> None:
        farewell = children.farewell_of(self._run.state, cause)
        if farewell is not None:
            self._sends.append(farewell)


#: Text that is in the start of a child, and in that of the next run of a chain; values are quoted once more there.
_OF_CHILD, _OF_NEXT = '"parent":{', re.compile('"continued_from":"[^"]')


def _start_in(request: Request) -> StartBody | None:
    """The start of a child, or of the next run of a chain; ``None`` for any other request."""
    # Most starts are of neither, and are not read twice.
    text = request.body
    if request.kind is not RequestKind.START or not (_OF_CHILD in text or _OF_NEXT.search(text)):
        return None
    return decode_start(text)


def is_started_by(run_ids: set[str], message: object) -> bool:
    """Whether it is a start that one of these runs sent; the run that it begins is one of them from then on."""
    if not isinstance(message, Request):
        return False
    body = _start_in(message)
    is_child = body is not None and body.parent is not None and body.parent.run_id in run_ids
    is_theirs = is_child or (body is not None and body.continued_from in run_ids)
    if is_theirs:
        run_ids.add(message.run_id)
    return is_theirs
