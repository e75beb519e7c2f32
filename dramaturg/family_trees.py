"""The family of a run, from any of its members."""

from __future__ import annotations

from dramaturg import views
from dramaturg_protocol.errors import NotFound
from dramaturg_store.database import Database


def tree_of(database: Database, run_id: str) -> views.RunTree:
    """The whole tree that a run belongs to, from the run that nobody started.

    Raises:
      NotFound: no such run has begun.
    """
    root = database.reads.run(run_id)
    if root is None:
        raise NotFound(f"no run {run_id!r} has begun")
    # A parent that was pruned leaves its children as roots.
    while root.parent is not None and (above := database.reads.run(root.parent)) is not None:
        root = above
    tree = views.RunTree(views.summary_of(root))
    level = {root.run_id: tree}
    while level:
        below: dict[str, views.RunTree] = {}
        for record in database.families.children_of(level):
            child = views.RunTree(views.summary_of(record))
            level[record.parent or ""].children.append(child)
            below[record.run_id] = child
        level = below
    return tree
