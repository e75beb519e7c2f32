"""A graph that arrives as JSON: a service that has neither this library nor the steps starts it with one message.

Here the message goes through the queue of a broker in memory; over Redis or RabbitMQ it is the same message.

python examples/graph_from_json.py
"""

from __future__ import annotations

import json

from dramaturg import Graph, GraphError, engine, step

# What the other service sends: names of steps, plain values, and {"$node": …} for results. docs/graph.schema.json
# describes it. An editor in a browser may have drawn it.
DOCUMENT = """
{
  "name": "thumbnails",
  "nodes": [
    {"name": "found", "step": "find_images", "args": ["holiday"]},
    {"name": "small", "step": "resize", "map": {"$node": "found"}, "kwargs": {"width": 64}, "concurrency": 2,
     "options": {"retries": 2, "timeout": "30s"}},
    {"name": "album", "step": "bind", "args": [{"$node": "small"}, "my holiday"],
     "when": {"node": "found", "path": [0], "op": "!=", "value": "nothing"}},
    {"name": "mail", "step": "send", "args": [{"$node": "album"}], "on_upstream_failure": "skip"}
  ]
}
"""


# What the workers know. The coordinator would need none of it.
@step
def find_images(folder: str) -> list[str]:
    """Which images there are."""
    return [f"{folder}/{number}.jpg" for number in range(1, 4)]


@step
def resize(image: str, *, width: int) -> str:
    """Make one image small."""
    return f"{image}@{width}"


@step
def bind(images: list[str], title: str) -> str:
    """Make an album of them."""
    return f"{title}: {', '.join(images)}"


@step
def send(album: str) -> str:
    """Mail it."""
    return f"sent «{album}»"


def main() -> None:
    """Start the document as it came, then one that is wrong, then one that is built on it."""
    with engine() as client:
        # Any name after "graph:"; a start message bears {"workflow": "graph:thumbnails", "args": [document]}.
        handle = client.start("graph:thumbnails", json.loads(DOCUMENT))
        for name, result in handle.result(timeout="60s").items():
            print(f"{name}: {result}")
        print(f"run {handle.describe().workflow}: {handle.describe().status}")

        # What is wrong is said where it is given, before anything runs.
        wrong = json.loads(DOCUMENT)
        wrong["nodes"][0]["after"] = ["mail"]
        try:
            client.start("graph:thumbnails", wrong)
        except GraphError as error:
            print(f"refused: {error}")

        # Read as an object it can be looked at, and run like any other workflow.
        graph = Graph.from_json(DOCUMENT)
        print(graph.to_mermaid().splitlines()[1].strip())
        print(client.start(graph).result(timeout="60s")["mail"])


if __name__ == "__main__":
    main()
