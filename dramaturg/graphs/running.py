"""The workflow that runs a graph: each node is a task that waits for those before it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, cast

from pydantic_core import from_json

from dramaturg.graphs.arguments import call_of, filled, part_of
from dramaturg.graphs.schema import GraphSchema
from dramaturg.steps import StepFunction
from dramaturg_protocol.ambient import ChildRequest, StepRequest, WorkflowScope, workflow_scope
from dramaturg_protocol.definitions import StepDefinition, WorkflowDefinition, registry
from dramaturg_protocol.errors import GraphError, PayloadError, StepFailed
from dramaturg_protocol.events import Compensation
from dramaturg_protocol.graph_conditions import Path, holds
from dramaturg_protocol.graph_form import GRAPH_PREFIX, GraphForm, NodeForm
from dramaturg_protocol.graph_rules import NodeState, blamed, call_options, fate_of
from dramaturg_protocol.limits import keys_of
from dramaturg_protocol.signatures import CallSchema
from dramaturg_protocol.tags import tagged_text
from dramaturg_protocol.untags import untagged

#: Of the way in which graphs are run; another one gets another number, so that open runs go on as they began.
VERSION = 1


async def run_graph(graph: GraphForm) -> dict[str, Any]:
    """Run a graph to its end; the result of each node by its name, in the tagged form.

    Raises:
      Exception: what a node failed with; an `ExceptionGroup` where several did.
    """
    return await GraphRun(graph, workflow_scope("a graph")).run()


class GraphRun:
    """One graph under way.

    A node that failed stops what needs it, and nothing else: the others run to their end before the graph fails.
    """

    def __init__(self, graph: GraphForm, scope: WorkflowScope) -> None:
        self._graph = graph
        self._scope = scope
        self._ended = {node.name: asyncio.Event() for node in graph.nodes}
        self._states: dict[str, NodeState] = {}
        self._results: dict[str, Any] = {}
        self._errors: dict[str, Exception] = {}

    async def run(self) -> dict[str, Any]:
        """Run all nodes."""
        async with asyncio.TaskGroup() as tasks:
            for node in self._graph.nodes:
                tasks.create_task(self._settle(node), name=f"node {node.name}")
        errors = [self._errors[name] for name in blamed(self._graph, self._states, self._errors)]
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup(f"{len(errors)} nodes of the graph failed", errors)
        return {node.name: self._results.get(node.name) for node in self._graph.nodes}

    async def _settle(self, node: NodeForm) -> None:
        for name in node.upstream:
            await self._ended[name].wait()
        try:
            self._states[node.name] = fate_of(node, self._states) or await self._do(node)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._fail(node, GraphError(f"node {node.name!r} was cancelled: {error}"))
        except Exception as error:  # noqa: BLE001 - a step's, or what is wrong with a call: the node's own affair
            self._fail(node, error)
        self._ended[node.name].set()

    def _fail(self, node: NodeForm, error: Exception) -> None:
        self._states[node.name] = NodeState.FAILED
        self._errors[node.name] = error

    async def _do(self, node: NodeForm) -> NodeState:
        if node.when is not None and not holds(node.when, self._value):
            return NodeState.SKIPPED
        if node.graph is not None:
            self._results[node.name] = await GraphRun(node.graph, self._scope).run()
        elif node.map is not None:
            self._results[node.name] = await _Fan(self._scope, node, self._plain).run(self._items(node))
        else:
            ask = call_step if node.step is not None else run_child
            args, kwargs = filled(node.args, self._plain), filled(node.kwargs, self._plain)
            self._results[node.name] = await ask(self._scope, node, args, kwargs)
        return NodeState.DONE

    def _items(self, node: NodeForm) -> list[Any]:
        plain = filled(node.map, self._plain)
        if isinstance(plain, list):
            return [*cast("Iterable[Any]", plain)]
        where = f"what node {node.name!r} maps over"
        value = untagged(plain, where)
        if not isinstance(value, (tuple, set, frozenset)):
            raise GraphError(f"{where} is a {type(value).__name__}, not a list")
        found: list[Any] = from_json(tagged_text([*value], where))  # pyright: ignore[reportUnknownArgumentType]
        return found

    def _value(self, name: str, path: Path) -> Any:
        where = f"the result of node {name!r}"
        return part_of(untagged(self._results.get(name), where), path, where)

    def _plain(self, name: str, path: Path) -> Any:
        if not path:
            return self._results.get(name)
        if self._states[name] is not NodeState.DONE:
            return None
        return from_json(tagged_text(self._value(name, path), f"a part of the result of node {name!r}"))


class _Fan:
    """A step over the items of a list."""

    def __init__(self, scope: WorkflowScope, node: NodeForm, plain: Any) -> None:
        self._scope = scope
        self._node = node
        self._args = filled(node.args, plain)
        self._kwargs = filled(node.kwargs, plain)
        self._results: list[Any] = []

    async def run(self, items: list[Any]) -> list[Any]:
        """The results, in the order of the items.

        Raises:
          Exception: what the first one that failed did; the others are cancelled.
        """
        self._results = [None] * len(items)
        todo = enumerate(items)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(self._node.concurrency or len(items), len(items))):
                    tasks.create_task(self._work(todo))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return self._results

    async def _work(self, todo: Iterator[tuple[int, Any]]) -> None:
        for index, item in todo:
            try:
                result = await call_step(self._scope, self._node, [item, *self._args], self._kwargs)
            except StepFailed as error:
                if self._node.on_error == "raise":
                    raise
                result = {"error_type": error.error_type, "message": error.message, "attempts": error.attempts}
            self._results[index] = result


async def call_step(scope: WorkflowScope, node: NodeForm, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Ask for a step by its name, and give its result in the tagged form."""
    assert node.step is not None
    known = registry.steps.get(node.step)
    definition = known or StepDefinition(node.step, None, CallSchema.open(f"step {node.step!r}"))
    plain: StepFunction[..., Any] = StepFunction(definition)
    step = plain.options(**call_options(node, f"node {node.name!r}"))
    call = call_of(args, kwargs, definition.schema, is_known=known is not None, limit=scope.max_payload)
    own = step.as_compensation
    limits = keys_of(step.all_options, definition.fn, call.args, call.kwargs, what=f"step {step.name!r}")
    request = StepRequest(step.name, own.queue, call.payload, own.options, str, _undo_of(node, step), limits)
    return _plain_result(await scope.start_step(request), definition.schema, is_known=known is not None)


