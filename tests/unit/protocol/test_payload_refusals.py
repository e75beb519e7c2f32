"""What payloads refuse, and how they say so."""

from __future__ import annotations

import inspect
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field, SecretBytes, SecretStr

from dramaturg_protocol.errors import PayloadError
from dramaturg_protocol.payloads import Payload, decode_value, encode_value
from tests.unit.protocol.payload_types import Account, Box, Broken, Item, Opaque, Order, Point

NONE = inspect.Parameter.empty
WHERE = "argument 'x' of step 's'"


def encoded(value: Any, annotation: Any = NONE, **options: Any) -> Payload:
    return encode_value(value, annotation, where=WHERE, limit=None, **options)


def decoded(payload: str, annotation: Any = NONE) -> Any:
    return decode_value(payload, annotation, where=WHERE)


@pytest.mark.parametrize(
    ("value", "annotation", "says"),
    [
        ("x", int, "valid integer"),
        ([1, "x"], list[int], r"\[1\]: .*got str"),
        (5, None, "None, got int"),
        (2, Annotated[int, Field(gt=3)], "greater than 3"),
        ({"number": 1}, Broken, "KeyError: 'boom'"),
        (Opaque(), Opaque, "Opaque cannot be encoded"),
        (Box[int](content=1), NONE, "annotate"),
        (Decimal("NaN"), Decimal, "finite"),
        (1, "NoSuchClass", "cannot be resolved"),
        ("\ud800", str, "not valid Unicode"),
        (["\ud800"], list[str], "not valid Unicode"),
        ({"\ud800": 1}, NONE, "not valid Unicode"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(value: Any, annotation: Any, says: str) -> None:
    with pytest.raises(PayloadError, match=says) as refused:
        encoded(value, annotation)

    assert str(refused.value).startswith(WHERE)


class Text(str):
    __slots__ = ()


class Number(float):
    pass


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (lambda: 1, ": a function"),
        ({"rows": [1, 2, 3, iter([])]}, "['rows'][3]: a list_iterator"),
        (Point(1, [object()]), ".y[0]: an object"),
        ({(1, 2): object()}, "[(1, 2)]: an object"),
        (Item.model_construct(sku=object()), ".sku: an object"),
        ([Text("x")], "[0]: a tests.unit.protocol.test_payload_refusals.Text"),
        (Number(1), ": a tests.unit.protocol.test_payload_refusals.Number"),
        ((n for n in "a"), ": a generator"),
        (int, ": a type"),
        (ValueError("x"), ": a ValueError"),
    ],
)
def test_what_cannot_be_encoded_is_named_with_the_path_to_it(value: Any, path: str) -> None:
    with pytest.raises(PayloadError) as refused:
        encoded(value)

    assert str(refused.value).startswith(WHERE + path)


def test_a_class_inside_a_function_is_refused_where_its_name_would_be_needed() -> None:
    local = type("local", (Point,), {})

    with pytest.raises(PayloadError, match="top of a module"):
        encoded(local(1))


def test_a_value_inside_itself_is_refused() -> None:
    inner: list[Any] = []
    inner.append({"again": inner})

    with pytest.raises(PayloadError, match="inside itself"):
        encoded(inner)


def test_what_is_nested_too_deep_is_refused_typed_or_not() -> None:
    order = Order(items=[])
    for _ in range(200):
        order = Order(items=[], parent=order)

    for annotation in (Order, NONE):
        with pytest.raises(PayloadError, match="nested"):
            encoded(order, annotation)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (SecretStr("hush"), SecretStr),
        (SecretStr("hush"), NONE),
        (SecretBytes(b"hush"), SecretBytes),
        ({"a": [SecretStr("hush")]}, dict[str, list[SecretStr]]),
        (Account(password=SecretStr("hush")), Account),
        (Account(password=SecretStr("hush")), NONE),
        ([Account(password=SecretStr("hush"))], list[Account | None]),
    ],
)
def test_a_secret_needs_an_encrypting_codec(value: Any, annotation: Any) -> None:
    with pytest.raises(PayloadError, match="CODEC") as refused:
        encoded(value, annotation)

    assert "hush" not in str(refused.value)
    assert decoded(encoded(value, annotation, secrets=True), annotation) == value


def test_the_limit_counts_bytes_and_names_the_setting() -> None:
    assert encode_value("é" * 10, str, where=WHERE, limit=22)

    with pytest.raises(PayloadError, match=r"22 bytes .* limit of 21: .* DRAMATURG_MAX_PAYLOAD"):
        encode_value("é" * 10, str, where=WHERE, limit=21)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"$type":"no such tag"}',
        '{"$type":["list"]}',
        '{"$type":"set"}',
        '{"$type":"set","items":[[1]]}',
        '{"$type":"bytes","value":"?"}',
        '{"$type":"decimal","value":"x"}',
        '{"$type":"datetime","value":"2026-01-01","zone":"No/Where"}',
        '{"$type":"enum","class":"tests.unit.protocol.payload_types:Colour","name":"GREEN"}',
        '{"$type":"enum","class":"os:system","name":"x"}',
        '{"$type":"enum","class":"no.such.module:X","name":"x"}',
        '{"$type":"enum","class":"tests.unit.protocol.payload_types:Point","name":"x"}',
        '{"$type":"dataclass","class":"builtins:int","fields":{}}',
        '{"$type":"dataclass","class":"tests.unit.protocol.payload_types:Point","fields":{}}',
        '{"$type":"dataclass","class":"tests.unit.protocol.payload_types:Point","fields":{"x":1,"w":2}}',
        '{"$type":"model","class":"tests.unit.protocol.payload_types:Item","fields":{}}',
        '{"$type":"model","class":"tests.unit.protocol.payload_types:Item","fields":{"sku":1},"extra":{"a":1}}',
        '{"$type":"namedtuple","class":"builtins:tuple","items":[]}',
        '{"$type":"namedtuple","class":5,"items":[]}',
    ],
)
def test_a_malformed_payload_is_refused_by_name(text: str) -> None:
    with pytest.raises(PayloadError) as refused:
        decoded(text)

    assert str(refused.value).startswith(WHERE)
