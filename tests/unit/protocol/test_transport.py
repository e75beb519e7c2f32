"""Messages on their way through Redis: written and read quickly, and as Dramatiq has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.encoder import Encoder, JSONEncoder
from dramatiq.errors import DecodeError

from dramaturg_protocol.messages import StepTask, encode_message
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.transport import message_in, message_of, redis_body_of

TASK = StepTask("run", 0, 1, 1, 3, "charge", "default", "checkout", "w", Payload('{"args":["ä\\u0000"]}'), 8)
Message: Any = dramatiq.Message


class Backwards(Encoder):
    """JSON from its end to its beginning: an encoder of an application's own."""

    def encode(self, data: dict[str, Any]) -> bytes:
        return json.dumps(data)[::-1].encode()

    def decode(self, data: bytes) -> dict[str, Any]:
        return dict(json.loads(data.decode()[::-1]))


@pytest.fixture
def another_encoder() -> Iterator[None]:
    dramatiq.set_encoder(Backwards())
    yield
    dramatiq.set_encoder(JSONEncoder())


def check_a_round_trip() -> None:
    text = encode_message(TASK)
    message = message_of(text, TASK)
    body = redis_body_of(message)

    for read in (message_in(body), Message.decode(body)):
        assert read.asdict() == {**message.asdict(), "options": read.options}
        assert read.options == {"dramaturg": text, "redis_message_id": TASK.message_id}


def test_dramatiq_reads_what_we_write_as_we_do() -> None:
    check_a_round_trip()


@pytest.mark.usefixtures("another_encoder")
def test_the_encoder_of_an_application_is_used_for_steps_too() -> None:
    check_a_round_trip()


def test_a_message_whose_task_is_known_is_the_one_that_its_text_says() -> None:
    text = encode_message(TASK)

    known, read = message_of(text, TASK), message_of(text)

    assert {**known.asdict(), "message_timestamp": 0} == {**read.asdict(), "message_timestamp": 0}


@pytest.mark.parametrize(
    "args", [["\ud800"], [float("nan")], [1 << 80], [{"a": [None, True, 1.5]}], ["ä", "\u0000"]], ids=repr
)
def test_we_read_what_stock_producers_write(args: list[Any]) -> None:
    body = Message("q", "an_actor", args, {"key": args}, {"x": 1}).encode()

    assert repr(message_in(body)) == repr(Message.decode(body))


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"queue_name": "q"', b'{"queue_name":"q","more":1}'])
def test_what_is_no_message_is_refused_as_dramatiq_does(body: bytes) -> None:
    with pytest.raises(DecodeError):
        message_in(body)
