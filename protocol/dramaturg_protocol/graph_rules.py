"""What makes a graph sound, and what becomes of a node after those that it waits for."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from enum import StrEnum
from typing import Any, cast

from dramaturg_protocol.errors import CycleError, GraphError
from dramaturg_protocol.graph_form import GraphForm, NodeForm
from dramaturg_protocol.limits import Limit, LimitKind
from dramaturg_protocol.options import CallOptions, check_call_options
from dramaturg_protocol.retries import RetryPolicy


class NodeState(StrEnum):
    """How a node ended."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


def check_graph(graph: GraphForm, where: str = "graph") -> None:
    """Refuse a graph that cannot be run.

    Raises:
      GraphError: two nodes under one name, a node that is not there, or one that says what it does twice or not at all.
      CycleError: nodes wait for each other.
      TypeError, ValueError: an option of a step is unknown or wrong.
    """
    where = f"{where} {graph.name!r}" if graph.name else where
    if not graph.nodes:
        raise GraphError(f"{where} has no nodes: add steps to it")
    known: set[str] = set()
    for node in graph.nodes:
        if node.name in known:
            raise GraphError(f"{where} has two nodes {node.name!r}: give one of them another name")
        known.add(node.name)
    for node in graph.nodes:
        _check_node(node, known, f"{where}, node {node.name!r}")
    cycle = cycle_in({node.name: node.upstream for node in graph.nodes})
    if cycle:
        raise CycleError(f"{where}: nodes wait for each other: {' → '.join([*cycle, cycle[0]])}")


def _check_node(node: NodeForm, known: set[str], where: str) -> None:
    for name in node.upstream:
        if name not in known:
            raise GraphError(
                f"{where} refers to node {name!r}, and there is none: there are {', '.join(sorted(known))}"
            )
    kinds = [kind for kind in ("step", "workflow", "graph") if getattr(node, kind) is not None]
    if len(kinds) != 1:
        raise GraphError(f"{where} needs one of step, workflow and graph; it has {' and '.join(kinds) or 'none'}")
    if kinds != ["step"] and (node.map is not None or node.options or node.compensate):
        raise GraphError(f"{where}: map, options and compensate are for steps, and this is a {kinds[0]}")
    if node.map is None and (node.concurrency is not None or node.on_error != "raise"):
        raise GraphError(f"{where}: concurrency and on_error go with map")
    call_options(node, where)
    if node.graph is not None:
        if node.args or node.kwargs:
            raise GraphError(f"{where} is a graph, and a graph takes no arguments")
        check_graph(node.graph, f"{where}:")


def call_options(node: NodeForm, where: str) -> CallOptions:
    """The options of a node's step, checked and converted.

    Raises:
      TypeError, ValueError: one is unknown or wrong.
    """
    options = dict(node.options)
    if isinstance(options.get("retries"), dict):
        policy: dict[str, Any] = options["retries"]
        options["retries"] = RetryPolicy(**policy)
    for name in LimitKind:
        if isinstance(options.get(name), dict):
            limit: dict[str, Any] = options[name]
            options[name.value] = Limit(**limit)
    checked: Any = check_call_options(options, where)
    return cast("CallOptions", checked)


def cycle_in(upstream: Mapping[str, Sequence[str]]) -> list[str]:
    """Some nodes that wait for each other in a circle, in the order in which they would run; none for a sound graph."""
    done: set[str] = set()
    for root in upstream:
        path: dict[str, None] = {}
        todo = [(root, False)]
        while todo:
            name, is_left = todo.pop()
            if is_left:
                done.add(path.popitem()[0])
            elif name in path:
                return [*path][[*path].index(name) :][::-1]
            elif name not in done:
                path[name] = None
                todo.append((name, True))
                todo += [(each, False) for each in reversed(upstream[name])]
    return []


def fate_of(node: NodeForm, states: Mapping[str, NodeState]) -> NodeState | None:
    """What becomes of a node whose upstream ended so; ``None``: it is its turn."""
    found = {states[name] for name in node.upstream}
    if node.on_upstream_failure == "run" or found <= {NodeState.DONE}:
        return None
    if NodeState.FAILED in found and node.on_upstream_failure == "fail":
        return NodeState.FAILED
    return NodeState.SKIPPED


def blamed(graph: GraphForm, states: Mapping[str, NodeState], own: Container[str]) -> list[str]:
    """The nodes for whose failure the graph fails: one that reached an end of it, or what takes no failure.

    Parameters:
      own: the nodes that failed by themselves, not with one that they wait for.
    """
    heirs: dict[str, list[NodeForm]] = {node.name: [] for node in graph.nodes}
    for node in graph.nodes:
        for name in node.upstream:
            heirs[name].append(node)
    failed = {name for name, state in states.items() if state is NodeState.FAILED}
    todo = [
        name for name in failed if not heirs[name] or any(each.on_upstream_failure == "fail" for each in heirs[name])
    ]
    found = set(todo)
    upstream = {node.name: node.upstream for node in graph.nodes}
    while todo:
        name = todo.pop()
        if name not in own:
            new = (failed & {*upstream[name]}) - found
            found |= new
            todo += new
    return [node.name for node in graph.nodes if node.name in found and node.name in own]
