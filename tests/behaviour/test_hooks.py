"""Hooks: one call from outside, by whoever has the token, read as the type that the workflow waits for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter
from sqlalchemy import Engine, create_engine

from dramaturg import (
    AlreadyResolved,
    AsyncClient,
    ConfigurationError,
    Handle,
    HookTimeout,
    InvalidToken,
    PayloadError,
    Settings,
    TokenExpired,
    WorkflowFailed,
    WrongState,
    hook,
    sleep,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.records import WorkKind
from tests.behaviour.histories import events_of, has_gapless_numbers, types_of

sent: list[str] = []


class Payment(BaseModel):
    cents: int
    on: date | None = None


@dataclass
class Parcel:
    weight: float


@pytest.fixture(autouse=True)
def _clean() -> None:
    sent.clear()


@step(name="hooks_send")
def send(token: str) -> None:
    sent.append(token)


@workflow(name="hooks_one")
async def one(time: str | None = None) -> Any:
    called = hook("paid", Payment, time)
    await send(called.token)
    payment = await called
    return [type(payment).__name__, payment.cents]


def waiting(env: WorkflowEnv, handle: Handle[Any]) -> str:
    """The token of a run that waits for its hook."""
    env.run_until_idle()
    assert handle.describe().status == "WAITING"
    return sent[-1]


@pytest.fixture
def callers_engine(env: WorkflowEnv) -> Iterator[Engine]:
    """As an application makes its own."""
    engine = create_engine(env.database.engine.url)
    yield engine
    engine.dispose()


@pytest.mark.selection
@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_run_waits_for_a_call_and_gets_what_it_brings(env: WorkflowEnv, crashes: bool) -> None:
    handle = env.start(one)
    token = waiting(env, handle)
    env.advance("3d")
    if crashes:
        env.crash()

    env.client.resume_hook(token, {"cents": 500, "on": "2030-01-04"})

    assert handle.result() == ["Payment", 500]
    assert [kind for kind in types_of(handle) if kind.startswith("hook")] == ["hook.created", "hook.resolved"]
    assert has_gapless_numbers(handle)
    assert sent == [token], "the token is the same after a crash"


def test_the_token_is_opaque_and_is_not_stored_with_the_hook(env: WorkflowEnv) -> None:
    handles = [env.start(one), env.start(one)]
    env.run_until_idle()

    for token, handle in zip(sent, handles, strict=True):
        assert handle.run_id not in token
        assert len(token.split(".")[1]) == 24
        (row,) = env.database.reads.open_work(handle.run_id)
        assert row.kind is WorkKind.HOOK
        assert token not in (row.message or "")
        assert token not in str(events_of(handle, "hook.created"))
    assert sent[0] != sent[1]


@pytest.mark.selection
def test_a_hook_is_resolved_once(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> int:
        called = hook("paid", int)
        await send(called.token)
        first = await called
        await sleep("1d")
        return first + await called

    handle = env.start(flow)
    token = waiting(env, handle)
    env.client.resume_hook(token, 1)

    for payload in (1, 2):
        with pytest.raises(AlreadyResolved, match=r"hook 'paid' of run .* was resolved already"):
            env.client.resume_hook(token, payload)
    assert handle.result() == 2
    with pytest.raises(AlreadyResolved):
        env.client.resume_hook(token, 3)


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_time_out_is_raised_in_the_workflow_and_told_to_late_callers(env: WorkflowEnv, crashes: bool) -> None:
    @workflow
    async def flow() -> list[str]:
        called = hook("paid", timeout="2h")
        await send(called.token)
        try:
            await called
        except TimeoutError as error:
            return [type(error).__name__, str(error)]
        return []

    handle = env.start(flow)
    token = waiting(env, handle)
    begun = env.now
    if crashes:
        env.crash()

    assert handle.result() == ["HookTimeout", "hook 'paid' expired: nobody used its token in time"]
    assert env.now == begun + timedelta(hours=2)
    assert "hook.expired" in types_of(handle)
    with pytest.raises(TokenExpired, match="expired at"):
        env.client.resume_hook(token, 1)


@pytest.mark.parametrize("broken", ["", "x", "a.b", "a.b.c", "é.é"])
def test_what_is_no_token_is_refused(env: WorkflowEnv, broken: str) -> None:
    with pytest.raises(InvalidToken, match="no token of a hook"):
        env.client.resume_hook(broken, 1)


def test_a_token_that_was_changed_or_is_for_something_else_is_refused(env: WorkflowEnv) -> None:
    token = waiting(env, env.start(one))
    other = token[:-1] + ("A" if token[-1] != "A" else "Q")

    for changed in (other, token[1:], token + "A", token.upper()):
        with pytest.raises(InvalidToken):
            env.client.resume_hook(changed, {"cents": 1})
    with pytest.raises(InvalidToken):
        env.client.decide_by_token(token)
    with pytest.raises(InvalidToken):
        env.client.complete_step(token)


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_payload_that_does_not_fit_is_refused_and_the_hook_stays_open(env: WorkflowEnv, crashes: bool) -> None:
    handle = env.start(one)
    token = waiting(env, handle)
    if crashes:
        env.crash()

    with pytest.raises(PayloadError, match=r"the payload of hook 'paid'.*cents"):
        env.client.resume_hook(token, {"euros": 5})
    assert "hook.resolved" not in types_of(handle)

    env.client.resume_hook(token, Payment(cents=7))
    assert handle.result() == ["Payment", 7]


def test_a_payload_that_does_not_fit_and_came_while_nobody_could_tell_fails_the_wait(env: WorkflowEnv) -> None:
    handle = env.start(one)
    token = waiting(env, handle)
    handle.pause()
    env.crash()

    env.client.resume_hook(token, "no payment")
    handle.resume()

    with pytest.raises(WorkflowFailed, match="the payload of hook 'paid'"):
        handle.result()


@pytest.mark.parametrize(
    ("expected", "payload", "result"),
    [
        (None, {"any": [1, "x"]}, {"any": [1, "x"]}),
        (int, "3", 3),
        (list[int], [1, 2], [1, 2]),
        (Parcel, {"weight": 1}, Parcel(1.0)),
        (Parcel, Parcel(2.5), Parcel(2.5)),
        (dict[str, date], {"on": "2030-01-02"}, {"on": date(2030, 1, 2)}),
        (TypeAdapter(int | str), "7", "7"),
        (TypeAdapter(list[Payment]), [{"cents": 1}], [Payment(cents=1)]),
        (bytes, b"raw", b"raw"),
    ],
)
def test_a_payload_is_read_as_the_type_that_is_waited_for(
    env: WorkflowEnv, expected: Any, payload: Any, result: Any
) -> None:
    got: list[Any] = []

    @workflow
    async def flow() -> None:
        called = hook("any", expected)
        await send(called.token)
        got.append(await called)

    handle = env.start(flow)
    env.client.resume_hook(waiting(env, handle), payload)
    handle.result()

    assert got[-1] == result


def test_a_type_adapter_refuses_too(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> int | bool:
        called = hook("any", TypeAdapter[int | bool](int | bool))
        await send(called.token)
        return await called

    handle = env.start(flow)
    token = waiting(env, handle)

    with pytest.raises(PayloadError, match="the payload of hook 'any'"):
        env.client.resume_hook(token, "many")
    env.client.resume_hook(token, 5)
    assert handle.result() == 5


def test_the_url_is_the_public_one_with_the_token(make_env: Any) -> None:
    with make_env(settings=Settings(public_url="https://flows.example.com/x/")) as env:

        @workflow
        async def flow() -> str:
            called = hook("paid")
            await send(called.token)
            return called.url

        assert env.run(flow) == f"https://flows.example.com/x/hooks/{sent[0]}"


def test_without_a_public_url_there_is_no_link(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            return hook("paid").url
        except ConfigurationError as error:
            return str(error)

    assert "DRAMATURG_PUBLIC_URL" in env.run(flow)


def test_the_description_shows_what_is_waited_for(env: WorkflowEnv) -> None:
    handle = env.start(one, "2h")
    waiting(env, handle)
    env.advance("90m")

    assert handle.describe().waiting_for == "hook paid since 1h30m, expires in 30m"
    (item,) = handle.describe().open
    assert (item.kind, item.name) == ("hook", "paid")


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_nobody_waits_for_the_hook_of_a_run_that_ended(env: WorkflowEnv, how: str) -> None:
    handle = env.start(one)
    token = waiting(env, handle)
    getattr(handle, how)()
    env.run_until_idle()

    with pytest.raises(TokenExpired, match="nobody waits for this hook"):
        env.client.resume_hook(token, {"cents": 1})


def test_what_awaits_a_hook_withdraws_it_where_it_is_cancelled(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> None:
        called = hook("paid")
        await send(called.token)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(called, 60)
        await sleep("1d")

    handle = env.start(flow)
    token = waiting(env, handle)
    env.advance("1h")

    assert "hook.withdrawn" in types_of(handle)
    with pytest.raises(TokenExpired):
        env.client.resume_hook(token)
    handle.result()


def test_a_retry_of_a_run_that_failed_of_an_expired_hook_waits_again_under_the_same_token(env: WorkflowEnv) -> None:
    handle = env.start(one, "2h")
    token = waiting(env, handle)
    with pytest.raises(WorkflowFailed, match="HookTimeout"):
        handle.result()
    env.advance("10d")

    handle.retry()

    (item,) = handle.describe().open
    assert item.due == env.now + timedelta(hours=2)
    env.client.resume_hook(token, {"cents": 9})
    assert handle.result() == ["Payment", 9]
    assert sent == [token]


def test_a_retry_keeps_a_call_that_came(env: WorkflowEnv) -> None:
    failing = [True]

    @step(name="hooks_book", retries=0)
    def book(cents: int) -> int:
        if failing:
            raise ValueError("closed")
        return cents

    @workflow
    async def flow() -> int:
        called = hook("paid", int)
        await send(called.token)
        return await book(await called)

    handle = env.start(flow)
    token = waiting(env, handle)
    env.client.resume_hook(token, 5)
    with pytest.raises(WorkflowFailed):
        handle.result()
    failing.clear()

    handle.retry()

    assert handle.result() == 5
    assert len(events_of(handle, "hook.resolved")) == 1


def test_a_reset_before_a_hook_makes_its_old_token_worthless(env: WorkflowEnv) -> None:
    handle = env.start(one)
    old = waiting(env, handle)
    handle.reset(1)
    new = waiting(env, handle)

    assert new != old
    with pytest.raises(TokenExpired):
        env.client.resume_hook(old, {"cents": 1})
    env.client.resume_hook(new, {"cents": 2})
    assert handle.result() == ["Payment", 2]


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
def test_a_fork_has_hooks_of_its_own_beyond_what_it_shares(env: WorkflowEnv, crashes: bool) -> None:
    @workflow
    async def flow() -> list[int]:
        first = hook("first", int)
        await send(first.token)
        before = await first
        second = hook("second", int)
        await send(second.token)
        return [before, await second]

    handle = env.start(flow)
    env.client.resume_hook(waiting(env, handle), 1)
    old = waiting(env, handle)
    (_, second) = [event["seq"] for event in events_of(handle, "step.scheduled")]

    fork = handle.fork(second)
    if crashes:
        env.crash()
    new = waiting(env, fork)

    env.client.resume_hook(old, 2)
    env.client.resume_hook(new, 3)
    assert (handle.result(), fork.result()) == ([1, 2], [1, 3])


def test_a_run_that_waits_for_a_hook_is_forked_before_that_only(env: WorkflowEnv) -> None:
    @step(name="hooks_other")
    def other() -> None:
        pass

    @workflow
    async def flow() -> int:
        called = hook("first", int)
        await send(called.token)
        await other()
        return await called

    handle = env.start(flow)
    waiting(env, handle)

    with pytest.raises(WrongState, match="waited for hook 'first' there"):
        handle.fork(3)
    fork = handle.fork(2)
    env.client.resume_hook(waiting(env, fork), 4)
    assert fork.result() == 4


def test_many_hooks_of_a_run_are_each_resolved_by_its_own_token(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> list[str]:
        hooks = [hook("call", str) for _ in range(3)]
        for each in hooks:
            await send(each.token)
        return list(await asyncio.gather(*hooks))

    handle = env.start(flow)
    waiting(env, handle)
    for token, payload in zip(reversed(sent), "cba", strict=True):
        env.client.resume_hook(token, payload)

    assert handle.result() == ["a", "b", "c"]


def test_an_async_client_resolves_hooks(env: WorkflowEnv) -> None:
    handle = env.start(one)
    token = waiting(env, handle)
    client = AsyncClient.of(env.client)

    asyncio.run(client.resume_hook(token, {"cents": 3}))
    with pytest.raises(AlreadyResolved):
        asyncio.run(client.resume_hook(token, {"cents": 3}))

    assert handle.result() == ["Payment", 3]


@pytest.mark.parametrize("commits", [True, False])
def test_a_call_in_the_callers_own_transaction_counts_if_that_commits(
    env: WorkflowEnv, callers_engine: Engine, commits: bool
) -> None:
    handle = env.start(one, "1h")
    token = waiting(env, handle)

    with callers_engine.connect() as connection, connection.begin() as transaction:
        env.client.resume_hook(token, {"cents": 4}, connection=connection)
        if not commits:
            transaction.rollback()
    env.run_until_idle()

    if commits:
        assert handle.result() == ["Payment", 4]
    else:
        with pytest.raises(WorkflowFailed):
            handle.result()


def test_what_was_sent_in_a_transaction_and_is_refused_is_put_aside_for_a_person(
    env: WorkflowEnv, callers_engine: Engine
) -> None:
    handle = env.start(one)
    token = waiting(env, handle)
    with callers_engine.begin() as connection:
        env.client.resume_hook(token, {"euros": 4}, connection=connection)
    env.run_until_idle()

    (letter,) = env.client.dead_letters.list()
    assert "the payload of hook 'paid'" in letter.reason
    assert handle.describe().status == "WAITING"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [({"name": ""}, ValueError, "name must not be empty"), ({"timeout": "-1h"}, ValueError, "-1h")],
)
def test_wrong_arguments_are_refused_where_they_are_given(
    env: WorkflowEnv, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    seen: list[Exception] = []

    @workflow
    async def flow() -> None:
        try:
            given: Any = {"name": "paid", **arguments}
            hook(**given)
        except error as problem:
            seen.append(problem)

    env.run(flow)

    assert says in str(seen[0])


def test_a_hook_belongs_into_a_workflow() -> None:
    with pytest.raises(RuntimeError, match=r"hook\(\) works inside a workflow only"):
        hook("paid")


def test_the_time_out_of_a_hook_is_a_time_out() -> None:
    assert issubclass(HookTimeout, TimeoutError)