async def run_child(scope: WorkflowScope, node: NodeForm, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Run a workflow by its name as a child, and give its result in the tagged form."""
    assert node.workflow is not None
    known = registry.workflow(node.workflow)
    schema = known.schema if known is not None else CallSchema.open(f"workflow {node.workflow!r}")
    call = call_of(args, kwargs, schema, is_known=known is not None, limit=scope.max_payload)
    child = scope.start_child(ChildRequest(node.workflow, call.payload, str))
    return _plain_result(await child.outcome(), schema, is_known=known is not None)


def _undo_of(node: NodeForm, step: StepFunction[..., Any]) -> Compensation | None:
    if step.undo is not None:
        return step.undo.as_compensation
    if node.compensate is None:
        return None
    known = registry.steps.get(node.compensate)
    return Compensation(node.compensate, known.queue if known is not None else None, {})


def _plain_result(payload: str, schema: CallSchema, *, is_known: bool) -> Any:
    """A result with the types that it has, as far as the code is known here."""
    if is_known:
        try:
            return from_json(tagged_text(schema.decode_result(payload), f"the result of {schema.what}"))
        except PayloadError:  # of a class that has no name to be found by again: the JSON has to do
            pass
    return from_json(payload)


def _define(name: str) -> WorkflowDefinition:
    return WorkflowDefinition(name, VERSION, run_graph, GraphSchema(f"workflow {name!r}"))


registry.add_family(GRAPH_PREFIX, _define)
