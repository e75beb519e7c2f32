"""What it costs to encode and decode arguments and results: ``python -m benchmarks.payloads``."""

from __future__ import annotations

import dataclasses
import inspect
import timeit
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from dramaturg_protocol.payloads import decode_value, encode_value
from dramaturg_protocol.signatures import CallSchema

LIMIT = 4 * 2**20
NONE = inspect.Parameter.empty


class Item(BaseModel):
    sku: str
    price: float


class Order(BaseModel):
    number: int
    placed: datetime
    items: list[Item]


@dataclasses.dataclass
class Point:
    x: int
    y: int


def charge(order_id: str, cents: int) -> str:
    raise NotImplementedError


ORDER = Order(number=1, placed=datetime(2026, 1, 2, tzinfo=UTC), items=[Item(sku="a", price=1.5)] * 3)
RECORD = {"name": "x", "number": 1, "parts": [1, 2, 3]}

VALUES: list[tuple[str, Any, Any]] = [
    ("int", 5, int),
    ("str", "order-1", str),
    ("bool", True, bool),
    ("float", 1.5, float),
    ("None", None, None),
    ("int | None", 5, int | None),
    ("UUID", UUID(int=7), UUID),
    ("datetime", ORDER.placed, datetime),
    ("list[int], 100", list(range(100)), list[int]),
    ("dict[str, int], 3", {"a": 1, "b": 2, "c": 3}, dict[str, int]),
    ("dict[str, Any], 3", RECORD, dict[str, Any]),
    ("dataclass, 2 fields", Point(1, 2), Point),
    ("model, 2 fields", ORDER.items[0], Item),
    ("model, 3 in a list", ORDER, Order),
    ("open int", 5, NONE),
    ("open dict, 3", RECORD, NONE),
    ("open set, 3", {1, 2, 3}, NONE),
    ("open model", ORDER, NONE),
    ("open list, 1000", list(range(1000)), NONE),
]


def microseconds(work: Callable[[], object]) -> float:
    """The best of five rounds, in microseconds a call."""
    timer = timeit.Timer(work)
    number, _ = timer.autorange()
    return min(timer.repeat(4, number // 4 + 1)) / (number // 4 + 1) * 1e6


def show(label: str, encode: Callable[[], str], decode: Callable[[str], object]) -> None:
    payload = encode()
    print(f"{label:24} {microseconds(encode):8.2f} {microseconds(lambda: decode(payload)):8.2f} {len(payload):8}")


def show_value(label: str, value: Any, annotation: Any) -> None:
    show(
        label,
        lambda: encode_value(value, annotation, where="it", limit=LIMIT),
        lambda payload: decode_value(payload, annotation, where="it"),
    )


def main() -> None:
    print(f"{'':24} {'encode':>8} {'decode':>8} {'bytes':>8}   (µs)")
    for label, value, annotation in VALUES:
        show_value(label, value, annotation)
    schema, unknown = CallSchema.of(charge, "step 'charge'"), CallSchema.open("step 'charge'")
    show("call, 2 by position", lambda: schema.encode_call(("o-1", 100), {}, limit=LIMIT), schema.decode_call)
    show("call, 1 by keyword", lambda: schema.encode_call(("o-1",), {"cents": 100}, limit=LIMIT), schema.decode_call)
    show("call, open", lambda: unknown.encode_call(("o-1", 100), {}, limit=LIMIT), unknown.decode_call)
    show("result, str", lambda: schema.encode_result("paid", limit=LIMIT), schema.decode_result)
    show("digest", lambda: schema.encode_call(("o-1", 100), {}, limit=LIMIT), schema.digest_call)


if __name__ == "__main__":
    main()
