from __future__ import annotations

import inspect
import math
from collections import OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import Field, HttpUrl
from pydantic_core import from_json, to_json

from dramaturg_protocol.payloads import Payload, decode_value, encode_value
from dramaturg_protocol.sameness import same_value
from tests.unit.protocol.payload_types import (
    Aliased,
    Box,
    Circle,
    Colour,
    Deeper,
    Doubling,
    Frozen,
    Item,
    Level,
    Lossy,
    Odd,
    Opaque,
    Options,
    Order,
    Pair,
    Point,
    Right,
    SpecialItem,
    Tags,
    Typed,
    Unit,
)

NONE = inspect.Parameter.empty
WHERE = "argument 'x' of step 's'"
BERLIN = ZoneInfo("Europe/Berlin")
NAN = math.nan


def encoded(value: Any, annotation: Any = NONE, **options: Any) -> Payload:
    return encode_value(value, annotation, where=WHERE, limit=None, **options)


def decoded(payload: str, annotation: Any = NONE) -> Any:
    return decode_value(payload, annotation, where=WHERE)


def assert_survives(value: Any, annotation: Any) -> Payload:
    payload = encoded(value, annotation)
    back = decoded(payload, annotation)
    assert same_value(back, value), f"{value!r} became {back!r} through {payload}"
    assert to_json(from_json(payload)).decode() == payload
    return payload


# No ids by repr: the order of a set differs between the processes of one test run.
VALUES: list[tuple[Any, Any]] = [
    (5, int),
    (-(2**70), int),
    ([10**4350], list[int]),
    ("a\0b \u2028 \ud7ff 😀", str),
    ('"$type"', str),
    ("$type", str),
    (True, bool),
    (1.5, float),
    (-0.0, float),
    (NAN, float),
    (-math.inf, float),
    ([NAN, 1.0], list[float]),
    (NAN, float | None),
    ([NAN, "NaN"], list[float | str]),
    ({NAN: NAN}, dict[float, float]),
    (None, None),
    (b"\xff\0", bytes),
    ([b"\xff"], list[bytes]),
    (b"text", bytes | str),
    ("YWJj", bytes | str),
    (datetime(2026, 1, 2, 3, 4, 5, 6), datetime),  # noqa: DTZ001
    (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))), datetime),
    (datetime(2026, 1, 2, tzinfo=timezone(timedelta(seconds=3601))), datetime),
    (datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1), datetime),
    ([datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN)], list[datetime]),
    ("2026-01-01", datetime | str),
    (date(2026, 1, 2), date),
    (date(2026, 1, 2), date | datetime),
    (time(1, 2, 3, tzinfo=UTC), time),
    (timedelta(days=-3, microseconds=7), timedelta),
    (Decimal("1.50"), Decimal),
    (Decimal("1E+3"), Decimal | float),
    (UUID(int=7), UUID),
    (UUID(int=7), UUID | str),
    (Path("/tmp/x"), Path),
    (HttpUrl("https://example.org/a"), HttpUrl),
    (1j, complex),
    ({1, 2}, set[int]),
    ([1, 2], set[int] | list[int]),
    ({1, 2}, set[int] | list[int]),
    ((1, "a"), tuple[int, str]),
    ((1, 2), list[int] | tuple[int, ...]),
    (frozenset({"a"}), frozenset[str]),
    ({1: "a", "1": "b"}, dict[int | str, str]),
    ({(1, 2): 3}, dict[tuple[int, int], int]),
    ({None: 1}, dict[None, int]),
    ({"$type": 1}, dict[str, int]),
    (OrderedDict(b=1, a=2), OrderedDict[str, int]),
    (defaultdict(list, a=[1]), defaultdict[str, list[int]]),
    (deque([1], maxlen=3), deque[int]),
    ([1, "1", 1.0, True], list[int | str | float | bool]),
    ("a", Literal["a", 1]),
    (1, Literal["a", 1]),
    (4, Annotated[int, Field(gt=3)]),
    ([1], Annotated[list[int], {"unhashable": True}]),
    (Colour.RED, Colour),
    (Level.LOW, Level),
    (Level.LOW, Level | int),
    (Unit.GRAM, Unit),
    (Right.READ | Right.WRITE, Right),
    (Odd.PAIR, Odd),
    (Odd.MOMENT, Odd),
    (Point(1, 2), Point),
    (Point({1}, (2,)), Point),
    (Deeper(1), Point),
    ([Deeper(1), Point(2)], list[Point]),
    (Frozen("a"), Frozen),
    (Pair(1, {2}), Pair),
    (Item(sku="a"), Item),
    (Item(sku="a", price=NAN, blob=b"\xff"), Item),
    (SpecialItem(sku="a", discount=9), Item),
    ([SpecialItem(sku="a")], list[Item]),
    (SpecialItem(sku="a"), Item | SpecialItem | None),
    (Order(items=[SpecialItem(sku="a")], extra={1, (2,)}, parent=Order(items=[])), Order),
    (Aliased.model_validate({"One": 1, "Two": 5, "hidden": 6, "more": 7}), Aliased),
    (Tags({"a": 1}), Tags),
    (Box[int](content=1), Box[int]),
    (Typed(**{"$type": "a"}), Typed),
    (Lossy(when=datetime(2026, 1, 2)), Lossy),  # noqa: DTZ001
    (Doubling(number=2), Doubling),
    (Options(limit=1, note={2}), Options),
    (Circle(2.0), Opaque),
    ([{"a": (1,)}], list[dict[str, Any]]),
    ({"a": {1}}, dict[str, object]),
    ((1, {2}), tuple[int, Any]),
    ([1, {2}], list[Any]),
]

