"""What becomes of the requests to one run in one turn: each is taken, put aside, or left for later, and answered.

signal, cancel, …   events of the run; the answer follows in the same commit
query               an answer, and nothing else
update              ``update.accepted``, and the answer when its function has ended; or a refusal, and no event;
                    or nothing yet, where no function is bound: it stays in the inbox until more has happened
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Protocol

from dramaturg_coordinator.core.effective import effective
from dramaturg_coordinator.core.refusal import Refusal
from dramaturg_coordinator.core.states import RunPhase
from dramaturg_coordinator.execution import Execution
from dramaturg_coordinator.family import Family
from dramaturg_coordinator.live import Builder, LiveRun
from dramaturg_coordinator.questions import Rejected, Unknown
from dramaturg_coordinator.requests import events_of, fork_in
from dramaturg_coordinator.rules import Rules
from dramaturg_coordinator.run_code import RunCode
from dramaturg_protocol import events as e
from dramaturg_protocol.messages import Reply, Request, RequestKind
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.reading import MalformedMessage
from dramaturg_protocol.records import RunWrites
from dramaturg_protocol.request_bodies import StartBody
from dramaturg_protocol.talk_messages import QuestionBody, decode_question

#: Said by somebody who may not wait for the answer: what is refused is put aside then.
_SAID = (RequestKind.SIGNAL, RequestKind.DECIDE, RequestKind.RESOLVE)


class Hands(Protocol):
    """What is done to the run."""

    def apply(self, bodies: Iterable[e.EventBody]) -> None:
        """Have these happen."""
        ...

    def fork(self, request: Request, body: StartBody) -> None:
        """Begin with what another run has recorded."""
        ...

    def check(self, seq: int, payload: Payload) -> None:
        """Have the code look at what it would be given."""
        ...

    def need_code(self) -> None:
        """Have the code in memory, or block the run."""
        ...

    def take_grant(self, grant: Request) -> None:
        """A limit lets executions through."""
        ...

    def put_aside(self, message: Request, reason: str) -> None:
        """Keep a request that cannot be applied where an operator sees it."""
        ...


class Reception:
    """Takes the requests of one run, for one turn.

    Attributes:
      later: arrivals that stay in the inbox until something has happened to the run.
    """

    def __init__(
        self,
        run: LiveRun,
        rules: Rules,
        code: RunCode,
        builder: Builder,
        family: Family,
        writes: RunWrites,
        hands: Hands,
    ) -> None:
        self._run = run
        self._rules = rules
        self._code = code
        self._builder = builder
        self._family = family
        self._writes = writes
        self._hands = hands
        self.later: list[int] = []

    def take(self, request: Request, now: datetime) -> None:
        """Take one request; `Parked` is raised where it needs code that is elsewhere."""
        answer: Reply | None = None
        try:
            if self._family.hand_on(request):
                self._writes.arrivals.append(request.arrival)
                return
            match request.kind:
                case RequestKind.GRANTED:
                    self._hands.take_grant(request)
                case RequestKind.QUERY:
                    answer = self._query(request, decode_question(request.body))
                case RequestKind.UPDATE:
                    if not self._is_update_due(request):
                        self.later.append(request.arrival)
                        return
                    answer = self._update(request, decode_question(request.body))
                case _:
                    self._apply(request, now)
                    answer = Reply(request.message_id)
        except MalformedMessage as problem:
            self._hands.put_aside(request, str(problem))
            return
        except Refusal as refusal:
            if request.kind in _SAID and not request.reply:
                self._hands.put_aside(request, str(refusal))
                return
            answer = Reply(request.message_id, refusal.error, str(refusal))
        self._writes.arrivals.append(request.arrival)
        if request.reply and answer is not None:
            self._writes.replies.append(answer)

    def asked(self, body: e.EventBody) -> None:
        """The code asked for this just now."""
        if isinstance(body, e.UpdateCompleted):
            self._writes.replies.append(_answer_of(body))

    def closed(self, updates: Mapping[str, str]) -> None:
        """The run has just closed; these updates, by message id, were under way."""
        status = self._run.state.phase.value
        for message_id, name in updates.items():
            words = f"the run is {status}: it ended before update {name!r} did"
            self._writes.replies.append(Reply(message_id, "UpdateFailed", words))

    def _apply(self, request: Request, now: datetime) -> None:
        state, history = self._run.state, self._code.history
        fork = fork_in(request) if state.phase is RunPhase.NEW else None
        if fork is not None:
            self._hands.fork(request, fork)
        events = self._family.events_of(request, history, now)
        if events is None:
            events = events_of(request, self._run.state, self._rules, history, self._hands.check, now)
        self._hands.apply(events)

    # Queries.

    def _query(self, request: Request, body: QuestionBody) -> Reply:
        state = self._run.state
        if state.phase is RunPhase.NEW:
            raise Refusal(f"the run did not begin: it answers no query {body.name!r}")
        if state.blocked is not None:
            raise Refusal(f"the run is BLOCKED and cannot be asked: {state.blocked.message}")
        problem = self._code.build()
        execution = self._run.execution
        if problem is not None or execution is None:
            message = problem.message if problem is not None else "its code is not there"
            raise Refusal(f"the run cannot be asked: {message}")
        try:
            value = self._called(execution, lambda: execution.scope.dialogue.questions.answer(body.name, body.input))
        except Unknown as unknown:
            raise Refusal(str(unknown), "NotFound") from None
        except Exception as error:
            raise Refusal(f"query {body.name!r} raised {type(error).__name__}: {error}", "QueryFailed") from error
        return Reply(request.message_id, value=value)

    # Updates.

    def _is_update_due(self, request: Request) -> bool:
        """Whether it can be decided now; `Refusal` where it never can."""
        state, name = self._run.state, decode_question(request.body).name
        if request.message_id in state.messages:
            return True
        if state.is_closed or state.phase is RunPhase.NEW:
            status = state.status if state.is_closed else "not there"
            raise Refusal(f"the run is {status}: it takes no update {name!r}")
        if state.phase is not RunPhase.OPEN or state.is_ending or state.next_try is not None:
            return False
        self._hands.need_code()
        execution = self._run.execution
        return execution is not None and execution.scope.dialogue.questions.has_update(name)

    def _update(self, request: Request, body: QuestionBody) -> Reply | None:
        """Its refusal, or what it gave before; ``None`` where the answer is to come."""
        if request.message_id in self._run.state.messages:
            return self._answered_before(request, body)
        execution = self._run.execution
        assert execution is not None
        try:
            self._called(execution, lambda: execution.scope.dialogue.questions.validate(body.name, body.input))
        except Exception as error:
            message = str(error) if isinstance(error, Rejected) else f"update {body.name!r} is refused: {error}"
            raise Refusal(message, "UpdateRejected") from error
        self._hands.apply((e.UpdateAccepted(request.message_id, body.name, body.input),))
        return None

    def _answered_before(self, request: Request, body: QuestionBody) -> Reply | None:
        """What the same update gave."""
        state = self._run.state
        for line in reversed(effective(self._code.history())):
            if isinstance(line.body, e.UpdateCompleted) and line.body.message_id == request.message_id:
                return _answer_of(line.body)
        if not state.is_closed:
            return None
        words = f"the run is {state.status}: it ended before update {body.name!r} did"
        return Reply(request.message_id, "UpdateFailed", words)

    def _called(self, execution: Execution, call: Callable[[], Payload | None]) -> Payload | None:
        """Call a function that may only look; the code is built anew where it did more."""
        try:
            return self._builder.call(execution, call)
        finally:
            if execution.scope.read_only.was_broken or execution.scope.loop.is_interrupted:
                self._run.drop_code()


def _answer_of(body: e.UpdateCompleted) -> Reply:
    if body.error is not None:
        words = f"update {body.name!r} failed: {body.error.type}: {body.error.message}"
        return Reply(body.message_id, "UpdateFailed", words)
    return Reply(body.message_id, value=body.result)
