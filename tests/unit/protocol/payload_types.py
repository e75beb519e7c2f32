"""Classes of the kinds that users pass to steps: at the top of a module, where a payload can find them again."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

import typing_extensions
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr, field_serializer, field_validator

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Unit(StrEnum):
    GRAM = "g"


class Right(Flag):
    READ = 1
    WRITE = 2


class Odd(Enum):
    PAIR = (1, 2)
    MOMENT = datetime(2026, 1, 1)  # noqa: DTZ001


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    counted: int = dataclasses.field(init=False, default=7)


@dataclasses.dataclass
class Deeper(Point):
    z: int = 3


class Pair(NamedTuple):
    left: Any
    right: Any = None


class Item(BaseModel):
    sku: str
    price: float = 1.0
    blob: bytes = b""


class SpecialItem(Item):
    discount: int = 5


class Order(BaseModel):
    items: list[Item]
    extra: Any = None
    parent: Order | None = None


class Aliased(BaseModel):
    model_config = ConfigDict(extra="allow")
    one: int = Field(alias="One")
    two: int = Field(2, validation_alias="Two")
    hidden: int = Field(3, exclude=True)


class Tags(RootModel[dict[str, int]]):
    pass


class Box(BaseModel, Generic[T]):
    content: T


class Account(BaseModel):
    password: SecretStr


class Typed(BaseModel):
    kind: str = Field(alias="$type")


class Lossy(BaseModel):
    when: datetime

    @field_serializer("when")
    def short(self, when: datetime) -> str:
        return f"{when:%d %b}"


class Doubling(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def double(cls, number: int) -> int:
        return number * 2


class Broken(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def fail(cls, number: int) -> int:
        raise KeyError("boom")


class Options(typing_extensions.TypedDict, total=False):
    limit: typing_extensions.Required[int]
    note: Any


class Opaque:
    """A class that nothing knows how to encode."""


@dataclasses.dataclass
class Circle(Opaque):
    radius: float