OPEN_VALUES: list[Any] = [
    *[1, 1.5, "x", None, True, [], {}, [1, [2, "a"]], {"a": {"b": []}}, [10**4500], [1, None, 2.0, True]],
    *[(), (1, [2]), set(), {1, "a", (2, 3)}, frozenset({frozenset({1})}), deque([1], maxlen=2), OrderedDict(b=1, a=2)],
    *[
        b"\xff",
        bytearray(b"a"),
        1j,
        complex(-0.0, -math.inf),
        NAN,
        math.inf,
        [NAN, -0.0],
        Decimal("NaN"),
        Decimal("1.0"),
    ],
    *[{1: 2}, {(1, 2): {3}}, {"$type": "set", "items": [1]}, {"": {"$type": None}}, {Level.LOW: 1}, {Unit.GRAM: 1}],
    *[datetime(2026, 1, 2), datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1), date(1, 1, 1), time(1, fold=1)],  # noqa: DTZ001
    *[timedelta.min, timedelta.max, UUID(int=1), Fraction(1, 3), ip_address("::1"), ip_address("1.2.3.4"), Path("/x")],
    *[Colour.RED, Level.HIGH, Unit.GRAM, Right.READ, Right.READ | Right.WRITE, Right(0), Odd.MOMENT],
    *[
        Point(1, {2}),
        Deeper((1,)),
        Frozen("a"),
        Pair({1}),
        Item(sku="a", price=NAN),
        SpecialItem(sku="b"),
        Tags({"a": 1}),
    ],
    *[
        Order(items=[SpecialItem(sku="a")], extra={Colour.RED: Point(1)}),
        Aliased.model_validate({"One": 1, "hidden": 2, "more": {3}}),
    ],
    *[Typed(**{"$type": "a"}), Lossy(when=datetime(2026, 1, 2)), Doubling(number=3), Box(content=(1,))],  # noqa: DTZ001
]


@pytest.mark.parametrize(("value", "annotation"), VALUES)
def test_a_value_comes_back_by_its_annotation_as_it_was(value: Any, annotation: Any) -> None:
    assert_survives(value, annotation)


