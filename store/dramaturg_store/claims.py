"""A workflow id for a run that another run starts: given in a transaction of its own, before the run begins.

Whoever writes first has it, be it a client with its start or a coordinator; rows of both are locked while it is decided.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, case, null, select, update

from dramaturg_protocol.messages import RequestKind
from dramaturg_store.dialects import insert_ignore
from dramaturg_store.schema import inbox, runs, workflow_ids
from dramaturg_store.slices import slices

#: A closed run with one of these in the inbox is as good as open: whoever takes its workflow id would share it.
OPENING = tuple(kind.value for kind in (RequestKind.START, RequestKind.RETRY, RequestKind.RESET))

_IS_ID = (
    workflow_ids.c.namespace == bindparam("b_namespace"),
    workflow_ids.c.workflow_id == bindparam("b_id"),
)
_HOLDER = select(workflow_ids.c.run_id).where(*_IS_ID).with_for_update()
_GIVE = update(workflow_ids).where(*_IS_ID).values(run_id=bindparam("b_run_id"))
_HOLDERS = select(workflow_ids.c.workflow_id, workflow_ids.c.run_id).where(
    workflow_ids.c.namespace == bindparam("namespace"),
    workflow_ids.c.workflow_id.in_(bindparam("workflow_ids", expanding=True)),
)
# A run that is there with its status, where it is closed; or that is to begin or to go on.
_THERE = (
    select(case((runs.c.closed_at.is_not(None), runs.c.status)).label("status"))
    .where(runs.c.run_id == bindparam("b_run_id"))
    .union_all(select(null()).where(inbox.c.run_id == bindparam("b_run_id"), inbox.c.kind.in_(OPENING)))
)


_PASS_ON = _GIVE.where(workflow_ids.c.run_id == bindparam("b_before"))


def pass_id_on(connection: Connection, namespace: str, workflow_id: str, run_id: str, before: str) -> None:
    """Give a workflow id to the run that continues the one that has it, in the transaction of the turn."""
    row = {"namespace": namespace, "workflow_id": workflow_id, "run_id": run_id}
    connection.execute(insert_ignore(connection.dialect.name, workflow_ids), [row])
    key = {"b_namespace": namespace, "b_id": workflow_id}
    connection.execute(_PASS_ON, {**key, "b_run_id": run_id, "b_before": before})


def claim_id(connection: Connection, namespace: str, workflow_id: str, run_id: str) -> str | None:
    """Give a workflow id to a run; the open run that has it instead, where that is another one."""
    row = {"namespace": namespace, "workflow_id": workflow_id, "run_id": run_id}
    connection.execute(insert_ignore(connection.dialect.name, workflow_ids), [row])
    key = {"b_namespace": namespace, "b_id": workflow_id}
    holder = str(connection.scalars(_HOLDER, key).one())
    if holder == run_id:
        return None
    statuses = connection.scalars(_THERE, {"b_run_id": holder}).all()
    if any(status is None for status in statuses):
        return holder
    connection.execute(_GIVE, {**key, "b_run_id": run_id})
    return None


def holders_of(connection: Connection, namespace: str, names: Collection[str]) -> dict[str, str]:
    """The run that has each of these workflow ids, as far as somebody chose them."""
    found: dict[str, str] = {}
    for part in slices(sorted(names)):
        rows = connection.execute(_HOLDERS, {"namespace": namespace, "workflow_ids": part})
        found.update({row.workflow_id: row.run_id for row in rows})
    return found
