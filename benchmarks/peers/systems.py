"""The peers: what each needs, which program measures it, and what has to be said of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class System:
    """One system in one set-up.

    Attributes:
      title: for the table.
      kind: ``any worker``: each step may run in any process; ``in handler``: in that of its workflow.
      durable: for the table.
      packages: from PyPI, into an environment of its own.
      npm: from npm, beside it.
      servers: of ``redis``, ``postgresql``, ``restate``, ``temporal``.
      way: told to the program.
      note: where its work is smaller or done in another manner.
    """

    name: str
    title: str
    kind: str
    durable: str
    program: str
    packages: tuple[str, ...]
    npm: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    way: str = ""
    note: str = ""

    @property
    def environment(self) -> str:
        """The folder of its environment; two set-ups of one system share it."""
        return self.program


SYSTEMS = (
    System(
        "restate-call",
        "Restate, each step a call of another handler",
        "any worker",
        "yes",
        "restate_handlers",
        ("restate-sdk", "hypercorn"),
        ("@restatedev/restate-server",),
        ("restate",),
        "call",
        "200 HTTP connections",
    ),
    System(
        "celery",
        "Celery canvas, Redis, prefork 2",
        "any worker",
        "no",
        "celery_canvas",
        ("celery[redis]",),
        servers=("redis",),
        note="W4: 200 steps, since each message carries the rest of its chain",
    ),
    System(
        "dramatiq-workflow",
        "dramatiq-workflow, Redis, 1 × 8 threads",
        "any worker",
        "no",
        "dramatiq_chains",
        ("dramatiq-workflow", "dramatiq[redis]"),
        servers=("redis",),
        note="W4: 200 steps; no result passes from step to step",
    ),
    System(
        "restate-run",
        "Restate, steps by `ctx.run`",
        "in handler",
        "yes",
        "restate_handlers",
        ("restate-sdk", "hypercorn"),
        ("@restatedev/restate-server",),
        ("restate",),
        "run",
        "200 HTTP connections",
    ),
    System(
        "absurd",
        "Absurd, PostgreSQL, 2 × 8 threads",
        "in handler",
        "yes",
        "absurd_tasks",
        ("absurd-sdk", "absurdctl"),
        servers=("postgresql",),
        note="polls every 0.02 s, where 0.25 s is its default; W2: child tasks",
    ),
    System(
        "dbos",
        "DBOS, PostgreSQL, one process",
        "in handler",
        "yes",
        "dbos_workflows",
        ("dbos",),
        servers=("postgresql",),
        note="W2: coroutine steps",
    ),
    System(
        "temporal",
        "Temporal's development server",
        "any worker",
        "yes",
        "temporal_activities",
        ("temporalio",),
        servers=("temporal",),
        note="its server on a SQLite file; activities",
    ),
)
