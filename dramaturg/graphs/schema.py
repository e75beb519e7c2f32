"""How a graph and its results lie in a history: the graph itself is the argument, as plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic_core import from_json, to_json

from dramaturg_protocol.errors import GraphError
from dramaturg_protocol.graph_form import GraphForm, read_graph
from dramaturg_protocol.graph_rules import check_graph
from dramaturg_protocol.payloads import Payload, check_size
from dramaturg_protocol.sealing import digest_of
from dramaturg_protocol.signatures import CallSchema


class ResultsSchema(CallSchema):
    """Of a workflow that gives what its nodes gave, encoded already."""

    __slots__ = ()

    def __init__(self, fn: Callable[..., Any] | None, what: str) -> None:
        super().__init__(fn, what)

    def encode_result(self, value: Any, *, limit: int | None, secrets: bool | None = None) -> Payload:
        """The results of all nodes; each is in the tagged form."""
        text = to_json(value).decode()
        check_size(text, f"the result of {self.what}", limit)
        return Payload(text)


class GraphSchema(ResultsSchema):
    """Of the workflow that runs any graph.

    Parameters:
      graph: the only one that may be passed, and need not; ``None`` for whatever is given.
    """

    __slots__ = ("_graph",)

    def __init__(self, what: str, graph: GraphForm | None = None) -> None:
        super().__init__(None, what)
        self._graph = graph

    def encode_call(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, limit: int | None, secrets: bool | None = None
    ) -> Payload:
        """The graph as the only argument.

        Raises:
          TypeError: there are other arguments.
          GraphError: it is no graph, or not sound.
        """
        text = f'{{"args":[{self._given(args, kwargs).text}]}}'
        check_size(text, f"the arguments of {self.what}", limit)
        return Payload(text)

    def decode_call(self, payload: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The graph, checked."""
        try:
            call: Any = from_json(payload)
        except ValueError as error:
            raise GraphError(f"the arguments of {self.what} are not JSON: {error}") from error
        parts = cast("dict[str, Any]", call) if isinstance(call, dict) else {}
        return (self._read(tuple(parts.get("args", ())), parts.get("kwargs", {})),), {}

    def same_call(self, recorded: str, actual: str) -> bool:
        """Whether it is the same graph."""
        return self.digest_call(recorded) == self.digest_call(actual)

    def digest_call(self, payload: str) -> str:
        """A hash of the graph."""
        form: GraphForm = self.decode_call(payload)[0][0]
        return digest_of(form.text)

    def _given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> GraphForm:
        if self._graph is None:
            return self._read(args, kwargs)
        if args or kwargs:
            raise TypeError(f"{self.what}: a graph takes no arguments; its steps have theirs")
        return self._graph

    def _read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> GraphForm:
        if len(args) + len(kwargs) == 1 and (args or "graph" in kwargs):
            document = args[0] if args else kwargs["graph"]
        elif not args and "nodes" in kwargs:
            document = dict(kwargs)
        else:
            raise TypeError(f"{self.what} takes one argument, the graph as JSON")
        form = read_graph(document)
        check_graph(form)
        return form
