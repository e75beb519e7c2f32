"""Dead letters: what ended badly is listed with its reason, payload and history; a person retries or drops it."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from dramaturg import AsyncClient, NotFound, StepFailed, WorkflowFailed, WrongState, step, workflow
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.messages import ReportKind, Request, RequestKind, StepReport, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import DeadLetter, LetterKind
from dramaturg_protocol.request_bodies import StartBody
from tests.behaviour.histories import events_of

ran: Counter[str] = Counter()
broken: set[str] = set()


@pytest.fixture
def work() -> Any:
    @step(name="work", retries=1)
    def work_(name: str) -> str:
        ran[name] += 1
        if name in broken:
            raise ValueError(f"{name} is broken")
        return name.upper()

    ran.clear()
    broken.clear()
    return work_


@pytest.fixture
def flow(work: Any) -> Any:
    @workflow(name="flow")
    async def flow_(name: str) -> str:
        return str(await work(name))

    return flow_


def failed(env: WorkflowEnv, flow: Any, name: str) -> Any:
    broken.add(name)
    handle = env.start(flow, name)
    with pytest.raises(WorkflowFailed):
        handle.result()
    return handle


@pytest.mark.selection
def test_a_step_of_which_its_run_failed_is_listed_with_reason_payload_and_history(env: WorkflowEnv, flow: Any) -> None:
    handle = failed(env, flow, "a")

    (listed,) = env.client.dead_letters.list()
    letter = env.client.dead_letters.get(listed.id)

    assert (letter.kind, letter.run_id, letter.seq, letter.step) == ("gave_up", handle.run_id, 1, "work")
    assert letter.reason == "step work #1 gave up at attempt 2: ValueError: a is broken"
    assert letter.payload["input"] == {"args": ["a"]}
    assert letter.payload["error"]["type"] == "ValueError"
    assert "Traceback" in letter.payload["error"]["traceback"]
    assert [event.type for event in letter.history] == ["step.scheduled", "step.retrying", "step.failed"]
    assert env.database.figures.read().dead_letters == {"gave_up": 1}


@pytest.mark.selection
def test_to_retry_a_letter_retries_its_run_and_says_who_and_why(env: WorkflowEnv, flow: Any) -> None:
    handle = failed(env, flow, "a")
    (letter,) = env.client.dead_letters.list()
    broken.clear()

    assert env.client.dead_letters.retry(letter.id, by="ada", reason="mended") == 1

    assert handle.result() == "A"
    assert [event["by"] for event in events_of(handle, "run.retried")] == ["ada"]
    assert env.client.dead_letters.list() == []
    (closed,) = env.client.dead_letters.list(closed=True)
    assert (closed.closed_as, closed.closed_by, closed.closed_reason) == ("retried", "ada", "mended")
    with pytest.raises(WrongState, match=f"dead letter {letter.id} was retried by ada"):
        env.client.dead_letters.retry(letter.id)


def test_a_run_that_is_retried_or_set_back_otherwise_clears_its_letters_and_what_fails_again_has_a_new_one(
    env: WorkflowEnv, flow: Any
) -> None:
    handle = failed(env, flow, "a")
    (first,) = env.client.dead_letters.list()

    handle.retry(by="bob")
    with pytest.raises(WorkflowFailed):
        handle.result()

    (second,) = env.client.dead_letters.list()
    assert second.id > first.id
    handle.reset(to_event=1)
    assert [letter.closed_as for letter in env.client.dead_letters.list(closed=True)] == ["retried", "retried"]


def test_letters_are_retried_and_dropped_by_filter(env: WorkflowEnv, flow: Any) -> None:
    handles = [failed(env, flow, name) for name in "abc"]
    env.advance("1h")
    late = failed(env, flow, "d")
    broken.clear()
    letters = env.client.dead_letters

    assert [letter.run_id for letter in letters.list(since="30m")] == [late.run_id]
    assert len(letters.list(limit=2)) == 2
    assert len(letters.list(kind=["gave_up", "held"], step="work", after=letters.list(limit=2)[-1].id)) == 2
    assert letters.drop(run=handles[0].run_id, by="ada", reason="paid in cash") == 1
    assert letters.retry(kind="gave_up") == 3

    assert [handle.result() for handle in (*handles[1:], late)] == ["B", "C", "D"]
    assert handles[0].describe().status == "FAILED"
    assert letters.list() == []
    assert Counter(each.closed_as for each in letters.list(closed=True)) == {"dropped": 1, "retried": 3}
    with pytest.raises(TypeError, match="an id, or a filter"):
        letters.retry()
    with pytest.raises(ValueError, match="there is no kind 'lost' of dead letters; it is one of gave_up, held"):
        letters.list(kind="lost")
    with pytest.raises(NotFound):
        letters.get(999)


def test_a_failure_that_the_workflow_dealt_with_is_no_dead_letter(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def deals() -> str:
        try:
            return str(await work("a"))
        except StepFailed:
            return "instead"

    broken.add("a")

    assert env.run(deals) == "instead"
    assert env.client.dead_letters.list() == []


@pytest.mark.parametrize("verb", ["retry the letter", "retry", "settle", "terminate", "cancel"])
def test_a_held_step_is_a_dead_letter_until_it_is_not_held(env: WorkflowEnv, work: Any, verb: str) -> None:
    @workflow
    async def flow() -> str:
        return str(await work.options(on_give_up="pause")("a"))

    broken.add("a")
    handle = env.start(flow)
    env.advance("1h")
    (letter,) = env.client.dead_letters.list()
    assert (letter.kind, letter.run_id, letter.seq) == ("held", handle.run_id, 1)
    broken.clear()

    match verb:
        case "retry the letter":
            env.client.dead_letters.retry(letter.id, by="ada")
        case "retry":
            handle.retry(by="ada")
        case "settle":
            handle.step(1).complete("A", by="ada")
        case "terminate":
            handle.terminate(by="ada")
        case _:
            handle.cancel(by="ada")

    assert env.client.dead_letters.list() == []
    (closed,) = env.client.dead_letters.list(closed=True)
    ways = {"settle": "settled", "terminate": "dropped"}
    assert (closed.closed_as, closed.closed_by) == (ways.get(verb, "retried"), "ada")


@pytest.mark.selection
def test_a_request_for_a_run_that_was_not_known_is_put_back_into_the_inbox(env: WorkflowEnv, work: Any) -> None:
    @workflow(name="waits")
    async def waits() -> str:
        return str(await work.options(on_give_up="pause")("a"))

    broken.add("a")
    partition = env.database.partitions[0]
    cancel = Request("m1", RequestKind.CANCEL, "run-x", partition, '{"by": "ada"}')
    env.database.inbox.put([cancel])
    env.run_until_idle()
    env.advance("25h")
    (letter,) = env.client.dead_letters.list(kind="inbox")
    assert "no run run-x became known" in letter.reason
    start = StartBody("waits", "run-x", Payload('{"args": [], "kwargs": {}}'))
    env.database.inbox.put([Request("s1", RequestKind.START, "run-x", partition, encode_message(start))])
    env.advance("1h")
    assert env.client.handle("run-x").describe().status == "PAUSED"

    assert env.client.dead_letters.retry(letter.id, by="bob", reason="it is there now") == 1
    env.run_until_idle()

    assert env.client.handle("run-x").describe().status == "CANCELLED"
    (closed,) = env.client.dead_letters.list(kind="inbox", closed=True)
    assert (closed.closed_as, closed.closed_by) == ("retried", "bob")


def test_a_report_that_was_put_aside_is_put_back_and_counts(env: WorkflowEnv, work: Any) -> None:
    @workflow
    async def flow() -> str:
        return str(await work("a"))

    broken.add("a")
    handle = env.start(flow)
    while not events_of(handle, "step.retrying"):
        env.turn()
    (retrying,) = events_of(handle, "step.retrying")
    handle.pause()
    env.advance_to(datetime.fromisoformat(retrying["retry_at"]))
    partition = env.database.partition_of(handle.run_id)
    report = StepReport(handle.run_id, 1, 1, 2, partition, ReportKind.COMPLETED, result=Payload('"late"'))
    env.database.store.put_aside(
        [DeadLetter(LetterKind.REPORT, "cannot be read", encode_message(report), handle.run_id, partition)]
    )
    (letter,) = env.client.dead_letters.list(kind="report")

    env.client.dead_letters.retry(letter.id)
    handle.resume()

    assert handle.result() == "late"
    assert ran == {"a": 1}
    assert env.client.dead_letters.list() == []


def test_what_cannot_be_put_back_says_so_and_is_dropped(env: WorkflowEnv) -> None:
    env.database.store.put_aside(
        [DeadLetter("queue", "queue default: not JSON", "{cut"), DeadLetter("report", "cut off", "{cut", None, 1)]
    )
    queue, report = env.client.dead_letters.list()
    assert queue.payload == "{cut"

    with pytest.raises(WrongState, match="is of the kind queue: there is nothing to put back; drop it"):
        env.client.dead_letters.retry(queue.id)
    with pytest.raises(WrongState, match="cannot be read, so it cannot be retried: drop it"):
        env.client.dead_letters.retry(report.id)
    assert env.client.dead_letters.retry(kind=["queue", "report"]) == 0
    assert env.client.dead_letters.drop(kind=["queue", "report"], by="ada") == 2
    assert env.client.dead_letters.list() == []


def test_the_verbs_are_there_for_coroutines(env: WorkflowEnv) -> None:
    env.database.store.put_aside([DeadLetter("queue", "queue default: not JSON", "{cut")])
    letters = AsyncClient.of(env.client).dead_letters

    async def look() -> None:
        (letter,) = await letters.list(kind="queue")
        assert (await letters.get(letter.id)).reason == "queue default: not JSON"
        assert await letters.drop(letter.id, by="ada") == 1
        with pytest.raises(WrongState, match="was dropped by ada"):
            await letters.retry(letter.id)

    asyncio.run(look())
