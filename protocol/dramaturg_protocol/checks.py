"""Questions about the state of a process, each asked in a thread of its own, so that none can hold up the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

#: Gives what is well in a few words (or nothing), raises what is not.
Check: TypeAlias = Callable[[], str]

#: Seconds that an answer may take.
PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one check.

    Attributes:
      text: one line.
    """

    name: str
    is_well: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok' if self.is_well else 'fail'} {self.name}{': ' if self.text else ''}{self.text}"


class Checks:
    """Checks by name.

    Parameters:
      patience: seconds; a check that takes longer has failed, and is not asked anew before it is back.
    """

    def __init__(self, checks: Mapping[str, Check], *, patience: float = PATIENCE) -> None:
        self._asked = [_Asked(name, check) for name, check in checks.items()]
        self._patience = patience

    def __call__(self) -> list[Answer]:
        """Ask all of them at the same time."""
        pending = [asked.ask() for asked in self._asked]
        return [
            inquiry.answer_within(self._patience) or Answer(asked.name, False, f"no answer within {self._patience:g} s")
            for asked, inquiry in zip(self._asked, pending, strict=True)
        ]


class _Inquiry:
    """One call of a check, under way or done."""

    def __init__(self, name: str, check: Check) -> None:
        self._name = name
        self._check = check
        self._answer: Answer | None = None
        self._thread = threading.Thread(target=self._run, name=f"dramaturg-check-{name}", daemon=True)
        self._thread.start()

    @property
    def is_under_way(self) -> bool:
        return self._answer is None

    def answer_within(self, seconds: float) -> Answer | None:
        self._thread.join(seconds)
        return self._answer

    def _run(self) -> None:
        try:
            self._answer = Answer(self._name, True, _line(self._check()))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
            self._answer = Answer(self._name, False, _line(str(error) or type(error).__name__))


class _Asked:
    """A check, and the call of it that is under way: who asks meanwhile waits for the same answer."""

    def __init__(self, name: str, check: Check) -> None:
        self.name = name
        self._check = check
        self._lock = threading.Lock()
        self._inquiry: _Inquiry | None = None

    def ask(self) -> _Inquiry:
        with self._lock:
            if self._inquiry is None or not self._inquiry.is_under_way:
                self._inquiry = _Inquiry(self.name, self._check)
            return self._inquiry


def _line(text: str) -> str:
    return " ".join(text.split())[:500]
