"""What a workflow asks of people and of the world outside: `approval` and `hook`.

Both are asked for when they are made, may be awaited at any time after that, also more than once, and have one outcome.
Where what awaits them is cancelled (`asyncio.wait_for`, `asyncio.timeout`, a task), they are withdrawn, as is everything
that asyncio cancels; ``asyncio.shield(a)`` keeps them open.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Collection, Generator
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar, cast, overload

from pydantic import TypeAdapter

from dramaturg.awaitables import AwaitableObject
from dramaturg_protocol.ambient import WorkflowScope, workflow_scope
from dramaturg_protocol.asking import ApprovalRequest, AskedApproval, AskedHook, Decision, HookRequest
from dramaturg_protocol.durations import Duration, parse_duration, parse_moment
from dramaturg_protocol.errors import ConfigurationError, HookTimeout
from dramaturg_protocol.payloads import Payload, encode_value
from dramaturg_protocol.received import decode_received

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def approval(
    name: str,
    timeout: Duration | datetime | None = None,
    approvers: Collection[str] = (),
    prompt: str = "",
    details: object = None,
) -> Approval:
    """Ask people for a decision; awaiting it gives a `Decision`.

    It is asked for when this is called, and waits in ``client.approvals`` from then on. Each call is a request of its
    own: what is decided for one never answers another, be it of the same name.

    Parameters:
      name: by which people decide it.
      timeout: a duration or an aware `datetime`; then it is ``Decision(approved=False, timed_out=True)``.
      approvers: who may decide; none for anybody.
      prompt: what they are asked, in a sentence.
      details: what they need to know to decide: a dict, a pydantic model, whatever a payload can hold.

    Raises:
      TypeError, ValueError: an argument is none of these.
      PayloadError: the details cannot be encoded or are too large.
      RuntimeError: called outside a workflow.
    """
    scope = workflow_scope("approval()")
    where = "approval()"
    shown = None
    if details is not None:
        shown = encode_value(details, Any, where=f"the details of approval {name!r}", limit=scope.max_payload)
    request = ApprovalRequest(
        _name(where, name), _due(where, timeout, scope), _approvers(approvers), _text(where, "prompt", prompt), shown
    )
    return Approval(scope, request)


@overload
def hook(name: str, type: type[T], timeout: Duration | datetime | None = None) -> Hook[T]: ...
@overload
def hook(name: str, type: TypeAdapter[T], timeout: Duration | datetime | None = None) -> Hook[T]: ...
@overload
def hook(name: str, type: None = None, timeout: Duration | datetime | None = None) -> Hook[Any]: ...
def hook(name: str, type: Any = None, timeout: Duration | datetime | None = None) -> Hook[Any]:  # noqa: A002 - the contract's
    """Wait for one call from the outside world; awaiting it gives what that call brought.

    Its ``token`` (or its ``url``) goes into a mail or a request to another service, and whoever has it resolves the hook
    once: ``client.resume_hook(token, payload)``.

    Parameters:
      name: for people.
      type: what it is to bring: a class, an alias like ``list[int]``, or for a union a `pydantic.TypeAdapter`; what does
        not fit is refused where the hook is resolved. ``None`` takes anything.
      timeout: a duration or an aware `datetime`; then awaiting it raises `HookTimeout`, which is a `TimeoutError`.

    Raises:
      TypeError, ValueError: an argument is none of these.
      RuntimeError: called outside a workflow.
    """
    scope = workflow_scope("hook()")
    return Hook(scope, _name("hook()", name), type, _due("hook()", timeout, scope))


class Answerable(AwaitableObject[T_co]):
    """Something that waits for an answer: to be awaited, as often as one likes, or given to a task."""

    def __init__(self, what: str, scope: WorkflowScope) -> None:
        super().__init__(what)
        self._hash = scope.next_hash()
        self._generators: dict[asyncio.Task[Any] | None, Generator[Any, Any, T_co]] = {}

    @abstractmethod
    def _answer(self) -> Generator[Any, Any, T_co]:
        """Wait for it."""

    def __await__(self) -> Generator[Any, Any, T_co]:
        return self._answer()

    def close(self) -> None:
        """As a coroutine's, for tasks."""
        for generator in self._generators.values():
            generator.close()

    def _running(self) -> Generator[Any, Any, T_co]:
        # Several tasks may have been given the same one: `asyncio.shield` makes a task each time.
        task = asyncio.current_task()
        generator = self._generators.get(task)
        if generator is None:
            generator = self._generators[task] = self._answer()
        return generator

    def _outcome_of(self, future: asyncio.Future[T]) -> Generator[Any, Any, T]:
        if future.cancelled():
            raise RuntimeError(
                f"{self._what} was withdrawn when what awaited it was cancelled: await asyncio.shield(…) of it where it "
                f"is to stay open"
            )
        return (yield from future)

    def _url(self, base_url: str, path: str, token: str, attribute: str) -> str:
        if not base_url:
            raise ConfigurationError(
                f"{attribute} of {self._what} needs DRAMATURG_PUBLIC_URL, where people reach the web page, in the "
                f"coordinator's settings"
            )
        return f"{base_url}/{path}/{token}"


