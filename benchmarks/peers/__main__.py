"""Measure Dramaturg and its peers, one after the other on this machine: ``python -m benchmarks.peers``.

Each system's figures are a file of their own as soon as it is done; a run that is begun again with the same folder
goes on with what is missing. A peer that cannot be installed or does not end is said so, never made up.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.peers.installing import ROOT, NotInstalled, install, versions
from benchmarks.peers.systems import SYSTEMS, System
from benchmarks.peers.table import HEAD, OURS, rows
from benchmarks.processes import Missing, Processes, answers, free_port, postgresql_server, redis_server

RESULTS = Path(__file__).parents[1] / "results"
_PROGRAMS = Path(__file__).parent / "programs"
_WORKLOADS = ("W1", "W2", "W3", "W4", "W5")
_OUR_WORK = (*_WORKLOADS, "W1 local", "W3 local", "W4 local")


def main(
    system: Annotated[list[str] | None, typer.Option("--system", "-s", help="One of them; may be repeated.")] = None,
    folder: Annotated[Path | None, typer.Option(help="For the figures; what is there already is kept.")] = None,
    seconds: Annotated[float, typer.Option(help="The longest that one system may take.")] = 75.0,
    repetitions: Annotated[int, typer.Option(min=1, help="Of Dramaturg's own work.")] = 1,
    quick: Annotated[bool, typer.Option(help="A tenth of the work: to see that it runs.")] = False,
) -> None:
    """Measure, and print a table."""
    console = Console() if sys.stdout.isatty() else Console(width=150)
    place = folder or RESULTS / f"peers-{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
    place.mkdir(parents=True, exist_ok=True)
    os.environ["PEER_SCALE"] = "0.1" if quick else "1"
    wanted = [each for each in SYSTEMS if not system or each.name in system]
    if not system or OURS in system:
        _measure_ours(place / f"{OURS}.json", ["--quick"] if quick else ["--repetitions", f"{repetitions}"], console)
    for each in wanted:
        path = place / f"{each.name}.json"
        if not path.exists():
            console.print(f"{each.name} …", highlight=False)
            path.write_text(json.dumps(_measured(each, seconds), indent=2) + "\n", encoding="utf-8")
    _show(place, console)
    console.print(f"all figures: {place}", highlight=False, soft_wrap=True)


def _measure_ours(path: Path, options: list[str], console: Console) -> None:
    if path.exists():
        return
    console.print(f"{OURS}, and bare Dramatiq …", highlight=False)
    chosen = [part for name in _OUR_WORK for part in ("-w", name)]
    command = [sys.executable, "-m", "benchmarks.run", "-s", "redis-postgresql", *chosen]
    subprocess.run([*command, *options, "--output", str(path)], check=True, stdout=subprocess.DEVNULL)


def _measured(system: System, seconds: float) -> dict[str, Any]:
    about = {"title": system.title, "kind": system.kind, "durable": system.durable, "note": system.note}
    try:
        python = install(system)
        with TemporaryDirectory(prefix="dramaturg-peer-") as name, ExitStack() as stack:
            folder = Path(name)
            folder.chmod(0o755)
            processes = Processes(folder)
            environment = dict(os.environ)
            for server in system.servers:
                environment |= stack.enter_context(_SERVERS[server](processes, folder))
            environment |= {"PEER_WAY": system.way, "PEER_SERVERS": " ".join(map(str, processes.pids()))}
            figures, problem = _run_program(python, system, environment, seconds)
            around = {"versions": versions(system), "load": os.getloadavg()[0]}
            return {**about, **around, "figures": figures, "problem": problem}
    except (NotInstalled, Missing) as error:
        return {**about, "problem": f"cannot be had here: {error}", "figures": {}}


def _run_program(
    python: Path, system: System, environment: dict[str, str], seconds: float
) -> tuple[dict[str, Any], str]:
    process = subprocess.Popen(
        [str(python), str(_PROGRAMS / f"{system.program}.py")],
        env=environment,
        cwd=_PROGRAMS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, said = process.communicate(timeout=seconds)
        problem = "" if process.returncode == 0 else f"ended with {process.returncode}: {said[-600:]}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        output, _ = process.communicate()
        problem = f"not done after {seconds:g} s"
    figures = {line.pop("workload"): line for line in map(json.loads, output.splitlines())}
    return figures, problem


@contextmanager
def _redis(processes: Processes, folder: Path) -> Generator[dict[str, str], None, None]:
    with redis_server(processes, folder) as url:
        yield {"PEER_REDIS": url}


@contextmanager
def _postgresql(processes: Processes, folder: Path) -> Generator[dict[str, str], None, None]:
    with postgresql_server(processes, folder) as url:
        yield {"PEER_POSTGRES": f"{url.replace('+psycopg', '')}/postgres"}


@contextmanager
def _restate(processes: Processes, folder: Path) -> Generator[dict[str, str], None, None]:
    ingress, admin, handlers, node = (free_port() for _ in range(4))
    environment = {
        "RESTATE_BASE_DIR": str(folder / "restate"),
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_PORT": str(node),
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
    }
    command = [str(ROOT / "restate_handlers" / "node_modules" / ".bin" / "restate-server"), "--no-logo"]
    with processes.running("restate", command, partial(answers, admin), environment):
        yield {"PEER_PORTS": f"{ingress} {admin} {handlers}"}


@contextmanager
def _temporal(processes: Processes, folder: Path) -> Generator[dict[str, str], None, None]:
    program = shutil.which("temporal")
    if program is None:
        raise Missing("the program `temporal` is not on the path, and neither PyPI nor npm has it")
    port = free_port()
    command = [program, "server", "start-dev", "--headless", "--port", str(port), "--db-filename", str(folder / "db")]
    with processes.running("temporal", command, partial(answers, port)):
        yield {"PEER_TEMPORAL": f"127.0.0.1:{port}"}


_SERVERS = {"temporal": _temporal, "redis": _redis, "postgresql": _postgresql, "restate": _restate}


def _show(place: Path, console: Console) -> None:
    table = Table(*HEAD)
    for row in rows(place):
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
