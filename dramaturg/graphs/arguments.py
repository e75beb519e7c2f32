"""Arguments of nodes as JSON: written with references to results, and filled in when the results are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pydantic_core import from_json, to_json

from dramaturg.graphs.references import Reference
from dramaturg_protocol.errors import GraphError
from dramaturg_protocol.graph_conditions import Path
from dramaturg_protocol.graph_form import NODE_KEY, reference_of
from dramaturg_protocol.payloads import Payload, check_size
from dramaturg_protocol.signatures import CallSchema
from dramaturg_protocol.tags import tagged_text

if TYPE_CHECKING:
    from dramaturg.graphs.authoring import Graph

#: Gives what a reference stands for, as JSON that is parsed.
Plain: TypeAlias = Callable[[str, Path], Any]


class Writer:
    """Writes arguments for the nodes of one graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def argument(self, value: Any, schema: CallSchema, at: int | str) -> Any:
        """One argument: by its parameter's annotation, if no node stands in it.

        Raises:
          PayloadError: it does not fit its annotation or cannot be encoded.
          GraphError: a node of another graph.
        """
        if self._has_reference(value):
            return self.value(value, f"argument {at!r} of {schema.what}")
        plain = from_json(schema.encode_argument(at, value))
        _refuse_node_key(plain, f"argument {at!r} of {schema.what}")
        return plain

    def value(self, value: Any, where: str) -> Any:
        """A value with nodes in it, through lists, tuples and dicts."""
        if isinstance(value, Reference):
            if value.graph is not self._graph:
                raise GraphError(f"{where}: {value!r} is of {value.graph!r}, not of {self._graph!r}")
            path = {"path": list(value.path)} if value.path else {}
            return {NODE_KEY: value.node, **path}
        if self._has_reference(value):
            if isinstance(value, Mapping):
                items = cast("Mapping[str, Any]", value)
                return {str(key): self.value(item, where) for key, item in items.items()}
            return [self.value(item, where) for item in cast("Sequence[Any]", value)]
        plain = from_json(tagged_text(value, where))
        _refuse_node_key(plain, where)
        return plain

    def _has_reference(self, value: Any) -> bool:
        if isinstance(value, Reference):
            return True
        if isinstance(value, Mapping):
            fields = cast("Mapping[str, Any]", value)
            return any(map(self._has_reference, fields.values()))
        if not isinstance(value, (list, tuple)):
            return False
        items = cast("Sequence[Any]", value)
        return any(map(self._has_reference, items))


def _refuse_node_key(plain: Any, where: str) -> None:
    if isinstance(plain, dict):
        found = cast("Mapping[str, Any]", plain)
        if NODE_KEY in found:
            raise GraphError(f"{where}: the key {NODE_KEY!r} stands for a node in a graph; call it otherwise")
        for item in found.values():
            _refuse_node_key(item, where)
    elif isinstance(plain, list):
        items = cast("Sequence[Any]", plain)
        for item in items:
            _refuse_node_key(item, where)


def filled(part: Any, plain: Plain) -> Any:
    """Arguments with what its references stand for in their places."""
    found = reference_of(part)
    if found is not None:
        return plain(*found)
    if isinstance(part, Mapping):
        fields = cast("Mapping[str, Any]", part)
        return {key: filled(item, plain) for key, item in fields.items()}
    if isinstance(part, (list, tuple)):
        items = cast("Sequence[Any]", part)
        return [filled(item, plain) for item in items]
    return part


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of a step, as a payload and as values; the latter are plain JSON where its code is not known here."""

    payload: Payload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def call_of(args: list[Any], kwargs: dict[str, Any], schema: CallSchema, *, is_known: bool, limit: int) -> Call:
    """A call; checked and spelled as other calls are where the step is known here.

    Raises:
      TypeError: the step does not take these arguments.
      PayloadError: one does not fit, or all are too large together.
    """
    text = to_json({"args": args, "kwargs": kwargs} if kwargs else {"args": args}).decode()
    if is_known:
        positions, named = schema.decode_call(text)
        return Call(schema.encode_call(positions, named, limit=limit), positions, named)
    check_size(text, f"the arguments of {schema.what}", limit)
    return Call(Payload(text), tuple(args), kwargs)


def part_of(value: Any, path: Path, where: str) -> Any:
    """A part of a value.

    Raises:
      GraphError: there is none.
    """
    for key in path:
        is_field = isinstance(key, str) and not _is_mapping(value) and not key.startswith("_")
        try:
            value = getattr(value, str(key)) if is_field else value[key]
        except (AttributeError, LookupError, TypeError):
            raise GraphError(f"{where} has no {key!r}: it is {_shown(value)}") from None
    return value


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:79] + '…'}"
