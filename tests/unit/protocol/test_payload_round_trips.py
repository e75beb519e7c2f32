"""Whatever can be built out of the types that payloads know comes back as it was."""

from __future__ import annotations

import inspect
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from dramaturg_protocol.payloads import decode_value, encode_value
from dramaturg_protocol.sameness import same_value
from tests.unit.protocol.payload_types import Colour, Item, Level, Order, Pair, Point, SpecialItem, Unit

text = st.text(st.characters(codec="utf-8")) | st.just("$type")
scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    text,
    st.binary(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.complex_numbers(),
    st.sampled_from([*Colour, *Level, *Unit]),
)
hashables: st.SearchStrategy[Any] = st.recursive(
    # NaN is never equal to itself, and 1 is equal to True: no elements that a set could tell apart
    st.one_of(st.none(), st.integers(2), text, st.binary(), st.dates(), st.uuids(), st.sampled_from([*Colour])),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
items = st.builds(Item, sku=text, price=st.floats(), blob=st.binary())
special_items = st.builds(SpecialItem, sku=text, discount=st.integers())
values: st.SearchStrategy[Any] = st.recursive(
    scalars | items,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(text, inner, max_size=4),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(Order, items=st.lists(items | special_items, max_size=2), extra=inner),
    ),
    max_leaves=8,
)


def assert_survives(value: Any, annotation: Any) -> None:
    payload = encode_value(value, annotation, where="the value", limit=None)

    assert same_value(decode_value(payload, annotation, where="the value"), value)
    assert to_json(from_json(payload)).decode() == payload
    nested = to_json({"event": [from_json(payload)]}).decode()
    assert to_json(from_json(nested)["event"][0]).decode() == payload


@given(values)
def test_any_value_survives_without_annotation(value: Any) -> None:
    assert_survives(value, inspect.Parameter.empty)


@given(st.dictionaries(text, values, max_size=3))
def test_any_dict_survives_as_a_partly_open_one(value: dict[str, Any]) -> None:
    assert_survives(value, dict[str, Any])


@given(st.lists(items | special_items, max_size=3))
def test_models_and_their_subclasses_survive(value: list[Item]) -> None:
    assert_survives(value, list[Item])


@given(st.builds(Order, items=st.lists(items | special_items, max_size=2), extra=values))
def test_models_with_open_fields_survive(value: Order) -> None:
    assert_survives(value, Order)


TYPED: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    float: st.floats(),
    str: text,
    bytes: st.binary(),
    datetime: st.datetimes(timezones=st.none() | st.timezones()),
    date: st.dates(),
    time: st.times(),
    timedelta: st.timedeltas(),
    UUID: st.uuids(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    list[int]: st.lists(st.integers()),
    list[float]: st.lists(st.floats()),
    set[str]: st.sets(text),
    frozenset[bytes]: st.frozensets(st.binary()),
    dict[str, int]: st.dictionaries(text, st.integers()),
    dict[int, str]: st.dictionaries(st.integers(), text),
    dict[UUID, timedelta]: st.dictionaries(st.uuids(), st.timedeltas()),
    tuple[int, str, bytes]: st.tuples(st.integers(), text, st.binary()),
    tuple[Decimal, ...]: st.lists(st.decimals(allow_nan=False, allow_infinity=False)).map(tuple),
    int | str | None: st.integers() | text | st.none(),
    float | None: st.floats() | st.none(),
    bytes | str: st.binary() | text,
    float | str | int: st.floats() | text | st.integers(),
    datetime | date | str: st.datetimes() | st.dates() | text,
    Colour: st.sampled_from(Colour),
    Level: st.sampled_from(Level),
    list[Colour | str]: st.lists(st.sampled_from(Colour) | text),
}


@given(st.data())
def test_values_survive_by_every_kind_of_annotation(data: st.DataObject) -> None:
    annotation = data.draw(st.sampled_from(list(TYPED)))

    assert_survives(data.draw(TYPED[annotation]), annotation)
