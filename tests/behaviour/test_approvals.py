"""Approvals: people decide what a run waits for; each request once, with who, when and why in the history."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from dramaturg import (
    AlreadyDecided,
    AsyncClient,
    Decision,
    Handle,
    NoOpenApproval,
    NotAnApprover,
    NotFound,
    PayloadError,
    StepFailed,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTerminated,
    WorkflowTimedOut,
    approval,
    shield,
    sleep,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.records import WorkKind
from dramaturg_protocol.request_bodies import DecideBody
from tests.behaviour.histories import events_of, has_gapless_numbers, types_of

ran: list[str] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def _clean() -> None:
    ran.clear()
    broken.clear()


@pytest.fixture
def callers_engine(env: WorkflowEnv) -> Iterator[Engine]:
    """As an application makes its own."""
    engine = create_engine(env.database.engine.url)
    yield engine
    engine.dispose()


@step(name="approvals_note", retries=0)
def note(what: str) -> str:
    ran.append(what)
    if what in broken:
        raise ValueError(f"{what} is broken")
    return what


@workflow(name="approvals_one")
async def one(name: str = "legal", time: str | None = None, approvers: tuple[str, ...] = ()) -> dict[str, Any]:
    decision = await approval(name, time, approvers, prompt="May we?", details={"cents": 500, "to": ("a", "b")})
    return asdict(decision)


def waiting(env: WorkflowEnv, handle: Handle[Any]) -> Handle[Any]:
    env.run_until_idle()
    assert handle.describe().status == "WAITING"
    return handle


@pytest.mark.selection
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_run_waits_until_somebody_decides(env: WorkflowEnv, crashes: bool) -> None:
    handle = waiting(env, env.start(one))
    env.advance("3d")
    if crashes:
        env.crash()

    handle.approve("legal", by="ada", comment="fine with me")

    at = env.now
    assert handle.result() == {
        "approved": True,
        "by": "ada",
        "comment": "fine with me",
        "at": at,
        "timed_out": False,
    }
    assert types_of(handle) == ["run.started", "approval.requested", "approval.decided", "run.completed"]
    (decided,) = events_of(handle, "approval.decided")
    assert (decided["by"], decided["comment"], decided["approved"]) == ("ada", "fine with me", True)
    assert has_gapless_numbers(handle)


def test_a_rejection_is_a_decision_too(env: WorkflowEnv) -> None:
    handle = waiting(env, env.start(one))

    handle.reject("legal", "bob")

    assert (handle.result()["approved"], handle.result()["by"], handle.result()["comment"]) == (False, "bob", "")


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_time_out_is_a_decision_that_nobody_made(env: WorkflowEnv, crashes: bool) -> None:
    handle = waiting(env, env.start(one, "legal", "1d"))
    due = env.now + timedelta(days=1)
    env.advance("23h")
    assert handle.describe().status == "WAITING"
    if crashes:
        env.crash()

    result = handle.result()

    assert result == {"approved": False, "by": None, "comment": "", "at": due, "timed_out": True}
    assert env.now == due
    with pytest.raises(AlreadyDecided, match="timed out at"):
        handle.approve("legal", "ada")


def test_a_second_decision_is_refused_and_says_who_was_faster(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> bool:
        decision = await approval("legal")
        await sleep("1d")
        return decision.approved

    handle = waiting(env, env.start(flow))
    handle.approve("legal", "ada", "fine")

    with pytest.raises(AlreadyDecided, match=r"approved by ada at \S+: fine"):
        handle.reject("legal", "bob")

    assert handle.result() is True
    with pytest.raises(AlreadyDecided, match="approved by ada"):
        handle.reject("legal", "bob")
    assert len(events_of(handle, "approval.decided")) == 1


def test_an_approval_that_the_run_does_not_ask_for_is_refused_and_names_those_that_it_does(env: WorkflowEnv) -> None:
    handle = waiting(env, env.start(one))

    with pytest.raises(NoOpenApproval, match="open are 'legal'") as refused:
        handle.approve("finance", "ada")
    assert not isinstance(refused.value, AlreadyDecided)
    with pytest.raises(NotFound):
        env.client.handle("nobody").approve("legal", "ada")

    handle.terminate()
    with pytest.raises(NoOpenApproval, match="TERMINATED"):
        handle.approve("legal", "ada")


def test_only_approvers_decide_where_any_are_named(env: WorkflowEnv) -> None:
    handle = waiting(env, env.start(one, "legal", None, ("ada", "bob")))

    with pytest.raises(NotAnApprover, match=r"'eve' may not decide approval 'legal' .* it is for ada or bob"):
        handle.approve("legal", "eve")
    assert handle.describe().status == "WAITING"

    handle.approve("legal", "bob")
    assert handle.result()["by"] == "bob"


def test_one_decision_never_answers_a_later_request_of_the_same_name(env: WorkflowEnv) -> None:
    @workflow
    async def twice() -> list[bool]:
        first = await approval("legal")
        second = await approval("legal")
        return [first.approved, second.approved]

    handle = waiting(env, env.start(twice))
    handle.approve("legal", "ada")
    assert waiting(env, handle).describe().waiting_for.startswith("approval legal since")
    handle.reject("legal", "ada")

    assert handle.result() == [True, False]


def test_a_decision_that_was_sent_before_it_was_asked_for_answers_nothing(env: WorkflowEnv) -> None:
    @workflow
    async def later() -> bool:
        await sleep("1h")
        return (await approval("legal", timeout="1h")).approved

    handle = waiting(env, env.start(later))

    with pytest.raises(NoOpenApproval, match="open are none"):
        handle.approve("legal", "ada")

    assert handle.result() is False


def test_requests_of_one_name_at_once_are_decided_one_by_one_each_by_its_own_approver(env: WorkflowEnv) -> None:
    @workflow
    async def many() -> list[str | None]:
        asked = [approval("review", approvers=[who]) for who in ("ada", "bob", "eve")]
        return [decision.by for decision in await asyncio.gather(*asked)]

    handle = waiting(env, env.start(many))
    handle.approve("review", "eve")
    handle.approve("review", "ada")
    with pytest.raises(NotAnApprover, match="it is for bob"):
        handle.approve("review", "ada")
    handle.approve("review", "bob")

    assert handle.result() == ["ada", "bob", "eve"]


def test_a_message_that_arrives_twice_decides_once(env: WorkflowEnv) -> None:
    @workflow
    async def twice() -> list[str | None]:
        return [(await approval("legal", timeout="1h")).by for _ in range(2)]

    handle = waiting(env, env.start(twice))
    body = encode_message(DecideBody("legal", True, "ada"))
    request = Request("decision-1", RequestKind.DECIDE, handle.run_id, env.database.partition_of(handle.run_id), body)
    for _ in range(2):
        env.database.inbox.put([request])
        env.run_until_idle()

    assert handle.result() == ["ada", None]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"name": 3}, TypeError, "name must be a str"),
        ({"name": "x" * 256}, ValueError, "at most 255"),
        ({"approvers": "ada"}, TypeError, "approvers must be a list of names"),
        ({"approvers": [1]}, TypeError, "each of approvers must be a str"),
        ({"timeout": "soon"}, ValueError, "soon"),
        ({"timeout": 0}, ValueError, "longer than zero"),
        ({"prompt": None}, TypeError, "prompt must be a str"),
        ({"details": object()}, PayloadError, "details of approval"),
    ],
)
def test_wrong_arguments_are_refused_where_they_are_given(
    env: WorkflowEnv, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    seen: list[Exception] = []

    @workflow
    async def flow() -> None:
        try:
            await approval(**{"name": "legal", **arguments})
        except error as problem:
            seen.append(problem)

    env.run(flow)

    assert says in str(seen[0])


def test_whoever_decides_says_who_they_are(env: WorkflowEnv) -> None:
    handle = waiting(env, env.start(one))

    with pytest.raises(ValueError, match="by must say who decides"):
        handle.approve("legal", " ")
    with pytest.raises(TypeError, match="by and comment must be str"):
        handle.approve("legal", None)  # type: ignore[arg-type]


def test_an_approval_belongs_into_a_workflow() -> None:
    with pytest.raises(RuntimeError, match=r"approval\(\) works inside a workflow only"):
        approval("legal")


# Looking.


def test_the_list_shows_what_waits_for_whom_since_when_and_until_when(env: WorkflowEnv) -> None:
    began = env.now
    handle = waiting(env, env.start(one, "legal", "1d", ("ada", "bob")))
    env.advance("3h")

    (shown,) = env.client.approvals.list()

    assert (shown.run_id, shown.workflow, shown.name) == (handle.run_id, "approvals_one", "legal")
    assert (shown.approvers, shown.prompt) == (("ada", "bob"), "May we?")
    assert shown.details == {"cents": 500, "to": ("a", "b")}
    assert (shown.since, shown.due) == (began, began + timedelta(days=1))
    assert env.client.approvals.get(shown.id) == shown
    about = handle.describe()
    assert about.waiting_for == "approval legal since 3h, times out in 21h"
    (item,) = about.open
    assert (item.kind, item.name, item.due, item.started_at) == ("approval", "legal", shown.due, began)
    (row,) = env.database.reads.open_work(handle.run_id)
    assert (row.kind, row.due) == (WorkKind.APPROVAL, shown.due)


@pytest.mark.selection
def test_the_list_is_filtered_and_the_oldest_stand_first(env: WorkflowEnv) -> None:
    @workflow(name="approvals_other")
    async def other() -> None:
        await approval('le"gal%')

    handles: list[Handle[Any]] = []
    for begin in (
        lambda: env.start(one, "legal", None, ("ada",)),
        lambda: env.start(one, "finance", None, ("bob",)),
        lambda: env.start(other),
    ):
        handles.append(begin())
        env.run_until_idle()
        env.advance("1m")
    approvals = env.client.approvals

    def found(**wanted: Any) -> list[int]:
        ids = [handle.run_id for handle in handles]
        return [ids.index(each.run_id) for each in approvals.list(**wanted)]

    assert found() == [0, 1, 2]
    assert found(limit=2) == [0, 1]
    assert found(workflow="approvals_other") == [2]
    assert found(name="finance") == [1]
    assert found(name='le"gal%') == [2]
    assert found(name="le%") == []
    assert found(approver="ada") == [0, 2]
    assert found(approver="bob", workflow="approvals_one") == [1]
    with pytest.raises(ValueError, match="limit"):
        approvals.list(limit=0)

    handles[0].approve("legal", "ada")
    assert found() == [1, 2]
    handles[1].terminate()
    assert found() == [2]


def test_one_request_is_looked_at_and_decided_by_its_id(env: WorkflowEnv) -> None:
    @workflow
    async def both() -> list[str | None]:
        return [each.by for each in await asyncio.gather(approval("legal"), approval("legal"))]

    handle = waiting(env, env.start(both))
    approvals = env.client.approvals
    first, second = approvals.list()

    approvals.approve(second.id, "bob", "mine")
    with pytest.raises(AlreadyDecided, match="approved by bob"):
        approvals.reject(second.id, "eve")
    approvals.reject(first.id, "ada")

    assert handle.result() == ["ada", "bob"]
    decided = approvals.get(second.id)
    assert not decided.is_open
    assert decided.decision == Decision(True, "bob", "mine", env.now, timed_out=False)
    assert approvals.list() == []
    for unknown in (f"{handle.run_id}.1.9", "nonsense", "nobody.1.1"):
        with pytest.raises(NotFound):
            approvals.get(unknown)


# What ends a run, and what goes back in it.


@pytest.mark.selection
def test_a_run_that_is_cancelled_withdraws_what_it_asked_for(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        try:
            await approval("legal")
        finally:
            async with shield():
                await sleep("1h")

    handle = waiting(env, env.start(flow))
    handle.cancel()

    with pytest.raises(NoOpenApproval, match="withdrawn"):
        handle.approve("legal", "ada")
    assert env.client.approvals.list() == []
    with pytest.raises(WorkflowCancelled):
        handle.result()
    assert "approval.withdrawn" in types_of(handle)


def test_a_run_that_is_terminated_or_out_of_time_leaves_no_approval_open(env: WorkflowEnv) -> None:
    @workflow(timeout="1h")
    async def flow() -> None:
        await approval("legal")

    terminated, late = waiting(env, env.start(flow)), waiting(env, env.start(flow))
    terminated.terminate()

    with pytest.raises(WorkflowTerminated):
        terminated.result()
    with pytest.raises(WorkflowTimedOut):
        late.result()
    assert env.client.approvals.list() == []
    assert env.database.reads.open_work(late.run_id) == []


def test_what_awaits_an_approval_withdraws_it_where_it_is_cancelled(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        asked = approval("legal")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked, 60)
        try:
            await asked
        except RuntimeError as error:
            return str(error)
        return "no error"

    handle = env.start(flow)

    assert "asyncio.shield" in handle.result()
    assert types_of(handle)[-2:] == ["approval.withdrawn", "run.completed"]


def test_a_shielded_approval_outlives_reminders(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str | None:
        asked = approval("legal", timeout="30d")
        while True:
            try:
                return (await asyncio.wait_for(asyncio.shield(asked), 3600)).by
            except TimeoutError:
                await note("remember")

    handle = env.start(flow)
    env.advance("2h30m")
    handle.approve("legal", "ada")

    assert handle.result() == "ada"
    assert ran == ["remember", "remember"]
    assert len(events_of(handle, "approval.requested")) == 1


def test_an_approval_goes_with_every_way_to_wait(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[bool]:
        a, b, c = approval("a"), approval("b"), approval("c")
        async with asyncio.TaskGroup() as group:
            first = group.create_task(a)
            second = asyncio.ensure_future(b)
        done, pending = await asyncio.wait({second, asyncio.create_task(c)}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        again = await a
        return [first.result().approved, again.approved, *(task.result().approved for task in done)]

    handle = waiting(env, env.start(flow))
    handle.approve("a", "ada")
    handle.reject("b", "ada")

    assert handle.result() == [True, True, False]
    assert len(events_of(handle, "approval.withdrawn")) <= 1


def test_a_paused_run_records_decisions_and_goes_on_with_them(env: WorkflowEnv) -> None:
    handle = waiting(env, env.start(one))
    handle.pause()

    handle.approve("legal", "ada")
    assert handle.describe().status == "PAUSED"
    with pytest.raises(AlreadyDecided):
        handle.reject("legal", "bob")
    handle.resume()

    assert handle.result()["by"] == "ada"


def test_a_retry_keeps_decisions_that_were_made(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[Any]:
        decision = await approval("legal")
        await note("ship")
        return [decision.by, decision.at]

    broken.add("ship")
    handle = waiting(env, env.start(flow))
    handle.approve("legal", "ada")
    decided_at = env.now
    with pytest.raises(WorkflowFailed):
        handle.result()
    env.advance("1d")
    broken.clear()

    handle.retry()

    assert handle.result() == ["ada", decided_at]
    assert len(events_of(handle, "approval.decided")) == 1


def test_a_retry_keeps_a_decision_that_came_after_the_failure_that_it_goes_back_to(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str | None:
        asked = asyncio.ensure_future(approval("legal"))
        problem = None
        try:
            await note("first")
        except StepFailed as error:
            problem = error
        decision = await asked
        if problem is not None:
            raise problem
        return decision.by

    broken.add("first")
    handle = waiting(env, env.start(flow))
    handle.approve("legal", "ada")
    with pytest.raises(WorkflowFailed):
        handle.result()
    broken.clear()

    handle.retry()

    assert handle.result() == "ada"
    assert len(events_of(handle, "approval.decided")) == 1


def test_a_reset_asks_again_for_what_was_decided_beyond_it(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[str | None]:
        await note("begin")
        return [(await approval("legal", timeout="1d")).by, (await approval("finance")).by]

    handle = waiting(env, env.start(flow))
    handle.approve("legal", "ada")
    waiting(env, handle)
    (old,) = env.client.approvals.list()
    (number,) = [event.number for event in handle.events() if event.type == "approval.requested"][:1]

    handle.reset(number - 1)  # before the first was asked for

    (new,) = env.client.approvals.list()
    assert (new.name, new.due) == ("legal", env.now + timedelta(days=1))
    assert env.client.approvals.get(old.id).is_open is False
    with pytest.raises(NoOpenApproval):
        env.client.approvals.approve(old.id, "eve")
    handle.approve("legal", "bob")
    handle.approve("finance", "bob")
    assert handle.result() == ["bob", "bob"]
    assert ran == ["begin"]


def test_an_approval_that_was_open_at_a_reset_stays_with_the_time_that_it_had_left(env: WorkflowEnv) -> None:
    handle = waiting(env, env.start(one, "legal", "1d"))
    (before,) = env.client.approvals.list()
    env.advance("10h")
    handle.approve("legal", "ada")
    assert handle.result()["by"] == "ada"
    env.advance("10d")
    (number,) = [event.number for event in handle.events() if event.type == "approval.requested"]

    handle.reset(number)

    (after,) = env.client.approvals.list()
    assert (after.id, after.due) == (before.id, env.now + timedelta(hours=14))
    handle.reject("legal", "bob")
    assert handle.result()["by"] == "bob"


# From elsewhere.


def test_an_async_client_decides_and_looks(env: WorkflowEnv) -> None:
    async def main() -> tuple[Any, Any]:
        client = AsyncClient.of(env.client)
        first, second = await client.start(one), await client.start(one)
        await asyncio.to_thread(env.run_until_idle)
        for each in await client.approvals.list(name="legal"):
            assert await client.approvals.get(each.id) == each
        await first.approve("legal", "ada", "yes")
        with pytest.raises(AlreadyDecided):
            await first.reject("legal", "ada")
        (left,) = await client.approvals.list()
        await client.approvals.reject(left.id, "bob")
        return (await first)["by"], (await second)["by"]

    assert asyncio.run(main()) == ("ada", "bob")


@pytest.mark.parametrize("commits", [True, False])
def test_a_decision_in_the_callers_own_transaction_counts_if_that_commits(
    env: WorkflowEnv, callers_engine: Engine, commits: bool
) -> None:
    handle = waiting(env, env.start(one, "legal", "1d"))

    with callers_engine.connect() as connection, connection.begin() as transaction:
        handle.approve("legal", "ada", connection=connection)
        if not commits:
            transaction.rollback()
    env.run_until_idle()

    assert handle.result()["by"] == ("ada" if commits else None)


def test_a_decision_can_go_along_with_the_start_of_its_run(env: WorkflowEnv, callers_engine: Engine) -> None:
    with callers_engine.begin() as connection:
        handle = env.client.start(one.options(connection=connection))
        handle.approve("legal", "ada", connection=connection)

    assert handle.result()["by"] == "ada"
