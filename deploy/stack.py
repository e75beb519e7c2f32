"""A stack of real processes on this machine: Redis, PostgreSQL, coordinators, workers, Prometheus, under supervisord.

    python deploy/stack.py up [--workers N] [--coordinators N] [MODULE…]
    python deploy/stack.py ps | logs [NAME…] | scale workers=N [coordinators=N] | env | down [--delete]

It has ports and data of its own, in `.dramaturg/stack`, and touches nothing that it did not start. What runs as
coordinator and worker, and what runs before them, stands in the Procfile beside this file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parent))

from services import Program, Services, free_port, wait_for, wait_until_ready
from supervision import RUNNING, Supervisor

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("DRAMATURG_STACK", ".dramaturg/stack")).resolve()
SAMPLE = "parcels"

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__)
Names = Annotated[list[str] | None, typer.Argument()]


@dataclass
class State:
    """What the stack was asked for, and the ports that it chose; kept between `up` and `down`, and after.

    Attributes:
      ports: by the name of a process.
    """

    coordinators: int = 1
    workers: int = 2
    modules: list[str] = field(default_factory=list[str])
    ports: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def load(cls) -> State:
        """The state of the stack in this folder; a new one where there is none."""
        file = FOLDER / "state.json"
        return cls(**json.loads(file.read_text())) if file.exists() else cls()

    def save(self) -> None:
        """Keep it."""
        (FOLDER / "state.json").write_text(json.dumps(asdict(self), indent=2))

    def port(self, name: str) -> int:
        """The port of a process, the same as long as the stack exists."""
        if name not in self.ports:
            self.ports[name] = free_port(taken=self.ports.values())
        return self.ports[name]


@app.command()
def up(
    modules: Names = None,
    workers: Annotated[int | None, typer.Option(min=0)] = None,
    coordinators: Annotated[int | None, typer.Option(min=0)] = None,
) -> None:
    """Start everything; what runs already is left alone. MODULE: what to serve, instead of the sample."""
    for folder in ("", "logs", "prometheus/targets"):
        (FOLDER / folder).mkdir(parents=True, exist_ok=True)
    state = State.load()
    state.modules = modules or state.modules or [SAMPLE]
    state.workers = state.workers if workers is None else workers
    state.coordinators = state.coordinators if coordinators is None else coordinators
    supervisor, services = Supervisor(FOLDER), Services(FOLDER, state.port)
    services.prepare()
    supervisor.apply(services.programs())
    for name in ("redis", "postgres"):
        wait_for(name, state.port(name))
    release = procfile()["release"]
    print(f"release: {release}")
    subprocess.run(["/bin/sh", "-c", release], env=environment(state), check=True)
    apply(state)
    tell(state)


@app.command()
def ps() -> None:
    """Which processes there are, and since when."""
    tell(running())


@app.command()
def scale(wanted: Annotated[list[str], typer.Argument(metavar="workers=N [coordinators=N]")]) -> None:
    """Start more of a kind, or stop some gracefully; the others go on undisturbed."""
    state = running()
    for each in wanted:
        kind, _, count = each.partition("=")
        if kind not in ("workers", "coordinators") or not count.isdigit():
            raise typer.BadParameter(f"not workers=N or coordinators=N: {each}")
        setattr(state, kind, int(count))
    apply(state)
    tell(state)


@app.command()
def logs(names: Names = None, lines: int = 20, follow: bool = True) -> None:
    """Show what the processes say, of all or of NAME…, until Ctrl-C."""
    files = sorted(FOLDER.glob("logs/*.log"))
    if names:
        files = [file for file in files if any(file.stem == name or file.stem.startswith(f"{name}-") for name in names)]
    if not files:
        raise typer.BadParameter(f"there are no such logs in {FOLDER / 'logs'}")
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), *map(str, files)])


@app.command()
def env() -> None:
    """Print the settings of the stack's processes, for `eval "$(make env)"` in a shell."""
    for name, value in settings(running()).items():
        print(f"export {name}='{value}'")


