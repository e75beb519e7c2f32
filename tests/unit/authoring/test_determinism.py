"""The lint of workflow code: what it finds, what it leaves alone, and how it is silenced."""

# ruff: noqa: A001, ASYNC210, ASYNC221, ASYNC230, ASYNC240, ASYNC251, DTZ001, DTZ003, DTZ005, DTZ011, ICN001, PLW1510
# ruff: noqa: PTH118, PTH123, SIM112, SIM115, TID251

from __future__ import annotations

import asyncio
import datetime as dates
import inspect
import os
import random
import socket
import subprocess
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from random import choice
from time import monotonic as clock
from types import ModuleType
from typing import Any

import pytest

import dramaturg
from dramaturg import DeterminismWarning, now, side_effect, step, workflow
from dramaturg.determinism import findings_in

# It need not be installed: only its name counts.
httpx: Any = ModuleType("httpx")
httpx.HTTPError = type("HTTPError", (Exception,), {"__module__": "httpx"})


async def all_that_is_found() -> None:
    time.time()
    clock()
    time.sleep(1)
    datetime.now()
    dates.datetime.utcnow()
    date.today()
    random.random()
    choice([1])
    random.shuffle([])
    uuid.uuid4()
    os.urandom(3)
    open("x")
    Path("x").read_text()
    httpx.get("http://x")
    httpx.AsyncClient()
    socket.create_connection(("x", 1))
    subprocess.run(["x"])
    threading.Thread()
    os.environ["x"] = "1"
    os.environ.update(x="1")
    del os.environ["x"]
    os.system("x")
    await asyncio.to_thread(print)
    asyncio.as_completed([])
    import secrets
    from urllib.request import urlopen

    secrets.token_hex()
    urlopen("http://x")
    [random.randint(1, each) for each in range(3)]

    def inner() -> float:
        return time.time()

    inner()


async def all_that_is_left_alone(time_: Any, requests: Any) -> None:
    now()
    dramaturg.random().choice([1])
    dramaturg.uuid4()
    random.Random(7).random()
    datetime(2026, 1, 1)
    datetime.fromisoformat("2026-01-01")
    dates.timedelta(days=1)
    os.environ.get("HOME")
    os.path.join("a", "b")
    Path("a").with_suffix(".b")
    time_.time()
    requests.get("http://x")
    side_effect(time.time)
    side_effect(lambda: open("x").read())
    httpx.URL("http://x")
    await asyncio.sleep(1)
    await asyncio.gather()
    uuid.uuid5(uuid.NAMESPACE_DNS, "x")

    def read() -> str:
        return open("x").read()

    side_effect(read)

    @step
    def writes() -> None:
        open("x", "w")

    try:
        pass
    except httpx.HTTPError:
        raise httpx.HTTPError("x") from None


async def shadowed(random: Any) -> None:
    open = len
    open([])
    random.random()


async def silenced() -> None:
    time.time()  # dramaturg: ok
    time.time()  #  dramaturg: ok, it is for the log only
    datetime.now()


def lines_with(fn: Callable[..., Any], *texts: str) -> list[int]:
    lines, first = inspect.getsourcelines(fn)
    return [first + at for at, line in enumerate(lines) if any(text in line for text in texts)]


def test_what_a_replay_could_not_repeat_is_found_where_it_stands() -> None:
    lines, first = inspect.getsourcelines(all_that_is_found)
    harmless = ("import", "def ", "inner()")
    expected = [
        first + at for at, line in enumerate(lines) if line.strip() and not any(text in line for text in harmless)
    ]

    found = findings_in(all_that_is_found)

    assert [each.line for each in found] == expected
    assert all(each.advice for each in found)


def test_what_a_replay_repeats_is_left_alone() -> None:
    assert findings_in(all_that_is_left_alone) == []
    assert findings_in(shadowed) == []


def test_a_comment_silences_its_line() -> None:
    assert [each.line for each in findings_in(silenced)] == lines_with(silenced, "datetime.now")


def test_registering_warns_with_line_and_replacement() -> None:
    with pytest.warns(DeterminismWarning) as caught:

        @workflow
        async def guesses() -> float:
            return random.random()

    (line,) = lines_with(guesses.fn, "return random")
    message = str(caught[0].message)
    assert f"test_determinism.py:{line}) uses random.random()" in message
    assert "use dramaturg.random()" in message
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


def test_steps_and_sound_workflows_are_registered_in_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @step
        def stamps() -> float:
            return time.time()

        @workflow
        async def sound() -> float:
            return await stamps()


def test_code_without_source_is_left_alone() -> None:
    names: dict[str, Any] = {}
    exec("async def made():\n    import time\n    return time.time()\n", names)

    assert findings_in(names["made"]) == []
    workflow(names["made"])
