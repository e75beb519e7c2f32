"""Approvals and hooks from a terminal."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from dramaturg import Client, approval, hook, workflow
from dramaturg.cli.app import app
from dramaturg.cli.narration import sentence_of
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.definitions import registry

tokens: list[str] = []


@pytest.fixture(name="env")
def _env(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkflowEnv]:
    @contextmanager
    def connected() -> Generator[Client, None, None]:
        yield env.client

    monkeypatch.setattr("dramaturg.cli.people.connected", connected)
    with registry.isolated(), WorkflowEnv() as env:
        yield env


def typed(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def waiting(env: WorkflowEnv) -> str:
    @workflow(name="cli_order")
    async def order() -> list[Any]:
        tokens.append("")
        decision = await approval("legal", "1d", ["ada", "bob"], prompt="Is it\nlegal?", details={"cents": 5})
        called = hook("paid", int, "2h")
        tokens[-1] = called.token
        return [decision.approved, decision.by, decision.comment, await called]

    tokens.clear()
    handle = env.client.start(order.options(id="order-1"))
    env.run_until_idle()
    return handle.run_id


def test_what_waits_is_listed_for_people_and_for_programs(env: WorkflowEnv) -> None:
    assert "nothing waits" in typed("approvals").stderr
    run_id = waiting(env)

    lines = typed("approvals").stdout.splitlines()
    assert lines[0].split() == ["RUN", "WORKFLOW", "NAME", "FOR", "SINCE", "UNTIL", "PROMPT"]
    assert lines[1].split()[:5] == [run_id, "cli_order", "legal", "ada,", "bob"]
    assert lines[1].endswith("Is it legal?")
    (shown,) = json.loads(typed("approvals", "--approver", "bob", "--json").stdout)
    assert (shown["run_id"], shown["approvers"], shown["details"]) == (run_id, ["ada", "bob"], {"cents": 5})
    assert json.loads(typed("approvals", "--approver", "eve", "--json").stdout) == []
    assert json.loads(typed("approvals", "--workflow", "other", "--json").stdout) == []
    assert typed("approvals", "--limit", "0").exit_code == 2


@pytest.mark.parametrize(("verb", "approved"), [("approve", True), ("reject", False)])
def test_a_person_decides_and_resolves(env: WorkflowEnv, verb: str, approved: bool) -> None:
    run_id = waiting(env)

    done = typed(verb, "order-1", "legal", "--by", "ada", "--comment", "looked at it")
    assert (done.exit_code, done.stdout.strip()) == (0, f"legal {verb.rstrip('e')}ed: run {run_id} is WAITING")
    done = typed("hook", "resume", tokens[-1], "--input", "7", "--json")
    assert json.loads(done.stdout) == {"resolved": True}

    assert env.client.handle(run_id).result() == [approved, "ada", "looked at it", 7]
    told = [sentence_of(event) for event in env.client.handle(run_id).events()]
    assert told[1].startswith("approval legal #1 asked of ada or bob, times out at ")
    assert told[1].endswith(": Is it legal?")
    assert told[2] == f"approval legal #1 {verb.rstrip('e')}ed by ada: looked at it"
    assert told[3].startswith("hook paid #2 waits, expires at ")
    assert told[4] == "hook paid #2 resolved: 7"


def test_what_is_refused_is_told_in_one_line(env: WorkflowEnv) -> None:
    waiting(env)

    for words, code, says in [
        (["approve", "order-1", "legal", "--by", "eve"], 2, "'eve' may not decide"),
        (["approve", "order-1", "finance", "--by", "ada"], 2, "open are 'legal'"),
        (["approve", "nobody", "legal", "--by", "ada"], 3, "nobody"),
        (["approve", "order-1", "legal"], 2, "--by"),
        (["approve", "order-1", "legal", "--by", ""], 2, "by must say who decides"),
        (["hook", "resume", "nonsense"], 2, "no token of a hook"),
        (["hook", "resume", "nonsense", "--input", "{"], 2, "--input is not JSON"),
    ]:
        done = typed(*words)
        assert (done.exit_code, says in done.stderr) == (code, True), (words, done.stderr)


def test_a_decision_that_nobody_made_is_told(env: WorkflowEnv) -> None:
    run_id = waiting(env)
    env.advance("1d")
    env.advance("2h")

    told = [sentence_of(event) for event in env.client.handle(run_id).events()]
    assert "approval legal #1 timed out" in told
    assert "hook paid #2 expired" in told
