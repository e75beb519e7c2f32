"""The stages of the demo, and what it says of each."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Final

from rich.console import Console
from sqlalchemy import URL

import dramaturg
from dramaturg import Client, Settings, engine
from dramaturg.demo.durability import RUN_ID, DemoFailed, Job, Killed, Resumed, evidence_of, resume, run_and_kill
from dramaturg.demo.narration import HalfWay, Narrator, print_proof
from dramaturg.demo.textstats import find_files, textstats

FIRST_ID: Final = "undisturbed"

#: What a demo leaves in its folder, and the next one replaces.
OWN_FILES: Final = ("demo.db*", "report.*", "resumed/report.*", "resumed/ledger.jsonl", "resumed/child.log")

#: Marks a folder as a demo's, and keeps what is in it out of somebody's commit.
MARKER: Final = "# Made by python -m dramaturg.demo\n*\n"


class Demo:
    """One demo.

    Parameters:
      console: where it speaks.
      folder: whose text files are counted.
      output: where the reports and the database go.
      limit: of files.
    """

    def __init__(self, console: Console, folder: Path, output: Path, limit: int) -> None:
        self._console = console
        self._output = output
        self._database = output / "demo.db"
        self._settings = Settings(
            database_url=_url(self._database),
            # Set, so that no setting of the user's reaches the demo.
            broker_url="memory://",
            namespace="dramatiq",
            modules=[],
            step={},
            queue={},
        )
        self._job = Job(folder, output / "resumed", limit, self._settings.database_url)

    def run(self) -> bool:
        """All stages; whether everything was proved.

        Raises:
          DemoFailed: a stage could not be finished.
        """
        self._say("Dramaturg runs a job, then the same job again, killed half way and resumed.", style="bold")
        self._say("It needs no service: a SQLite file, and memory. The job, to be read and copied:")
        self._show(_shown(Path(__file__).with_name("textstats.py")))
        self._prepare()
        self._run_undisturbed()
        with Client(self._settings) as client:
            killed = self._kill(client)
            resumed = self._resume(client, killed)
        is_proved = self._prove(killed, resumed)
        self._say_where()
        return is_proved

    def _prepare(self) -> None:
        if not find_files.fn(self._job.folder, 1):
            raise DemoFailed(f"there are no text files below {self._job.folder}: give another folder")
        marker = self._output / ".gitignore"
        if self._output.is_dir() and any(self._output.iterdir()) and not _is_ours(marker):
            raise DemoFailed(f"{self._output} holds files that are no demo's: give --output a new or empty folder")
        self._job.output.mkdir(parents=True, exist_ok=True)
        marker.write_text(MARKER, encoding="utf-8")
        for path in (path for pattern in OWN_FILES for path in self._output.glob(pattern)):
            path.unlink()

    def _run_undisturbed(self) -> None:
        self._stage("1. A real job on real files")
        self._say(
            f"It finds up to {self._job.limit} text files below {self._job.folder}, reads, hashes and counts each in a "
            f"step of its own, adds up, asks a service that fails twice, sleeps, and writes a report. Each line below is "
            f"an event in its history, committed before the workflow went on:"
        )
        with engine(config=self._settings) as client:
            order = textstats.options(id=FIRST_ID)
            handle = client.start(order, self._job.folder, self._output, self._job.limit)
            Narrator(self._console).follow(handle.events(follow=True))
            handle.result()
        self._say("")
        self._say((self._output / "report.txt").read_text(encoding="utf-8").rstrip())

    def _kill(self, client: Client) -> Killed:
        self._stage("2. The same job in a process of its own, killed half way")
        self._say(
            "Slowed down, to be caught in the act. Each step first writes a line into a ledger, outside of the database. "
            "Once half of the steps are recorded, the process group gets SIGKILL: no handler runs, nothing is cleaned up."
        )
        killed = run_and_kill(self._job, client, HalfWay(self._console))
        self._say(f"killed     process {killed.pid} after {killed.seconds:.1f} s")
        left = client.handle(RUN_ID).describe()
        self._say(f"left       a run that is {left.status}: {len(killed.history)} events, {len(left.open)} open steps")
        return killed

    def _resume(self, client: Client, killed: Killed) -> Resumed:
        self._stage("3. Resumed in a new process")
        self._say("The same line of code again takes the run up where its history ends:")
        self._show(f'dramaturg.run(textstats.options(id="{RUN_ID}"), folder, output, {self._job.limit})')
        resumed = resume(self._job, client, killed)
        self._say(
            f"resumed    by process {resumed.pid}: its first new outcome {resumed.first_outcome:.2f} s after its start"
        )
        self._say(f"           (Python's start and imports included), all done after {resumed.seconds:.1f} s")
        is_same = _reports(self._output) == _reports(self._job.output)
        same = "the same as" if is_same else "different from (were files changed meanwhile?)"
        self._say(f"report     {same} that of the undisturbed run")
        return resumed

    def _prove(self, killed: Killed, resumed: Resumed) -> bool:
        self._stage("4. The proof")
        evidence = evidence_of(self._job, killed, resumed)
        claims = evidence.claims()
        print_proof(self._console, evidence.rows(), claims)
        self._say(
            "A step that was running may have done its work without anybody knowing, so it runs again: at-least-once; "
            "by its idempotency key the outside world can tell a repeat. What had finished does not run again. "
            "(common_words stands three times in the ledger: its first two attempts fail on purpose.)"
        )
        return all(claim.holds for claim in claims)

    def _say_where(self) -> None:
        self._stage("Look around")
        for name in ("report.txt", "report.json", "resumed/ledger.jsonl", "demo.db"):
            self._show(_shown(self._output / name))
        for arguments in ("list", f"events {RUN_ID}"):
            self._show(self._command(arguments))

    def _command(self, arguments: str) -> str:
        url = _url(_shown(self._database))
        return f"DRAMATURG_DATABASE_URL={shlex.quote(url)} {_program()} {arguments}"

    def _stage(self, title: str) -> None:
        self._say(f"\n{title}", style="bold cyan")

    def _say(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False)

    def _show(self, line: object) -> None:
        # To be copied: never broken, never read as markup.
        self._console.print(f"  {line}", markup=False, soft_wrap=True)


def default_folder() -> Path:
    """Dramaturg's own checkout; where it is installed without one, Python's standard library."""
    checkout = Path(dramaturg.__file__).resolve().parents[1]
    return checkout if (checkout / "pyproject.toml").is_file() else Path(sysconfig.get_path("stdlib"))


def _is_ours(marker: Path) -> bool:
    return marker.is_file() and marker.read_text(encoding="utf-8", errors="replace") == MARKER


def _url(database: Path) -> str:
    return str(URL.create("sqlite", database=str(database)))


def _reports(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("report.txt", "report.json")]


def _shown(path: Path) -> Path:
    """As short as it can be typed here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _program() -> str:
    beside = Path(sys.executable).with_name("dramaturg")
    found = shutil.which("dramaturg")
    is_on_path = found is not None and Path(found).parent == beside.parent
    return "dramaturg" if is_on_path else shlex.quote(os.fspath(_shown(beside)))
