"""A codec: what Redis and the database hold of values, and that nobody notices otherwise."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet
from pydantic import BaseModel, SecretBytes, SecretStr
from sqlalchemy import select

from dramaturg import (
    ConfigurationError,
    IdempotencyMismatch,
    Limit,
    PayloadError,
    RetryPolicy,
    Settings,
    StepFailed,
    WorkflowFailed,
    approval,
    child,
    compensate,
    current_step,
    hook,
    info,
    logger,
    set_status,
    set_step_context,
    side_effect,
    sleep,
    step,
    wait_signal,
    workflow,
)
from dramaturg.cli import happenings
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.codec_choice import choose_codec
from dramaturg_protocol.events import HistoryEvent, RunCompleted
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import RunWrites
from dramaturg_protocol.sealing import ENCRYPTED, CannotOpen, own_codec, seal, unseal
from dramaturg_store.schema import metadata
from tests.isolated_steps import isolated_echo

CANARY = "canary-4711"
KEY, OTHER_KEY = Fernet.generate_key().decode(), Fernet.generate_key().decode()
FAST = RetryPolicy(max_attempts=2, initial="1s")

MakeEnv = Callable[..., WorkflowEnv]


def encrypting(*keys: str) -> Settings:
    return Settings(codec="fernet", encryption_keys=list(keys or (KEY,)))  # type: ignore[arg-type]


@pytest.fixture
def sealed_env(make_env: MakeEnv) -> Any:
    with make_env(settings=encrypting()) as env:
        yield env


def stored_text(env: WorkflowEnv, client: redis.Redis | None) -> str:
    """All that the database and Redis hold."""
    parts: list[str] = []
    with env.database.engine.connect() as connection:
        for table in metadata.sorted_tables:
            parts += [f"{table.name} {tuple(row)!r}" for row in connection.execute(select(table))]
    if client is not None:
        any_client: Any = client
        for key in any_client.scan_iter(f"{env.database.namespace}*"):
            parts.append(f"{key!r} {any_client.dump(key)!r} {_content(any_client, key)!r}")
    return "\n".join(parts)


def _content(client: Any, key: bytes) -> Any:
    kind = client.type(key).decode()
    if kind == "stream":
        return client.xrange(key)
    if kind == "hash":
        return client.hgetall(key)
    if kind == "list":
        return client.lrange(key, 0, -1)
    return client.get(key) if kind == "string" else kind


class Order(BaseModel):
    """What is ordered."""

    note: str
    cents: int


@step(name="sealed_echo")
def echo(order: Order, *, suffix: str = "") -> Order:
    context = current_step()
    assert context is not None
    context.heartbeat(f"beat {CANARY}")
    context.progress(1, 2, f"note {CANARY}")
    return Order(note=order.note + suffix, cents=order.cents)


@step(name="sealed_fail", retries=FAST)
def fail(word: str) -> None:
    raise ValueError(f"no {word}")


@step(name="sealed_undo")
def undo(word: str) -> str:
    return word


@workflow(name="sealed_all")
async def everything(word: str) -> dict[str, Any]:
    started_with = info().context
    set_step_context({"who": word})
    logger.warning("seen %s", word)
    seen = side_effect(lambda: f"marker {word}")
    order = await echo(Order(note=word, cents=5), suffix="!")
    compensate(undo, word)
    caught = ""
    try:
        await fail(word)
    except StepFailed as error:
        caught = error.message
    await sleep("1h")
    return {"context": started_with, "seen": seen, "note": order.note, "caught": caught, "type": type(order).__name__}


@workflow(name="sealed_failing")
async def failing(word: str) -> None:
    compensate(undo, word)
    await fail(word)


@pytest.mark.selection
def test_neither_redis_nor_the_database_sees_clear_text(
    sealed_env: WorkflowEnv, redis_client: redis.Redis | None
) -> None:
    env = sealed_env
    handle = env.start(everything.options(context=CANARY, idempotency_key="k"), CANARY)
    assert CANARY not in stored_text(env, redis_client)
    env.turn()
    assert CANARY not in stored_text(env, redis_client)
    env.run_until_idle()
    assert CANARY not in stored_text(env, redis_client)

    assert handle.result() == {
        "context": CANARY,
        "seen": f"marker {CANARY}",
        "note": f"{CANARY}!",
        "caught": f"no {CANARY}",
        "type": "Order",
    }
    broken = env.start(failing, CANARY)
    with pytest.raises(WorkflowFailed, match=f"no {CANARY}"):
        broken.result()
    assert CANARY not in stored_text(env, redis_client)


def test_people_with_the_key_are_shown_values_and_others_a_placeholder(sealed_env: WorkflowEnv) -> None:
    handle = sealed_env.start(failing, CANARY)
    with pytest.raises(WorkflowFailed):
        handle.result()

    shown = json.dumps([event.data for event in handle.events()])
    error = handle.describe().error
    letters = sealed_env.client.dead_letters.list()
    assert f"no {CANARY}" in shown
    assert error is not None
    assert error["message"].endswith(f"no {CANARY}")
    assert f"no {CANARY}" in letters[0].reason
    assert letters[0].payload["input"] == {"args": [CANARY]}

    with own_codec():
        shown = json.dumps([event.data for event in handle.events()])
        assert CANARY not in shown
        assert ENCRYPTED in shown
        assert handle.describe().waiting_for == ""
        assert sealed_env.client.dead_letters.list()[0].reason == ENCRYPTED


def test_a_run_goes_on_after_a_crash_and_under_a_new_key(make_env: MakeEnv) -> None:
    with make_env(settings=encrypting(KEY)) as env:
        handle = env.start(everything, CANARY)
        env.run_until_idle()
        env.crash()
        assert handle.result()["note"] == f"{CANARY}!"


def test_keys_are_rotated() -> None:
    with own_codec():
        choose_codec("fernet", [OTHER_KEY])
        old = seal('"x"')
    with own_codec():
        choose_codec("fernet", [KEY, OTHER_KEY])
        assert unseal(old) == '"x"'
        new = seal('"y"')
    with own_codec():
        choose_codec("fernet", [KEY])
        assert unseal(new) == '"y"'
        with pytest.raises(CannotOpen, match="ENCRYPTION_KEYS"):
            unseal(old)


def test_an_idempotency_key_knows_its_arguments(sealed_env: WorkflowEnv) -> None:
    first = sealed_env.start(everything.options(idempotency_key="k"), CANARY)
    assert sealed_env.start(everything.options(idempotency_key="k"), CANARY).run_id == first.run_id
    with pytest.raises(IdempotencyMismatch):
        sealed_env.start(everything.options(idempotency_key="k"), "other")


def test_a_run_is_forked_from_sealed_events(sealed_env: WorkflowEnv) -> None:
    handle = sealed_env.start(everything, CANARY)
    handle.result()
    forked = handle.fork(3)
    assert forked.result()["note"] == f"{CANARY}!"


# Secrets.


class Login(BaseModel):
    """Who, and how."""

    user: str
    password: SecretStr


@step(name="sealed_login")
def login(who: Login, token: SecretBytes, pin: SecretStr) -> SecretStr:
    return SecretStr(who.password.get_secret_value() + token.get_secret_value().decode() + pin.get_secret_value())


@workflow(name="sealed_secrets")
async def secrets(password: SecretStr) -> list[Any]:
    together = await login(Login(user="ada", password=password), SecretBytes(b"t"), password)
    assert together.get_secret_value() == f"{CANARY}t{CANARY}"
    return [together]


@pytest.mark.selection
def test_secrets_come_back_and_are_masked_wherever_people_look(
    sealed_env: WorkflowEnv, redis_client: redis.Redis | None
) -> None:
    handle = sealed_env.start(secrets, SecretStr(CANARY))
    assert handle.result()[0].get_secret_value() == f"{CANARY}t{CANARY}"

    shown = json.dumps([[event.data for event in handle.events()], handle.describe().result])
    assert CANARY not in shown
    assert "**********" in shown
    assert CANARY not in stored_text(sealed_env, redis_client)
    assert handle.fork(1).result()[0].get_secret_value() == f"{CANARY}t{CANARY}"


def test_without_an_encrypting_codec_a_secret_is_refused_where_it_is_passed(env: WorkflowEnv, encrypted: bool) -> None:
    if encrypted:
        pytest.skip("it encrypts")
    with pytest.raises(PayloadError, match=r"argument 'password'.*CODEC"):
        env.start(secrets, SecretStr(CANARY))

    @workflow
    async def passes_on() -> None:
        await login(Login(user="ada", password=SecretStr(CANARY)), SecretBytes(b""), SecretStr(CANARY))

    with pytest.raises(WorkflowFailed, match=r"argument 'who'.*CODEC") as failed:
        env.run(passes_on)
    assert CANARY not in str(failed.value)


class Turned:
    """A codec that turns bytes round, and hides nothing."""

    def encode(self, data: bytes, /) -> bytes:
        return bytes(255 - byte for byte in data)

    def decode(self, data: bytes, /) -> bytes:
        return bytes(255 - byte for byte in data)


turned = Turned()


def test_a_codec_of_ones_own_is_used_and_takes_no_secrets(make_env: MakeEnv) -> None:
    with make_env(settings=Settings(codec=f"{__name__}:turned")) as env:
        assert env.run(everything, CANARY)["note"] == f"{CANARY}!"
        assert CANARY not in stored_text(env, None)
        with pytest.raises(PayloadError, match="encrypting CODEC"):
            env.start(secrets, SecretStr(CANARY))


def test_a_step_that_is_isolated_has_the_codec_too(sealed_env: WorkflowEnv) -> None:
    @workflow
    async def isolated() -> list[Any]:
        return [await isolated_echo(SecretStr(CANARY))]

    assert sealed_env.run(isolated)[0].get_secret_value() == CANARY


def test_a_coordinator_without_the_key_does_not_begin(make_env: MakeEnv, sealed_env: WorkflowEnv) -> None:
    with own_codec(), pytest.raises(ConfigurationError, match="DRAMATURG_CODEC"):
        sealed_env.database.check_codec()
    with own_codec():
        choose_codec("fernet", [OTHER_KEY])
        with pytest.raises(ConfigurationError, match="DRAMATURG_ENCRYPTION_KEYS"):
            sealed_env.database.check_codec()
        with pytest.raises(ConfigurationError, match="has another CODEC"):
            choose_codec("fernet", [KEY])


@pytest.mark.parametrize(
    ("codec", "keys", "words"),
    [
        ("fernet", [], "set DRAMATURG_ENCRYPTION_KEYS too"),
        ("fernet", ["x"], "key 1 of 1 is not 32 bytes"),
        (None, [KEY], 'set DRAMATURG_CODEC="fernet" too'),
        ("nothing", [], "MODULE:NAME"),
        (f"{__name__}:nothing", [], "has no 'nothing'"),
        (f"{__name__}:KEY", [], "needs encode"),
        (f"{__name__}:turned", [KEY], "has its keys from elsewhere"),
        (f"{__name__}:Careless", [], "digest_keys"),
    ],
)
def test_a_wrong_codec_is_refused_with_what_to_do(codec: str | None, keys: list[str], words: str) -> None:
    with own_codec(), pytest.raises(ConfigurationError, match=words):
        choose_codec(codec, keys)


class Careless(Turned):
    """Says that it encrypts, and has no keys for digests."""

    encrypts = True


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with own_codec(), pytest.raises(ConfigurationError, match=r"dramaturg\[encryption\]"):
        choose_codec("fernet", [KEY])


@step(name="sealed_cached", cache="1h", concurrency=Limit(1, key="word"), rate_limit=Limit("100/s", key="word"))
def cached(word: str) -> str:
    return f"cached {word}"


@workflow(name="sealed_child")
async def grandchild(word: str) -> str:
    await sleep("1h")
    return word


@workflow(name="sealed_talking")
async def talking(word: str) -> list[Any]:
    set_status({"at": word})
    found: list[Any] = [await cached(word), await cached(word), await child(grandchild, word)]
    found.append(await wait_signal("go"))
    asked = approval("ok", prompt=f"may {word}?", details={"who": word})
    decision = await asked
    found.append(decision.comment)
    called = hook("back")
    tokens.append(called.token)
    found.append(await called)
    return found


tokens: list[str] = []


def test_nothing_that_a_run_says_or_hears_is_in_clear_text(
    sealed_env: WorkflowEnv, redis_client: redis.Redis | None
) -> None:
    env = sealed_env
    tokens.clear()
    handle = env.start(talking, CANARY)
    seen: list[str] = []

    def look() -> None:
        seen.extend(line for line in stored_text(env, redis_client).splitlines() if CANARY in line)

    env.turn()
    look()
    env.run_until_idle()
    look()
    env.advance("2h")
    handle.signal("go", f"signal {CANARY}")
    look()
    env.run_until_idle()
    look()
    assert f"may {CANARY}?" in str(env.client.approvals.list())
    handle.approve("ok", by="ada", comment=f"yes {CANARY}")
    look()
    env.run_until_idle()
    env.crash()
    env.run_until_idle()
    env.client.resume_hook(tokens[-1], f"hook {CANARY}")
    look()
    env.run_until_idle()
    look()
    assert handle.describe().custom_status == {"at": CANARY}
    assert handle.result() == [
        f"cached {CANARY}",
        f"cached {CANARY}",
        CANARY,
        f"signal {CANARY}",
        f"yes {CANARY}",
        f"hook {CANARY}",
    ]
    look()
    assert seen == []


def test_the_live_progress_of_a_command_shows_values_and_masks_secrets() -> None:
    body = RunCompleted(Payload('["canary",{"$type":"secretstr","value":"hunter2"}]'))
    writes = RunWrites("run", events=[HistoryEvent(1, datetime(2030, 1, 1, tzinfo=UTC), body)])
    with own_codec():
        choose_codec("fernet", [KEY])
        data = next(iter(happenings.events_of([writes]))).data
    assert data == {"result": ["canary", {"$type": "secretstr", "value": "**********"}]}
