"""`Graph`: steps and what they need of each other, as data. It runs with as much at once as can be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Literal, Self, TypeVar, Unpack, cast

import dramatiq

from dramaturg.graphs.arguments import Writer
from dramaturg.graphs.picture import mermaid_of
from dramaturg.graphs.references import Node, Reference, When, condition_of
from dramaturg.graphs.running import VERSION, run_graph
from dramaturg.graphs.schema import GraphSchema, ResultsSchema
from dramaturg.steps import StepFunction
from dramaturg.workflows import BoundWorkflow, Workflow
from dramaturg_protocol.definitions import WorkflowDefinition, registry
from dramaturg_protocol.errors import GraphError
from dramaturg_protocol.graph_form import GRAPH_PREFIX, GraphForm, NodeForm, OnUpstreamFailure, read_graph
from dramaturg_protocol.graph_rules import check_graph
from dramaturg_protocol.options import StartOptions, options_as_json
from dramaturg_protocol.signatures import CallSchema

R = TypeVar("R")

# What is known on the worker, or of the step's class, and cannot be told in JSON.
_NOT_IN_JSON = ("name", "compensate", "exactly_once")


class Graph(Workflow[[], dict[str, Any]]):
    """A workflow made of steps that need each other's results.

    Give a node to another one as an argument: it stands for its result, and is waited for. The result of the graph is a
    dict of node name to result; a node that was skipped, or whose failure was taken up by all that need it, has
    ``None``. Start it as any workflow; it takes no arguments.

    Parameters:
      name: under which it is registered once it is frozen.
      version: from 1, as of ``@workflow``.
    """

    def __init__(self, name: str, *, version: int = 1) -> None:
        if type(name) is not str or not 0 < len(name) <= 200:
            raise GraphError(f"a graph has a name of 1 to 200 characters, not {name!r}")
        self._name = name
        self._version = version
        self._nodes: dict[str, NodeForm] = {}
        self._later: dict[str, list[str]] = {}
        self._form: GraphForm | None = None
        self._place = _place_of_caller()
        self.__name__ = name
        self.__doc__ = None
        self.__module__ = self._place[2]

    @classmethod
    def from_json(cls, document: str | bytes | dict[str, Any], *, version: int = 1) -> Graph:
        """A graph from its JSON form, as text or parsed; frozen, and not registered by its name: it is data.

        Raises:
          GraphError: it is not of that form, or not sound.
          CycleError: its nodes wait for each other.
        """
        form = read_graph(document)
        graph = cls(form.name or "graph", version=version)
        graph._place = _place_of_caller()
        check_graph(form)
        graph._form = form
        return graph

    @property
    def name(self) -> str:
        """Under which it is registered."""
        return self._name

    @property
    def version(self) -> int:
        """From 1."""
        return self._version

    # Building.

    def add(
        self,
        what: Any,
        /,
        *args: Any,
        name: str | None = None,
        after: Iterable[Node[Any] | str] | Node[Any] | str = (),
        on_upstream_failure: OnUpstreamFailure = "fail",
        when: When | Reference[Any] | None = None,
        **kwargs: Any,
    ) -> Node[Any]:
        """Add a node.

        Parameters:
          what: a step, also ``step.options(…)`` or `step_ref`; a workflow, which runs as a child; or a graph, whose result
            is the node's.
          args: its arguments; a node, a part of one like ``node["rows"]``, and lists and dicts of these stand for
            results, and are waited for.
          name: under which its result is found; by default the step's name, repeats have ``_2``, ``_3``.
          after: nodes that it waits for without their results; by name also such as are added later.
          on_upstream_failure: what becomes of it when a node that it needs failed: ``"fail"`` fails the graph,
            ``"skip"`` leaves it out, ``"run"`` runs it with ``None`` in the place of that result. It is left out, but
            for ``"run"``, when such a node was left out.
          when: skip it where this does not hold, like ``score > 0.5``, ``kind.equals("book")`` or ``checked["ok"]``.

        Raises:
          TypeError: that is no step, or the arguments do not fit it.
          PayloadError: an argument cannot be encoded or is of the wrong type.
          GraphError: a second node of that name, a node of another graph, or the graph is frozen.
        """
        if isinstance(what, Graph):
            if args or kwargs:
                raise TypeError(f"graph {what.name!r} takes no arguments; its steps have theirs")
            body: dict[str, Any] = {"graph": what.freeze().form}
            default = what.name
        elif isinstance(what, Workflow):
            body = {"workflow": what.name, **self._call(what.definition.schema, args, kwargs)}  # pyright: ignore[reportUnknownMemberType]
            default = what.name  # pyright: ignore[reportUnknownMemberType]
        else:
            step = step_of(what)
            body = {**_step_fields(step), **self._call(step.definition.schema, args, kwargs)}
            default = step.name
        return self._add(default, body, name, after, on_upstream_failure, when)

    def map(
        self,
        what: Any,
        items: Reference[Any] | Iterable[Any],
        /,
        *args: Any,
        name: str | None = None,
        after: Iterable[Node[Any] | str] | Node[Any] | str = (),
        on_upstream_failure: OnUpstreamFailure = "fail",
        when: When | Reference[Any] | None = None,
        concurrency: int | None = None,
        on_error: Literal["raise", "collect"] = "raise",
        **kwargs: Any,
    ) -> Node[Any]:
        """Add a node that runs a step for each item of a list; its result is the list of theirs, in order.

        Parameters:
          what: a step; each item is its first argument, `args` and `kwargs` are the others.
          items: a node whose result is a list, which may be known only when it is there; or a list.
          concurrency: at most so many at once.
          on_error: ``"raise"``: one that fails fails the node, and the others are cancelled. ``"collect"``: in its
            place stands a dict of ``error_type``, ``message`` and ``attempts``.
          name, after, on_upstream_failure, when: as for `add`, and so are the errors.
        """
        step = step_of(what)
        self._refuse_frozen()
        call = self._call(step.definition.schema, (_ITEM, *args), kwargs)
        writer = Writer(self)
        if isinstance(items, Reference):
            written = writer.value(items, f"what {step.name!r} is mapped over")
        else:
            written = [writer.argument(item, step.definition.schema, 0) for item in items]
        call["args"] = call["args"][1:]
        body = {**_step_fields(step), **call, "map": written, "concurrency": concurrency, "on_error": on_error}
        return self._add(step.name, body, name, after, on_upstream_failure, when)

    def add_edges(self, node: Node[Any], others: Iterable[Node[Any] | str]) -> None:
        """Let a node wait for others. See `Node.after`."""
        self._refuse_frozen()
        self._later.setdefault(node.node, []).extend(self._names_of(others))

    def freeze(self) -> Self:
        """Close the graph, check it as a whole and register it under its name; the graph itself. It may be called twice.

        Raises:
          CycleError: nodes wait for each other; the message names them.
          GraphError: a node waits for one that is not there, or the graph is empty.
          DuplicateNameError: another graph or workflow has its name.
        """
        if self._form is None:
            form = GraphForm(name=self._name, nodes=tuple(map(self._with_edges, self._nodes.values())))
            check_graph(form)
            registry.add_workflow(self._registered(form))
            self._form = form
        return self

    # Using.

    @property
    def form(self) -> GraphForm:
        """The graph as data; it is frozen by that, as by every other use."""
        self.freeze()
        assert self._form is not None
        return self._form

    @property
    def definition(self) -> WorkflowDefinition:  # type: ignore[override]
        """The workflow that runs it: the one of all graphs, with this one as its argument."""
        name = GRAPH_PREFIX + self._name
        return WorkflowDefinition(name, VERSION, run_graph, GraphSchema(f"graph {self._name!r}", self.form))

    @property
    def fn(self) -> Callable[[], Coroutine[Any, Any, dict[str, Any]]]:  # type: ignore[override]
        """An async function that runs it, inside a workflow."""
        return self._registered(self.form).fn

    def options(self, **options: Unpack[StartOptions]) -> BoundWorkflow[[], dict[str, Any]]:
        """This graph with the options of a start. As `Workflow.options`."""
        self.freeze()
        return super().options(**options)

    def to_json(self) -> str:
        """The graph as JSON text: what `from_json` reads and a start message may bear."""
        return self.form.text

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart, to be pasted into a page."""
        return mermaid_of(self.form)

    def __repr__(self) -> str:
        return f"<graph {self._name!r}>"

    def _add(
        self,
        default: str,
        body: dict[str, Any],
        name: str | None,
        after: Iterable[Node[Any] | str] | Node[Any] | str,
        on_upstream_failure: OnUpstreamFailure,
        when: When | Reference[Any] | None,
    ) -> Node[Any]:
        self._refuse_frozen()
        if name is not None and name in self._nodes:
            raise GraphError(f"{self!r} has a node {name!r} already: give this one another name")
        found = read_graph(
            {
                "nodes": [
                    {
                        "name": name if name is not None else self._free_name(default),
                        **body,
                        "after": self._names_of(after),
                        "on_upstream_failure": on_upstream_failure,
                        "when": condition_of(when, self) if when is not None else None,
                    }
                ]
            }
        ).nodes[0]
        self._nodes[found.name] = found
        return Node(self, found.name)

    def _call(self, schema: CallSchema, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        schema.check_call(args, kwargs)
        writer = Writer(self)
        written = [None if each is _ITEM else writer.argument(each, schema, at) for at, each in enumerate(args)]
        return {"args": written, "kwargs": {key: writer.argument(each, schema, key) for key, each in kwargs.items()}}

    def _names_of(self, others: Iterable[Node[Any] | str] | Node[Any] | str) -> list[str]:
        names: list[str] = []
        is_one = isinstance(others, (Reference, str))
        for each in cast("Iterable[Any]", (others,) if is_one else others):
            if isinstance(each, Reference) and each.graph is not self:
                raise GraphError(f"{each!r} is of {each.graph!r}, not of {self!r}")
            if not isinstance(each, (Reference, str)):
                raise TypeError(f"after= takes nodes and names of nodes, not {each!r}")
            names.append(each.node if isinstance(each, Reference) else each)
        return names

    def _free_name(self, default: str) -> str:
        number, name = 2, default
        while name in self._nodes:
            name, number = f"{default}_{number}", number + 1
        return name

    def _with_edges(self, node: NodeForm) -> NodeForm:
        later = self._later.get(node.name)
        return node if later is None else node.model_copy(update={"after": (*node.after, *later)})

    def _refuse_frozen(self) -> None:
        if self._form is not None:
            raise GraphError(f"{self!r} is frozen: add to it before it is started, drawn or written as JSON")

    def _registered(self, form: GraphForm) -> WorkflowDefinition:
        """The workflow under the graph's own name, by which it is started where its code is known."""

        async def run_it() -> dict[str, Any]:
            return await run_graph(form)

        file, line, module = self._place
        # Its place is where the graph was made: two graphs of one name are told apart by that, as functions are.
        run_it.__code__ = run_it.__code__.replace(co_filename=file, co_firstlineno=line, co_name=self._name)
        run_it.__name__ = run_it.__qualname__ = self._name
        run_it.__module__ = module
        schema = ResultsSchema(run_it, f"workflow {self._name!r}")
        return WorkflowDefinition(self._name, self._version, run_it, schema, {}, form.text)


_ITEM: Any = object()


def step_of(what: object) -> StepFunction[..., Any]:
    """The step that was given.

    Raises:
      TypeError: it is none.
    """
    found: object = getattr(what, "_step", what)
    if isinstance(found, StepFunction):
        return cast("StepFunction[..., Any]", found)
    if isinstance(found, dramatiq.Actor):
        raise TypeError(f"actor {found.actor_name!r} is no step yet: add step({found.actor_name})")  # pyright: ignore[reportUnknownMemberType]
    if isinstance(found, (Workflow, BoundWorkflow)):
        raise TypeError(f"{found!r} is no step: it goes into add() as it is, without options")
    raise TypeError(f"a node is a step, a workflow or a graph, not {what!r}: decorate its function with @step")


def _step_fields(step: StepFunction[..., Any]) -> dict[str, Any]:
    """What whoever does not have the step's code has to know of it."""
    options: dict[str, Any] = {}
    for name, value in step.all_options.items():
        if name in _NOT_IN_JSON or value is None or callable(getattr(value, "key", None)):
            continue
        try:
            options |= options_as_json({name: value})
        except TypeError:  # a back-off that is a function; as a key that is one, it holds where the code is known
            continue
    fields: dict[str, Any] = {"step": step.name, "options": options}
    return fields if step.undo is None else {**fields, "compensate": step.undo.name}


def _place_of_caller() -> tuple[str, int, str]:
    """File, line and module of the code that makes a graph."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno, str(frame.f_globals.get("__name__"))
