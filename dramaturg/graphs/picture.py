"""A graph as a Mermaid flowchart."""

from __future__ import annotations

from collections.abc import Iterator

from dramaturg_protocol.graph_conditions import describe
from dramaturg_protocol.graph_form import GraphForm, NodeForm


def mermaid_of(graph: GraphForm) -> str:
    """The text of the chart: results go along solid arrows, the others only wait."""
    return "\n".join(["flowchart TD", *_lines(graph, "n", "  ")]) + "\n"


def _lines(graph: GraphForm, prefix: str, indent: str) -> Iterator[str]:
    ids = {node.name: f"{prefix}{number}" for number, node in enumerate(graph.nodes, start=1)}
    for node in graph.nodes:
        if node.graph is not None:
            yield f'{indent}subgraph {ids[node.name]}["{_text(node.name)}"]'
            yield from _lines(node.graph, f"{ids[node.name]}_", f"{indent}  ")
            yield f"{indent}end"
        else:
            left, right = ("[[", "]]") if node.map is not None else ("[", "]")
            yield f'{indent}{ids[node.name]}{left}"{_label(node)}"{right}'
    for node in graph.nodes:
        waits = {*node.after}
        condition = f'|"{_text(describe(node.when))}"| ' if node.when is not None else " "
        for name in node.upstream:
            arrow = "-.->" if name in waits else "-->"
            yield f"{indent}{ids[name]} {arrow}{condition}{ids[node.name]}"


def _label(node: NodeForm) -> str:
    what = node.step or node.workflow or ""
    label = node.name if what == node.name else f"{node.name}: {what}"
    return _text(label + (" for each" if node.map is not None else ""))


def _text(text: str) -> str:
    return (
        text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;").replace("\n", " ")
    )