@app.command()
def down(delete: Annotated[bool, typer.Option(help="Delete data and logs too.")] = False) -> None:
    """Stop what `up` started. Data stays."""
    Supervisor(FOLDER).shut_down()
    if delete:
        import shutil

        shutil.rmtree(FOLDER, ignore_errors=True)


def apply(state: State) -> None:
    """Bring the running processes in line with the state."""
    services = Services(FOLDER, state.port)
    programs = [*services.programs(), *services.prometheus(HERE), *application(state)]
    write_targets(state)
    state.save()
    supervisor = Supervisor(FOLDER)
    supervisor.apply(programs)
    supervisor.wait_until_settled()
    for _, name, _ in members(state):
        wait_until_ready(name, state.port(name))


def application(state: State) -> list[Program]:
    """The processes of the Procfile, each with a number and a port for its metrics."""
    commands = procfile()
    return [
        Program(
            name=name,
            command=f"/bin/sh -c 'exec {commands[kind]}'",
            environment=environment(state) | {"DRAMATURG_METRICS_PORT": str(state.port(name))},
            stop_seconds=35,
            priority=priority,
        )
        for kind, name, priority in members(state)
    ]


def members(state: State) -> list[tuple[str, str, int]]:
    """Kind, name and priority of each process of the application."""
    counts = {"coordinator": (state.coordinators, 10), "worker": (state.workers, 20)}
    return [
        (kind, f"{kind}-{number}", priority)
        for kind, (count, priority) in counts.items()
        for number in range(1, count + 1)
    ]


def write_targets(state: State) -> None:
    """Tell Prometheus whom to scrape; it looks by itself. JSON is YAML too."""
    targets = [
        {"targets": [f"localhost:{state.port(name)}"], "labels": {"role": kind}} for kind, name, _ in members(state)
    ]
    file = FOLDER / "prometheus" / "targets" / "stack.yml"
    file.with_suffix(".new").write_text(json.dumps(targets, indent=2))
    file.with_suffix(".new").replace(file)


def procfile() -> dict[str, str]:
    """Commands by kind of process."""
    lines = [line for line in (HERE / "Procfile").read_text().splitlines() if line.strip() and line[0] != "#"]
    return {kind.strip(): command.strip() for kind, _, command in (line.partition(":") for line in lines)}


def settings(state: State) -> dict[str, str]:
    """What makes a process part of this stack."""
    return {
        "DRAMATURG_DATABASE_URL": f"postgresql+psycopg://dramaturg@127.0.0.1:{state.port('postgres')}/postgres",
        "DRAMATURG_BROKER_URL": f"redis://127.0.0.1:{state.port('redis')}/0",
        "DRAMATURG_MODULES": ",".join(state.modules),
    }


def environment(state: State) -> dict[str, str]:
    """The environment of the application's processes: this interpreter's tools first, the sample on the path."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TZ") if name in os.environ}
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    modules = [str(Path.cwd()), str(HERE), os.environ.get("PYTHONPATH", "")]
    return {
        **kept,
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": os.pathsep.join(filter(None, modules)),
        "PYTHONUNBUFFERED": "1",
        **settings(state),
    }


def running() -> State:
    """The state of the stack that runs."""
    if not Supervisor(FOLDER).is_running():
        print(f"no stack runs in {FOLDER}: make up", file=sys.stderr)
        raise typer.Exit(1)
    return State.load()


def tell(state: State) -> None:
    """Show the processes and where they answer."""
    lines = Supervisor(FOLDER).status()
    for line in lines:
        name = line.split()[0]
        if name == "prometheus" or name.partition("-")[0] in ("coordinator", "worker"):
            path = "" if name == "prometheus" else "/metrics"
            print(f"{line:<70} http://127.0.0.1:{state.port(name)}{path}")
        else:
            print(line)
    if not all(RUNNING in line for line in lines):
        raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="stack.py")
