"""What clients say to the workflows of `talking`, and insist on until they have heard: each of it goes into the journal.

What has a key is said again under that key, and counts once. Of what has none every try may count.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

from chaos import talking
from chaos.orders import Heard, Journal, Said, now
from dramaturg import (
    AlreadyDecided,
    AlreadyResolved,
    AlreadyStarted,
    Client,
    ClientError,
    Handle,
    NoOpenApproval,
    NotAnswered,
    NotFound,
    Unavailable,
    UpdateRejected,
    WrongState,
)

_PAUSE_SECONDS = 0.3


class Speaker:
    """Says things, again and again until they are heard.

    Parameters:
      patience: for how many seconds it insists.
    """

    def __init__(self, client: Client, journal: Journal, chance: Random, patience: float) -> None:
        self._client = client
        self._journal = journal
        self._chance = chance
        self._patience = patience

    def update(self, handle: Handle[Any], place: int, number: int) -> None:
        """Have the run add something; now and then twice under the same key."""
        name, value = self.name(), talking.value_of(place)
        call = partial(handle.update, "add", name, value, idempotency_key=name)
        for _ in range(self._once_or_twice()):
            self._say(handle, "update", name, value, call, expected=number + value + 1)

    def refused_update(self, handle: Handle[Any]) -> None:
        """Ask for what the run refuses."""
        name = self.name()
        call = partial(handle.update, "add", name, -1, idempotency_key=name)
        self._say(handle, "refused update", name, -1, call, refusals=(UpdateRejected,))

    def query(self, handle: Handle[Any], name: str, expected: Any = None) -> Any:
        """Ask the run; what it answers."""
        # Before it has begun it answers nothing.
        not_yet = (NotFound, WrongState)
        return self._say(
            handle, "query", self.name(), name, partial(handle.query, name), expected=expected, not_yet=not_yet
        )

    def signal(self, handle: Handle[Any], place: int) -> None:
        """Send a signal: under a key, now and then twice, or without one."""
        name, value = self.name(), talking.value_of(place)
        if self._chance.random() < 0.3:
            # The run may have heard a try that was not answered, and ended.
            call = partial(handle.signal, "add", [name, value])
            self._say(handle, "signal", name, value, call, is_keyed=False, refusals=(WrongState,))
            return
        call = partial(handle.signal, "add", [name, value], idempotency_key=name)
        for _ in range(self._once_or_twice()):
            self._say(handle, "signal", name, value, call)

    def decide(self, handle: Handle[Any], approval: str) -> None:
        """Two people decide, one after the other: the first one counts."""
        for approves in self._chance.sample((True, False), 2):
            by, verb = self.name(), handle.approve if approves else handle.reject
            self._say(
                handle,
                "decision",
                by,
                approves,
                partial(verb, approval, by),
                is_keyed=False,
                refusals=(AlreadyDecided,),
                not_yet=(NoOpenApproval, NotFound),
            )

    def resolve(self, handle: Handle[Any], token: str, value: int) -> None:
        """Two callers use the token of a hook: the first one counts."""
        for _ in range(2):
            name = self.name()
            call = partial(self._client.resume_hook, token, [name, value])
            self._say(handle, "call", name, value, call, is_keyed=False, refusals=(AlreadyResolved,))

    def start(self, arguments: tuple[Any, ...], place: int, workflow_id: str, tag: str) -> StartWithSignal:
        """A start of `talking.gathered` that carries a signal."""
        return StartWithSignal(self._client, self._journal, arguments, place, workflow_id, tag, self.name())

    def name(self) -> str:
        """One that nobody else bears."""
        return f"{self._chance.getrandbits(64):016x}"

    def _once_or_twice(self) -> int:
        """How often to say something that counts once."""
        return 2 if self._chance.random() < 0.3 else 1

    def _say(
        self,
        handle: Handle[Any],
        what: str,
        name: str,
        given: Any,
        call: Callable[[], Any],
        *,
        expected: Any = None,
        is_keyed: bool = True,
        refusals: tuple[type[ClientError], ...] = (),
        not_yet: tuple[type[ClientError], ...] = (),
    ) -> Any:
        """Say it until it is answered, and write down what came of it; the answer.

        Parameters:
          refusals: errors that are an answer.
          not_yet: errors that pass.
        """
        since, due = now(), time.monotonic() + self._patience
        passing: tuple[type[ClientError], ...] = (NotAnswered, Unavailable, *not_yet)
        tries, answer, heard = 0, None, Heard.UNKNOWN
        while heard is Heard.UNKNOWN and time.monotonic() < due:
            tries += 1
            try:
                answer, heard = call(), Heard.YES
            except refusals:
                heard = Heard.NO
            except passing as error:
                self._journal.refused(what, error)
                threading.Event().wait(_PAUSE_SECONDS)
        told = (json.dumps(given), json.dumps(expected), json.dumps(answer))
        self._journal.said(Said(handle.run_id, what, name, *told, is_keyed, heard, tries, since, now()))
        return answer


class StartWithSignal:
    """Signals a run of `talking.gathered`, which it starts where there is none; called again until it is answered."""

    def __init__(
        self,
        client: Client,
        journal: Journal,
        arguments: tuple[Any, ...],
        place: int,
        workflow_id: str,
        tag: str,
        name: str,
    ) -> None:
        self._client = client
        self._journal = journal
        self._arguments = arguments
        self._value = talking.value_of(place)
        self._workflow_id = workflow_id
        self._tag = tag
        self._name = name
        self._tries = 0
        self._since = now()

    def __call__(self) -> list[Handle[int]]:
        """Try it, and write down that it was answered.

        Raises:
          Unavailable: a service is away.
        """
        self._tries += 1
        heard = Heard.YES
        try:
            handle = self._client.start(
                talking.gathered.options(
                    id=self._workflow_id,
                    on_conflict="use_existing",
                    reuse="never",
                    signal=("add", [self._name, self._value]),
                    tags={"order": self._tag},
                ),
                *self._arguments,
            )
        except AlreadyStarted as error:
            # It has heard an earlier try, and ended.
            handle, heard = self._client.handle(error.workflow_id, error.run_id), Heard.NO
        given, nothing = json.dumps(self._value), json.dumps(None)
        self._journal.said(
            Said(
                handle.run_id,
                "signal",
                self._name,
                given,
                nothing,
                nothing,
                False,
                heard,
                self._tries,
                self._since,
                now(),
            )
        )
        return [handle]


def _updates(speaker: Speaker, handle: Handle[Any], arguments: tuple[Any, ...]) -> None:
    number, updates = arguments
    for place in range(updates):
        speaker.query(handle, "heard", place)
        if not place:
            speaker.refused_update(handle)
        speaker.update(handle, place, number)


def _approvals(speaker: Speaker, handle: Handle[Any], arguments: tuple[Any, ...]) -> None:
    for each in range(arguments[1]):
        speaker.decide(handle, f"go {each}")


def _hook(speaker: Speaker, handle: Handle[Any], arguments: tuple[Any, ...]) -> None:
    token = speaker.query(handle, "token")
    if token is not None:
        speaker.resolve(handle, token, arguments[1])


def _signals(speaker: Speaker, handle: Handle[Any], arguments: tuple[Any, ...]) -> None:
    for place in range(arguments[1]):
        speaker.signal(handle, place)


def _nothing(_: Speaker, __: Handle[Any], ___: tuple[Any, ...]) -> None:
    """It talks to another run itself."""


#: What is said to runs of a workflow, by its name: speaker, run, and the arguments that it was started with.
CONVERSATIONS: Mapping[str, Callable[[Speaker, Handle[Any], tuple[Any, ...]], None]] = {
    talking.counted.name: _updates,
    talking.approved.name: _approvals,
    talking.hooked.name: _hook,
    talking.rounds.name: _signals,
    talking.leading.name: _nothing,
}
