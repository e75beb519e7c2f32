"""What stands for the result of a node, before there is one: as an argument, and in conditions."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from pydantic_core import from_json

from dramaturg_protocol.errors import GraphError
from dramaturg_protocol.graph_conditions import AllOf, AnyOf, Compare, Condition, Not, Path, describe
from dramaturg_protocol.tags import tagged_text

if TYPE_CHECKING:
    from dramaturg.graphs.authoring import Graph

R_co = TypeVar("R_co", covariant=True)


class When:
    """A condition over the results of nodes, for ``when=``; combined with ``&``, ``|`` and ``~``."""

    def __init__(self, graph: Graph, form: Condition) -> None:
        self.graph = graph
        self.form = form

    def __and__(self, other: object) -> When:
        return When(self.graph, AllOf(all=(self.form, condition_of(other, self.graph))))

    def __or__(self, other: object) -> When:
        return When(self.graph, AnyOf(any=(self.form, condition_of(other, self.graph))))

    def __invert__(self) -> When:
        return When(self.graph, Not.model_validate({"not": self.form}))

    def __bool__(self) -> NoReturn:
        raise TypeError("a condition of a graph has no truth yet: combine conditions with &, | and ~")

    def __repr__(self) -> str:
        return f"<when {describe(self.form)}>"


class Reference(Generic[R_co]):
    """Stands for the result of a node, or for a part of it: give it to another node as an argument.

    Compare it with a value for ``when=``: ``>``, ``>=``, ``<`` and ``<=`` work as they are, and there are `equals`,
    `differs` and `is_in`. By itself it is the condition that the result is neither empty nor ``None``, ``False`` or 0.
    """

    def __init__(self, graph: Graph, node: str, path: Path = ()) -> None:
        self.graph = graph
        self.node = node
        self.path = path

    def __getitem__(self, key: str | int) -> Reference[Any]:
        """A part of the result: the value of a key or a field, or the item at an index."""
        if type(key) not in (str, int):
            raise TypeError(f"a part of a result is named by a key or an index, not {key!r}")
        return Reference(self.graph, self.node, (*self.path, key))

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self!r} is no list yet: run a step over its items with Graph.map")

    def equals(self, value: object) -> When:
        """The condition that it equals a value."""
        return self._compare("==", value)

    def differs(self, value: object) -> When:
        """The condition that it does not equal a value."""
        return self._compare("!=", value)

    def is_in(self, values: Collection[object]) -> When:
        """The condition that it is one of these."""
        return self._compare("in", list(values))

    def __gt__(self, value: object) -> When:
        return self._compare(">", value)

    def __ge__(self, value: object) -> When:
        return self._compare(">=", value)

    def __lt__(self, value: object) -> When:
        return self._compare("<", value)

    def __le__(self, value: object) -> When:
        return self._compare("<=", value)

    def __and__(self, other: object) -> When:
        return self.is_true() & other

    def __or__(self, other: object) -> When:
        return self.is_true() | other

    def __invert__(self) -> When:
        return ~self.is_true()

    def is_true(self) -> When:
        """The condition that it is neither empty nor ``None``, ``False`` or 0."""
        return self._compare("true", None)

    def _compare(self, op: str, value: object) -> When:
        plain = from_json(tagged_text(value, f"what {self!r} is compared with"))
        return When(
            self.graph, Compare.model_validate({"node": self.node, "path": self.path, "op": op, "value": plain})
        )

    def __repr__(self) -> str:
        return f"<result of node {self.node!r}{''.join(f'[{each!r}]' for each in self.path)}>"


class Node(Reference[R_co]):
    """A node of a graph; it stands for its result.

    Attributes:
      name: under which its result is found.
    """

    @property
    def name(self) -> str:
        """Under which its result is found."""
        return self.node

    def after(self, *others: Node[Any]) -> Node[R_co]:
        """Let it wait for other nodes, also such as were added later; the node itself."""
        self.graph.add_edges(self, others)
        return self

    def __repr__(self) -> str:
        return f"<node {self.node!r}>"


def condition_of(what: object, graph: Graph) -> Condition:
    """What was given for ``when=``, as data.

    Raises:
      GraphError: it is about another graph.
      TypeError: it is no condition.
    """
    when = what.is_true() if isinstance(what, Reference) else what
    if not isinstance(when, When):
        raise TypeError(
            f"when= takes a condition over results of nodes, like node > 0, node.equals('x') or node['ok'], not {what!r}"
        )
    if when.graph is not graph:
        raise GraphError(f"{when!r} is about a node of {when.graph!r}, not of {graph!r}")
    return when.form
