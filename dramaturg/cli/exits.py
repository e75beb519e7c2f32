"""How a command ends: its exit code, and one clear line for everything that went wrong.

0    done
1    the run failed, was cancelled or terminated; `doctor` found something broken
2    usage: arguments, settings, modules
3    there is no such run or workflow
4    a service cannot be reached, no coordinator is alive, or no answer came in time
130  interrupted from the keyboard
"""

from __future__ import annotations

import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from dramaturg_protocol.errors import DramaturgError, NotAnswered, NotFound, RunEnded, Unavailable

RUN_FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
NO_ANSWER: Final = 4
INTERRUPTED: Final = 130


class NoCoordinator(Unavailable):
    """Nobody is there who would do what is waited for."""


class UsageError(DramaturgError):
    """What was typed cannot be meant."""


class NoAnswerInTime(NotAnswered):
    """The time that was given is over."""


class Commands(TyperGroup):
    """A group whose commands end with one line and an exit code where they raise an error of ours."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with told_in_one_line():
            return super().invoke(ctx)


@contextmanager
def told_in_one_line() -> Generator[None, None, None]:
    """End the program with a line on stderr for an error of Dramaturg's."""
    try:
        yield
    except DramaturgError as error:
        fail(f"{error}{_place(error)}", code_of(error))


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong on stderr and end with an exit code."""
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(code)


def code_of(error: DramaturgError) -> int:
    """The exit code of an error: whoever typed it is to blame, unless it says otherwise."""
    match error:
        case NotFound():
            return NOT_FOUND
        case Unavailable() | NotAnswered():
            return NO_ANSWER
        case RunEnded():
            return RUN_FAILED
        case _:
            return USAGE


def _place(error: DramaturgError) -> str:
    """Where a module that was to be imported went wrong; nothing for other errors."""
    cause = error.__cause__
    if cause is None or "cannot be imported" not in str(error):
        return ""
    frames = [each for each in traceback.extract_tb(cause.__traceback__) if _is_users(each.filename)]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def _is_users(file: str) -> bool:
    return not file.startswith("<frozen") and not any(
        part.startswith("dramaturg") or part == "importlib" for part in Path(file).parent.parts[-1:]
    )
