"""Links of approvals: a token that says who decides how, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dramaturg import (
    AlreadyDecided,
    ConfigurationError,
    Handle,
    InvalidToken,
    NoOpenApproval,
    Settings,
    approval,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv

BASE = "https://flows.example.com"
mails: list[str] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    mails.clear()


@pytest.fixture
def public_env(make_env: Callable[..., WorkflowEnv]) -> Iterator[WorkflowEnv]:
    with make_env(settings=Settings(public_url=BASE)) as env:
        yield env


@step(name="links_mail")
def mail(*links: str) -> None:
    mails.extend(links)


@workflow(name="links_one")
async def one() -> list[Any]:
    asked = approval("legal", approvers=["ada", "bob"], timeout="1d")
    await mail(asked.link("approve", by="ada"), asked.link("reject", by="ada"), asked.link("approve", by="bob"))
    decision = await asked
    return [decision.approved, decision.by, decision.comment]


def tokens(env: WorkflowEnv, handle: Handle[Any]) -> list[str]:
    env.run_until_idle()
    assert handle.describe().status == "WAITING"
    return [link.removeprefix(f"{BASE}/decide/") for link in mails]


@pytest.mark.parametrize("crashes", [False, True], ids=["", "after a crash"])
@pytest.mark.parametrize(("which", "outcome"), [(0, [True, "ada"]), (1, [False, "ada"]), (2, [True, "bob"])])
def test_a_token_decides_as_it_says(public_env: WorkflowEnv, crashes: bool, which: int, outcome: list[Any]) -> None:
    handle = public_env.start(one)
    found = tokens(public_env, handle)
    if crashes:
        public_env.crash()

    public_env.client.decide_by_token(found[which], "by mail")

    assert handle.result() == [*outcome, "by mail"]
    assert len(mails) == 3


def test_a_token_is_good_for_one_decision(public_env: WorkflowEnv) -> None:
    handle = public_env.start(one)
    approve, reject, _ = tokens(public_env, handle)
    public_env.client.decide_by_token(approve)

    for token in (approve, reject):
        with pytest.raises(AlreadyDecided, match="approved by ada"):
            public_env.client.decide_by_token(token)
    assert handle.result()[0] is True


def test_looking_at_a_token_decides_nothing(public_env: WorkflowEnv) -> None:
    handle = public_env.start(one)
    _, reject, _ = tokens(public_env, handle)

    info, approves, by = public_env.client.approvals.read_token(reject)

    assert (info.name, info.run_id, info.is_open, approves, by) == ("legal", handle.run_id, True, False, "ada")
    assert handle.describe().status == "WAITING"


def test_a_token_that_was_changed_decides_nothing(public_env: WorkflowEnv) -> None:
    handle = public_env.start(one)
    approve, reject, _ = tokens(public_env, handle)
    mixed = f"{approve.split('.')[0]}.{reject.split('.')[1]}"

    for token in (mixed, approve[:-1], "", "nonsense"):
        with pytest.raises(InvalidToken, match="no token of an approval"):
            public_env.client.decide_by_token(token)
    with pytest.raises(InvalidToken):
        public_env.client.resume_hook(approve)


def test_a_token_of_another_namespace_decides_nothing(
    public_env: WorkflowEnv, make_env: Callable[..., WorkflowEnv]
) -> None:
    approve, *_ = tokens(public_env, public_env.start(one))

    with make_env() as other, pytest.raises(InvalidToken):
        other.client.decide_by_token(approve)


def test_a_token_is_worth_nothing_once_its_run_has_ended(public_env: WorkflowEnv) -> None:
    handle = public_env.start(one)
    approve, *_ = tokens(public_env, handle)
    handle.terminate()

    with pytest.raises(NoOpenApproval, match="TERMINATED"):
        public_env.client.decide_by_token(approve)


def test_links_of_a_request_stay_as_they_were_when_the_public_url_changes(
    public_env: WorkflowEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = public_env.start(one)
    approve, *_ = tokens(public_env, handle)
    moved = public_env._settings.model_copy(update={"public_url": "https://elsewhere.example.com"})  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(public_env, "_settings", moved)
    rules = public_env._rules  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(public_env, "_rules", _with_url(rules, "https://elsewhere.example.com"))

    public_env.restart()
    public_env.client.decide_by_token(approve)

    assert handle.result() == [True, "ada", ""]


def _with_url(rules: Any, url: str) -> Any:
    import dataclasses

    return dataclasses.replace(rules, public_url=url)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda asked: asked.link("allow", by="ada"), 'takes "approve" or "reject"'),
        (lambda asked: asked.link("approve", by="eve"), "'eve' is none of the approvers"),
        (lambda asked: asked.link("approve", by=""), "by must not be empty"),
    ],
)
def test_a_wrong_link_is_refused_where_it_is_made(
    public_env: WorkflowEnv, call: Callable[[Any], str], says: str
) -> None:
    seen: list[str] = []

    @workflow
    async def flow() -> None:
        asked = approval("legal", approvers=["ada"])
        try:
            call(asked)
        except ValueError as error:
            seen.append(str(error))

    public_env.run(flow)

    assert says in seen[0]


def test_a_link_needs_the_public_url(env: WorkflowEnv) -> None:
    @workflow
    async def flow() -> str:
        try:
            return approval("legal").link("approve", by="ada")
        except ConfigurationError as error:
            return str(error)

    assert "DRAMATURG_PUBLIC_URL" in env.run(flow)


@pytest.mark.parametrize("wrong", ["flows.example.com", "ftp://x", "https://", "https://x?y=1", "https://x#y"])
def test_a_public_url_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="must be a URL like"):
        Settings(public_url=wrong)