@pytest.mark.parametrize("value", OPEN_VALUES)
@pytest.mark.parametrize("annotation", [NONE, Any, object], ids=["none", "Any", "object"])
def test_a_value_comes_back_without_annotation_as_it_was(value: Any, annotation: Any) -> None:
    assert_survives(value, annotation)


@pytest.mark.parametrize("value", [[1, (2,)], {1: 2}, {"a": {1}}, (1, [2]), {1, "a"}, frozenset({(1,)})])
def test_a_bare_container_comes_back_as_it_was(value: Any) -> None:
    assert_survives(value, type(value))


@pytest.mark.parametrize("annotation", [int, int | None, NONE, Any])
def test_a_number_of_more_digits_than_parsers_take_comes_back(annotation: Any) -> None:
    assert_survives(-(10**4500), annotation)


def test_the_classes_of_plain_models_stay_out_of_their_text() -> None:
    assert encoded(Item(sku="a"), Item) == '{"sku":"a","price":1.0,"blob":""}'


def test_plain_json_stands_as_it_is_without_annotation() -> None:
    assert encoded({"a": [1, "x", None, 1.5]}) == '{"a":[1,"x",null,1.5]}'


@pytest.mark.parametrize(
    ("given", "annotation", "text"),
    [
        ("5", int, "5"),
        (5, float, "5.0"),
        ({"sku": "a", "price": "2"}, Item, '{"sku":"a","price":2.0,"blob":""}'),
        ((1, 2), list[int], "[1,2]"),
        ((1, 2), list, "[1,2]"),
        (Unit.GRAM, str, '"g"'),
        ("red", Colour, '"red"'),
        ("abcd", bytes, '"YWJjZA=="'),
    ],
)
def test_a_value_is_converted_by_its_annotation(given: Any, annotation: Any, text: str) -> None:
    assert encoded(given, annotation) == text


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ('"5"', int, 5),
        ("[1,2]", tuple, (1, 2)),
        ("[1,2]", set, {1, 2}),
        ("[1,2]", set[Any], {1, 2}),
        ('{"1":"2026-01-02"}', dict[int, date], {1: date(2026, 1, 2)}),
        ('"YWJj"', bytes, b"abc"),
        ("[1.5]", list[Decimal], [Decimal("1.5")]),
        ('{"$type":"a"}', Typed, Typed(**{"$type": "a"})),
        ('"2026-01-02T00:00:00Z"', datetime, datetime(2026, 1, 2, tzinfo=UTC)),
        ('{"a":[1]}', NONE, {"a": [1]}),
        (" [ 1 ] ", NONE, [1]),
    ],
)
def test_plain_json_from_elsewhere_is_converted_by_the_annotation(text: str, annotation: Any, value: Any) -> None:
    assert same_value(decoded(text, annotation), value)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (datetime(2026, 1, 2, tzinfo=UTC), datetime),
        ({1, 2}, set[int]),
        (Item(sku="a"), Item),
        ([SpecialItem(sku="a")], list[Item]),
        ({1: (2,)}, dict[int, tuple[int, ...]]),
        (b"a", bytes),
        (Pair(1), Pair),
    ],
)
def test_a_typed_receiver_reads_what_a_sender_without_annotations_wrote(value: Any, annotation: Any) -> None:
    assert same_value(decoded(encoded(value), annotation), value)


def test_a_field_that_was_added_since_takes_its_default() -> None:
    text = '{"$type":"dataclass","class":"tests.unit.protocol.payload_types:Deeper","fields":{"x":1}}'

    assert decoded(text) == Deeper(1)


def test_the_text_of_a_set_does_not_depend_on_its_order() -> None:
    names = [f"name-{n}" for n in range(50)]

    assert encoded(set(names)) == encoded({*names[::-1]})
    assert [*from_json(encoded(set(names)))["items"]] == sorted(names)
