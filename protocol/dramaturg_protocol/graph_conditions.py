"""When a node of a graph is done: a small declared form, read from JSON, with nothing to evaluate but comparisons."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from dramaturg_protocol.errors import GraphError

Path: TypeAlias = tuple[str | int, ...]
#: Gives the result of a node, or of a part of it.
Look: TypeAlias = Callable[[str, Path], Any]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class Compare(_Form):
    """Compares the result of a node, or a part of it, with a value."""

    node: str = Field(description="Name of the node whose result is looked at.")
    path: Path = Field(default=(), description="The way to a part of it: keys of objects, indexes of lists.")
    op: Literal["true", "==", "!=", ">", ">=", "<", "<=", "in"] = Field(
        default="true", description="`true`: the result is neither null, false, 0 nor empty. `in`: it is in the value."
    )
    value: Any = Field(default=None, description="What it is compared with.")


class AllOf(_Form):
    """Every one of these holds."""

    all: tuple[Condition, ...] = Field(min_length=1)


class AnyOf(_Form):
    """At least one of these holds."""

    any: tuple[Condition, ...] = Field(min_length=1)


class Not(_Form):
    """This does not hold."""

    negated: Condition = Field(alias="not")


Condition: TypeAlias = Annotated[Compare | AllOf | AnyOf | Not, Field(union_mode="left_to_right")]

AllOf.model_rebuild()
AnyOf.model_rebuild()
Not.model_rebuild()

_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def nodes_in(condition: Condition) -> Iterator[str]:
    """The nodes that a condition looks at."""
    match condition:
        case Compare():
            yield condition.node
        case Not():
            yield from nodes_in(condition.negated)
        case AllOf() | AnyOf():
            for part in condition.all if isinstance(condition, AllOf) else condition.any:
                yield from nodes_in(part)


def holds(condition: Condition, look: Look) -> bool:
    """Whether a condition holds.

    Raises:
      GraphError: the result of a node has no such part, or cannot be compared with the value.
    """
    match condition:
        case AllOf():
            return all(holds(part, look) for part in condition.all)
        case AnyOf():
            return any(holds(part, look) for part in condition.any)
        case Not():
            return not holds(condition.negated, look)
        case Compare():
            return _compares(condition, look(condition.node, condition.path))


def _compares(condition: Compare, found: Any) -> bool:
    value = condition.value
    if condition.op == "true":
        return bool(found)
    if condition.op in ("==", "!="):
        return bool(found == value) is (condition.op == "==")
    try:
        return bool(
            found in value if condition.op == "in" else found is not None and _ORDERS[condition.op](found, value)
        )
    except TypeError:
        raise GraphError(
            f"{describe(condition)}: a {type(found).__name__} cannot be compared so with a {type(value).__name__}"
        ) from None


def describe(condition: Condition) -> str:
    """One line that a person reads."""
    match condition:
        case AllOf():
            return " and ".join(_inner(part) for part in condition.all)
        case AnyOf():
            return " or ".join(_inner(part) for part in condition.any)
        case Not():
            return f"not {_inner(condition.negated)}"
        case Compare():
            place = condition.node + "".join(f"[{part!r}]" for part in condition.path)
            return place if condition.op == "true" else f"{place} {condition.op} {condition.value!r}"


def _inner(condition: Condition) -> str:
    text = describe(condition)
    return f"({text})" if isinstance(condition, AllOf | AnyOf) else text
