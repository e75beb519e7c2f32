"""A graph of steps as data: the JSON that a service without our code can send.

Arguments are plain JSON, in which ``{"$node": "load"}`` stands for the result of node ``load``, and
``{"$node": "load", "path": ["rows", 0]}`` for a part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from dramaturg_protocol.errors import GraphError
from dramaturg_protocol.graph_conditions import Condition, Path, nodes_in

#: The workflow that runs a graph is called by this and the graph's name.
GRAPH_PREFIX: Final = "graph:"
#: The key that makes an object of the arguments stand for a node's result.
NODE_KEY: Final = "$node"

OnUpstreamFailure: TypeAlias = Literal["fail", "skip", "run"]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeForm(_Form):
    """One node: exactly one of `step`, `workflow` and `graph` says what it does."""

    name: str = Field(min_length=1, max_length=255, description="Under which its result is found; unique in the graph.")
    step: str | None = Field(default=None, description="Name of a step that some worker knows.")
    workflow: str | None = Field(default=None, description="Name of a workflow, run as a child of the graph's run.")
    graph: GraphForm | None = Field(default=None, description="A graph inside this one; its result is the node's.")
    args: tuple[Any, ...] = Field(
        default=(), description='Arguments by position. {"$node": NAME} is the result of a node.'
    )
    kwargs: dict[str, Any] = Field(default_factory=dict[str, Any], description="Arguments by name.")
    map: Any = Field(
        default=None,
        description='A list, or {"$node": NAME} of a node that gives one: the step runs once for each item, which is '
        "its first argument; the result is a list.",
    )
    concurrency: int | None = Field(default=None, ge=1, description="With `map`: at most so many at once.")
    on_error: Literal["raise", "collect"] = Field(
        default="raise",
        description="With `map`: `collect` puts an object with the error in the place of an item that failed.",
    )
    after: tuple[str, ...] = Field(default=(), description="Names of nodes that it waits for without their results.")
    on_upstream_failure: OnUpstreamFailure = Field(
        default="fail",
        description="What becomes of this node when one that it needs failed: `fail` fails the graph, `skip` leaves "
        "the node out, `run` runs it with null in the place of the result.",
    )
    when: Condition | None = Field(default=None, description="The node is skipped where this does not hold.")
    options: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="Options of the step for this call, like queue, retries, timeout."
    )

    compensate: str | None = Field(
        default=None, description="Name of a step that undoes this one if the run does not end well."
    )

    @property
    def upstream(self) -> tuple[str, ...]:
        """The nodes that it waits for, each once."""
        names = [name for name, _ in references_in([*self.args, self.kwargs, self.map])]
        names += nodes_in(self.when) if self.when is not None else ()
        return tuple(dict.fromkeys([*names, *self.after]))


class GraphForm(_Form):
    """A graph of steps."""

    name: str = Field(default="", max_length=200, description="For people.")
    nodes: tuple[NodeForm, ...] = Field(description="In the order in which they are asked for where they can be.")

    @property
    def text(self) -> str:
        """As JSON, without what is left at its default."""
        return self.model_dump_json(exclude_defaults=True, by_alias=True)


NodeForm.model_rebuild()


def reference_of(part: object) -> tuple[str, Path] | None:
    """The node, and the way to a part of its result, that an object of the arguments stands for.

    Raises:
      GraphError: it has the key and is no reference.
    """
    if not isinstance(part, Mapping) or NODE_KEY not in part:
        return None
    found = cast("Mapping[str, Any]", part)
    name, given = found[NODE_KEY], found.get("path", ())
    is_path = isinstance(given, (list, tuple))
    path: list[Any] = list(given) if is_path else []
    is_path = is_path and all(type(each) in (str, int) for each in path)
    if not isinstance(name, str) or not is_path or found.keys() - {NODE_KEY, "path"}:
        raise GraphError(
            f'a reference to a node is {{"{NODE_KEY}": a name, "path": a list of keys and indexes}}, not {dict(found)!r}'
        )
    return name, tuple(path)


def references_in(part: object) -> Iterator[tuple[str, Path]]:
    """All nodes that arguments refer to, in order."""
    found = reference_of(part)
    if found is not None:
        yield found
    elif isinstance(part, Mapping):
        for each in cast("Mapping[str, Any]", part).values():
            yield from references_in(each)
    elif isinstance(part, (list, tuple)):
        for each in cast("list[Any]", part):
            yield from references_in(each)


def read_graph(document: object) -> GraphForm:
    """Read a graph from JSON, as text or parsed; what its nodes say of each other is not looked at here.

    Raises:
      GraphError: it is none; the message says what is wrong where.
    """
    if isinstance(document, GraphForm):
        return document
    try:
        if isinstance(document, (str, bytes)):
            document = from_json(document)
        return GraphForm.model_validate(document)
    except ValidationError as error:
        raise GraphError(f"this is no graph: {_told(error)}") from None
    except ValueError as error:
        raise GraphError(f"this is no graph: not JSON: {error}") from None


def _told(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in error.errors(include_url=False)[:3]
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a graph."""
    schema = GraphForm.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A graph of Dramaturg", **schema}
