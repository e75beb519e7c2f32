"""Constructs of generated programs that are graphs, each a run of its own."""

from __future__ import annotations

from typing import Any

from dramaturg import Graph, child
from tests.simulation.grammar import Construct, Draw, double

#: A node: its value, or the node whose result it takes instead; the nodes that it only waits for.
Node = list[Any]


class Graphed(Construct):
    """Each node doubles a number, or what an earlier node gave."""

    name = "graph"
    is_run = True

    def draw(self, draw: Draw, depth: int) -> list[Any]:
        return [[self._node(draw, number) for number in range(1 + draw.number(5))]]

    def _node(self, draw: Draw, number: int) -> Node:
        source = draw.number(number + 1) - 1
        after = [each for each in range(number) if each != source and not draw.number(3)]
        return [draw.number(100), source, after]

    async def perform(self, nodes: list[Node]) -> Any:
        graph = Graph("simulated")
        made: list[Any] = []
        for number, (value, source, after) in enumerate(nodes):
            given = value if source < 0 else made[source]
            made.append(graph.add(double, given, name=f"n{number}", after=[made[each] for each in after]))
        graph.freeze()
        return await child(graph)

    def expect(self, nodes: list[Node]) -> dict[str, int]:
        results: dict[str, int] = {}
        for number, (value, source, _) in enumerate(nodes):
            results[f"n{number}"] = 2 * (value if source < 0 else results[f"n{source}"])
        return results