class Approval(Answerable[Decision]):
    """A decision that people were asked for; awaiting it gives a `Decision`."""

    def __init__(self, scope: WorkflowScope, request: ApprovalRequest) -> None:
        super().__init__(f"approval {request.name!r}", scope)
        self._request = request
        self._asked: AskedApproval = scope.request_approval(request)

    @property
    def name(self) -> str:
        """By which people decide it."""
        return self._request.name

    def link(self, decision: Literal["approve", "reject"], *, by: str) -> str:
        """A link for a mail to one person: the page that it opens has a button, and only that decides.

        It is the same after a crash, and good until the approval has its outcome. Whoever has it decides as that person.

        Parameters:
          decision: ``"approve"`` or ``"reject"``.
          by: who decides with it.

        Raises:
          ValueError: another decision, or somebody who is not among the approvers.
          ConfigurationError: ``PUBLIC_URL`` is not set.
        """
        if decision not in ("approve", "reject"):
            raise ValueError(f'link() takes "approve" or "reject", not {decision!r}')
        _text("link()", "by", by, may_be_empty=False)
        if self._request.approvers and by not in self._request.approvers:
            raise ValueError(f"{by!r} is none of the approvers of {self._what}: {', '.join(self._request.approvers)}")
        token = self._asked.token_of(decision == "approve", by)
        return self._url(self._asked.base_url, "decide", token, "link()")

    def _answer(self) -> Generator[Any, Any, Decision]:
        return self._outcome_of(self._asked.decision)


class Hook(Answerable[T_co], Generic[T_co]):
    """A call from outside that the workflow waits for; awaiting it gives what the call brought."""

    def __init__(self, scope: WorkflowScope, name: str, expected: Any, due: datetime | None) -> None:
        super().__init__(f"hook {name!r}", scope)
        self._name = name
        self._expected = expected
        self._asked: AskedHook = scope.create_hook(HookRequest(name, due, self._decode))

    @property
    def name(self) -> str:
        """For people."""
        return self._name

    @property
    def token(self) -> str:
        """What resolves it: opaque, not to be guessed, the same after a crash."""
        return self._asked.token

    @property
    def url(self) -> str:
        """Where an HTTP request resolves it.

        Raises:
          ConfigurationError: ``PUBLIC_URL`` is not set.
        """
        return self._url(self._asked.base_url, "hooks", self._asked.token, "url")

    def _answer(self) -> Generator[Any, Any, T_co]:
        payload = yield from self._outcome_of(self._asked.payload)
        if payload is None:
            raise HookTimeout(self._name, self._asked.seq)
        return self._decode(payload)

    def _decode(self, payload: Payload) -> T_co:
        return cast("T_co", decode_received(payload, self._expected, where=f"the payload of hook {self._name!r}"))


def _name(where: str, name: object) -> str:
    return _text(where, "name", name, may_be_empty=False, longest=255)


def _text(where: str, what: str, value: object, *, may_be_empty: bool = True, longest: int | None = None) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{where}: {what} must be a str, not {value!r}")
    if not value and not may_be_empty:
        raise ValueError(f"{where}: {what} must not be empty")
    if longest is not None and len(value) > longest:
        raise ValueError(f"{where}: {what} must have at most {longest} characters, not {len(value)}")
    return value


def _approvers(approvers: object) -> tuple[str, ...]:
    if isinstance(approvers, (str, bytes)) or not isinstance(approvers, Collection):
        raise TypeError(f"approval(): approvers must be a list of names, not {approvers!r}")
    given = cast("Collection[object]", approvers)
    names = [_text("approval()", "each of approvers", each, may_be_empty=False) for each in given]
    return tuple(sorted(names) if isinstance(approvers, (set, frozenset)) else names)


def _due(where: str, timeout: Duration | datetime | None, scope: WorkflowScope) -> datetime | None:
    if timeout is None:
        return None
    if not isinstance(timeout, datetime) and not parse_duration(timeout):
        raise ValueError(f"{where}: timeout must be longer than zero")
    return parse_moment(timeout, scope.now())
