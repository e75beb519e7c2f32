"""Signals, queries and updates from a terminal: what is typed reaches the run, and what it says is printed."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from dramaturg import Client, on_query, on_update, wait_signal, workflow
from dramaturg.cli.app import app
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.definitions import registry


@pytest.fixture(name="env")
def _env(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkflowEnv]:
    @contextmanager
    def connected() -> Generator[Client, None, None]:
        yield env.client

    monkeypatch.setattr("dramaturg.cli.talk.connected", connected)
    with registry.isolated(), WorkflowEnv() as env:
        yield env


def typed(*words: str) -> Any:
    done = CliRunner().invoke(app, list(words))
    assert "Traceback" not in done.output
    return done


def a_cart(env: WorkflowEnv) -> str:
    @workflow(name="cli_cart")
    async def cart() -> list[Any]:
        items: list[Any] = []

        def not_empty(item: str) -> None:
            if not item:
                raise ValueError("nothing has no name")

        @on_query
        def count(least: int = 0) -> int:
            return max(len(items), least)

        @on_update(validator=not_empty)
        def add(item: str) -> int:
            items.append(item)
            return len(items)

        return [*items, await wait_signal("check-out")]

    handle = env.client.start(cart.options(id="cart-1"))
    env.run_until_idle()
    return handle.run_id


def test_a_signal_is_sent_once_for_its_key_and_the_run_is_told_of(env: WorkflowEnv) -> None:
    run_id = a_cart(env)

    done = typed("signal", "cart-1", "other", "--key", "tap", "--by", "ada", "--reason", "she may")
    assert (done.exit_code, done.stdout) == (0, f"signal other sent: run {run_id} is WAITING\n")
    done = typed("signal", "cart-1", "other", "--key", "tap", "--json")
    assert json.loads(done.stdout)["run_id"] == run_id
    assert typed("signal", run_id, "check-out", "--input", '{"paid": 3}').exit_code == 0

    assert env.client.handle(run_id).result() == [{"paid": 3}]
    signals = [event.data for event in env.client.handle(run_id).events() if event.type == "signal.received"]
    assert [(each["name"], each.get("by"), each.get("reason")) for each in signals] == [
        ("other", "ada", "she may"),
        ("check-out", None, None),
    ]


@pytest.mark.parametrize("when", ["2h", "2130-01-31T09:00"])
def test_a_signal_may_be_sent_later(env: WorkflowEnv, when: str) -> None:
    run_id = a_cart(env)

    done = typed("signal", "cart-1", "check-out", "--input", "1", "--delay", when)
    assert (done.exit_code, done.stdout) == (0, f"signal check-out will be sent: run {run_id} is WAITING\n")

    assert env.client.handle(run_id).result() == [1]


def test_a_query_prints_the_answer_alone(env: WorkflowEnv) -> None:
    run_id = a_cart(env)

    assert typed("query", "cart-1", "count").stdout == "0\n"
    assert typed("query", "cart-1", "count", "--input", "[7]").stdout == "7\n"
    assert json.loads(typed("query", run_id, "count", "--json").stdout) == {"run_id": run_id, "value": 0}


def test_an_update_prints_what_it_gave_and_the_same_key_gives_it_again(env: WorkflowEnv) -> None:
    run_id = a_cart(env)

    assert typed("update", "cart-1", "add", "--input", '["pen"]', "--key", "k").stdout == "1\n"
    assert typed("update", "cart-1", "add", "--input", '["pen"]', "--key", "k").stdout == "1\n"
    done = typed("update", "cart-1", "add", "--input", '["ink"]', "--json")
    assert json.loads(done.stdout) == {"run_id": run_id, "value": 2}


def test_what_is_refused_is_told_in_one_line(env: WorkflowEnv) -> None:
    a_cart(env)

    for words, code, says in [
        (["signal", "nobody", "check-out"], 3, "nobody"),
        (["signal", "cart-1", "check-out", "--input", "{"], 2, "--input is not JSON"),
        (["signal", "cart-1", "check-out", "--delay", "soon"], 2, "--delay"),
        (["signal", "cart-1", "check-out", "--delay=-5m"], 2, "--delay"),
        (["signal", "cart-1"], 2, "NAME"),
        (["query", "nobody", "count"], 3, "nobody"),
        (["query", "cart-1", "colour"], 3, "count"),
        (["query", "cart-1", "count", "--input", "7"], 2, "JSON array"),
        (["query", "cart-1", "count", "--input", "[1, 2]"], 2, "count"),
        (["update", "nobody", "add"], 3, "nobody"),
        (["update", "cart-1", "add", "--input", '[""]'], 2, "nothing has no name"),
        (["update", "cart-1", "add", "--input", '{"item": "pen"}'], 2, "JSON array"),
        (["update", "cart-1", "add", "--timeout", "soon"], 2, "--timeout"),
    ]:
        done = typed(*words)
        assert (done.exit_code, says in done.stderr) == (code, True), (words, done.exit_code, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1 or done.exit_code == 2, done.stderr


def test_a_closed_run_takes_no_signal_and_ends_with_2(env: WorkflowEnv) -> None:
    run_id = a_cart(env)
    typed("signal", run_id, "check-out")
    env.run_until_idle()

    for later in ([], ["--delay", "1h"]):
        done = typed("signal", run_id, "check-out", *later)
        assert (done.exit_code, "the run is COMPLETED" in done.stderr) == (2, True), done.stderr
    assert typed("query", run_id, "count").stdout == "0\n"
