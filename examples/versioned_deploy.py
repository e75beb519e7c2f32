"""Deploys while runs are under way: a small change behind a gate, a large one as a version of its own, and the check before.

Each deploy writes the application's module anew and starts a new process over the same database.

python examples/versioned_deploy.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dramaturg import Client, Handle, engine

STEPS = """
from dramaturg import info, patched, sleep, step, workflow

@step
def reserve(order: str) -> str:
    return f"{order} reserved"

@step
def check_fraud(order: str) -> str:
    return f"{order} checked"

@step
def ship(order: str) -> str:
    return f"{order} shipped"
"""

# The code as it began. A run sleeps here for days; in this example for a second.
FIRST = """
@workflow
async def fulfil(order: str) -> list[str]:
    done = [await reserve(order)]
    await sleep("1s")
    return [*done, await ship(order)]
"""

# A step more in the middle: runs that have passed there did not do it. This one must not be deployed.
CARELESS = """
@workflow
async def fulfil(order: str) -> list[str]:
    done = [await reserve(order), await check_fraud(order)]
    await sleep("1s")
    return [*done, await ship(order)]
"""

# The same change behind a gate: true in runs that come here after the deploy, false in those that had passed before.
GATED = """
@workflow
async def fulfil(order: str) -> list[str]:
    done = [await reserve(order)]
    if patched("fraud-check"):
        done.append(await check_fraud(order))
    await sleep("1s")
    return [*done, await ship(order)]
"""

# Another workflow under the same name, beside the old one: runs stay on the version that they began with, new ones
# take the highest. When `dramaturg list` shows no open run of version 1 any more, its code can go.
SECOND_VERSION = """
@workflow(name="fulfil", version=2)
async def fulfil_2(order: str) -> list[str]:
    return [f"version {info().version}", await check_fraud(order), await ship(order)]
"""


def deploy(*code: str) -> None:
    """Put this code where the next process finds it."""
    Path("shop.py").write_text("\n".join((STEPS, *code)))


def in_a_new_process(*words: str) -> str:
    """Run this file, or a command, in a process that imports the code of now; what it printed last."""
    result = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    return (result.stdout.strip().splitlines() or [result.stderr])[-1]


def begin(order: str) -> str:
    """Start a run and stop while it sleeps: the process of the old deploy goes, the run stays."""
    with engine(modules=["shop"]) as client:
        handle = client.start("fulfil", order, id=order)
        for event in handle.events(follow=True):
            if event.type == "timer.started":
                break
    return handle.run_id


def finish(*orders: str) -> None:
    """Start one of version 1 and one of the highest, and wait for all there are."""
    with engine(modules=["shop"]) as client:
        client.start("fulfil", "new", id="new")
        client.start("fulfil", "pinned", id="pinned", version=1)
        for order in (*orders, "new", "pinned"):
            handle: Handle[list[str]] = client.handle(order)
            handle.result(timeout="60s")


def main() -> None:
    """Three deploys, each with a run of the code before it under way."""
    script = str(Path(__file__).resolve())
    check = ("-m", "dramaturg", "replay", "shop")

    deploy(FIRST)
    in_a_new_process(script, "begin", "old")

    # Before a deploy: would the new code block a run that is open? It writes nothing and exits with 1 if so.
    deploy(CARELESS)
    print(f"careless: {in_a_new_process(*check)}")
    deploy(GATED)
    print(f"gated: {in_a_new_process(*check)}")

    in_a_new_process(script, "begin", "gated")
    deploy(GATED, SECOND_VERSION)
    print(f"second version: {in_a_new_process(*check)}")
    in_a_new_process(script, "finish", "old", "gated")

    with Client() as client:
        for order in ("old", "gated", "new", "pinned"):
            handle: Handle[list[str]] = client.handle(order)
            print(f"{order}: version {handle.describe().version}: {', '.join(handle.result())}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    match sys.argv[1:]:
        case ["begin", order]:
            print(begin(order))
        case ["finish", *orders]:
            finish(*orders)
        case _:
            main()
