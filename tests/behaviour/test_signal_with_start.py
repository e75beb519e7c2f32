"""A start that brings a signal: one decision, whichever run it leads to."""

from __future__ import annotations

from typing import Any

import pytest

from dramaturg import AlreadyStarted, PayloadError, signals, wait_signal, workflow
from dramaturg.testing import WorkflowEnv
from dramaturg_protocol.messages import Request, RequestKind, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.talk_messages import SignalBody
from tests.behaviour.histories import events_of


def a_cart() -> Any:
    @workflow(name="cart_by_signals")
    async def cart() -> list[Any]:
        items: list[Any] = []
        async for item in signals("add"):
            if item == "end":
                break
            items.append(item)
        return items

    return cart


@pytest.mark.selection
def test_the_first_one_starts_the_run_and_all_signal_it(env: WorkflowEnv) -> None:
    cart = a_cart()

    handles = [
        env.client.start(cart, id="cart-7", on_conflict="use_existing", signal=("add", number)) for number in (1, 2, 3)
    ]
    env.crash()
    env.client.start(cart, id="cart-7", on_conflict="use_existing", signal=("add", "end"))

    assert len({handle.run_id for handle in handles}) == 1
    assert handles[0].result() == [1, 2, 3]


def test_a_new_run_begins_where_the_old_one_has_closed(env: WorkflowEnv) -> None:
    cart = a_cart()
    first = env.client.start(cart, id="cart-8", on_conflict="use_existing", signal=("add", "end"))
    assert first.result() == []

    second = env.client.start(cart, id="cart-8", on_conflict="use_existing", signal=("add", 1))
    second.signal("add", "end")

    assert second.run_id != first.run_id
    assert second.result() == [1]


def test_a_run_that_closes_between_start_and_signal_is_followed_by_another(env: WorkflowEnv) -> None:
    cart = a_cart()
    first = env.client.start(cart, id="cart-9", on_conflict="use_existing", signal=("add", 1))
    env.run_until_idle()
    starts, inbox = env.database.starts, env.database.inbox
    submit = starts.submit
    body = encode_message(SignalBody("add", Payload('"end"')))
    end = Request("end", RequestKind.SIGNAL, first.run_id, env.database.partition_of("cart-9"), body)

    def end_first(*args: Any) -> Any:
        starts.submit = submit  # type: ignore[method-assign]
        inbox.put([end])
        return submit(*args)

    starts.submit = end_first  # type: ignore[method-assign,assignment]
    second = env.client.start(cart, id="cart-9", on_conflict="use_existing", signal=("add", 2))
    second.signal("add", "end")

    assert first.result() == [1]
    assert second.run_id != first.run_id
    assert second.result() == [2]


def test_a_start_that_is_refused_signals_nobody(env: WorkflowEnv) -> None:
    cart = a_cart()
    handle = env.client.start(cart, id="cart-10", signal=("add", 1))

    with pytest.raises(AlreadyStarted):
        env.client.start(cart, id="cart-10", signal=("add", 2))
    handle.signal("add", "end")

    assert handle.result() == [1]


def test_the_same_idempotency_key_signals_once(env: WorkflowEnv) -> None:
    cart = a_cart()
    handles = [env.client.start(cart, idempotency_key="k", signal=("add", 1)) for _ in range(3)]
    env.client.start(cart, idempotency_key="k", signal=("add", "end"))

    assert len({handle.run_id for handle in handles}) == 1
    assert handles[0].result() == [1]
    assert len(events_of(handles[0], "signal.received")) == 2
    assert env.client.start(cart, idempotency_key="k", signal=("add", 1)).result() == [1]


def test_many_may_bring_a_signal_and_options_may_stand_on_the_workflow(env: WorkflowEnv) -> None:
    @workflow
    async def takes_one_of_many(number: int) -> int:
        return number + int(await wait_signal("add", type=int))

    many = env.client.start_many(takes_one_of_many, [(1,), (2,)], signal=("add", 10))
    bound = env.client.start(takes_one_of_many.options(signal=("add", 20)), number=3)

    assert env.client.results([*many, bound]) == [11, 12, 23]


def test_a_signal_that_cannot_be_sent_starts_nothing(env: WorkflowEnv) -> None:
    cart = a_cart()
    with pytest.raises(TypeError, match="tuple of a name and a payload"):
        env.client.start(cart, id="cart-11", signal="add")
    with pytest.raises(ValueError, match="name of a signal"):
        env.client.start(cart, id="cart-11", signal=("", 1))
    with pytest.raises(PayloadError, match="signal 'add'"):
        env.client.start(cart, id="cart-11", signal=("add", object()))

    assert env.client.count() == 0
