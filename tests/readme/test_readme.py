"""README.md and the guides, done as they say: from the built wheel, in an environment that holds nothing else.

Each block is a file or commands, in the order of the document: code with a file name on its first line is that file,
console blocks are run, and what they show has to be printed. What serves goes on in the background to the end.

Blocks marked ``fleet`` need a database server and a Redis. They are done in a test of their own, where these answer
(``TEST_POSTGRES_URL``, ``TEST_REDIS_URL``), in a database and a namespace of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from dramaturg_protocol.redis_client import connect
from tests.environments import environment_of
from tests.readme.documents import Block, Command, blocks_of
from tests.services import a_database, a_namespace, delete_keys, needs

pytestmark = [pytest.mark.wheel, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "docs/quickstart.md"]
FLEET_DOCUMENTS = ["README.md", "docs/guide/running-a-fleet.md", "docs/guide/existing-dramatiq-applications.md"]
SERVES = ("dramaturg dev ", "dramaturg coordinator ", "dramaturg worker ", "dramatiq ")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and its dependencies: what `pip install .` gives."""
    return environment_of(tmp_path_factory)


@pytest.fixture(scope="session")
def fleet_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install '.[postgres]'` gives."""
    return environment_of(tmp_path_factory, "[postgres]")


class Reader:
    """Somebody who does what a document says, in a folder of their own.

    Parameters:
      services: environment variables that say where services are, instead of what the document says.
    """

    def __init__(self, environment: Path, folder: Path, services: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._services = services or {}
        own = {name: value for name, value in os.environ.items() if not name.startswith(("DRAMATURG_", "PYTHON"))}
        path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
        # Unbuffered, as in a terminal: a process that is killed has printed what it printed.
        self._environ = {**own, "PATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **self._services}
        self._serving: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def follow(self, block: Block) -> None:
        """Do one block."""
        if block.language == "python":
            assert block.file_name is not None, f"line {block.line}: this code has no file name on its first line"
            (self._folder / block.file_name).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            for command in block.commands:
                self._do(command, block)
        else:
            raise AssertionError(f"line {block.line}: a block of {block.language!r} is neither code nor commands")

    def end(self) -> None:
        """Stop what was left running, as Ctrl-C in its terminal does."""
        for process, draining in self._serving:
            process.terminate()
            with process:
                draining.join(30)
            assert process.returncode == 0

    def _do(self, command: Command, block: Block) -> None:
        if command.line.startswith("make "):
            assert command.line.split()[1] in make_targets()
        elif command.line.startswith("pip install "):
            # Done: it is what the environments were made with.
            assert command.line in ("pip install .", "pip install '.[postgres]'")
        elif command.line.startswith("export "):
            name, _, value = command.line.removeprefix("export ").partition("=")
            self._environ[name] = self._services.get(name, value)
        elif command.line.startswith(SERVES):
            self._serve(command, block)
        else:
            self._run(command, block)

    def _run(self, command: Command, block: Block) -> None:
        result = subprocess.run(
            ["/bin/sh", "-c", command.line],
            cwd=self._folder,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        code = result.returncode if result.returncode >= 0 else 128 - result.returncode
        where = f"line {block.line}: $ {command.line}\n{result.stdout}"
        assert code == block.exit_code, where
        assert command.missing_from(result.stdout) is None, f"{where}\nmissing: {command.missing_from(result.stdout)}"

    def _serve(self, command: Command, block: Block) -> None:
        process = subprocess.Popen(
            command.line.split(),
            cwd=self._folder,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        printed = ""
        while command.missing_from(printed) is not None:
            line = process.stdout.readline()
            assert line, f"line {block.line}: $ {command.line}\n{printed}"
            printed += line
        draining = threading.Thread(target=process.stdout.read, daemon=True)
        draining.start()
        self._serving.append((process, draining))


@contextmanager
def reading(
    environment: Path, folder: Path, services: Mapping[str, str] | None = None
) -> Generator[Reader, None, None]:
    reader = Reader(environment, folder, services)
    try:
        yield reader
    finally:
        reader.end()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_reader_who_does_what_it_says_sees_what_it_shows(document: str, environment: Path, tmp_path: Path) -> None:
    blocks = [block for block in blocks_of(ROOT / document) if not block.needs_services]

    with reading(environment, tmp_path) as reader:
        for block in blocks:
            reader.follow(block)

    assert len(blocks) > 5


@pytest.fixture
def services() -> Generator[dict[str, str], None, None]:
    """A database of our own and a namespace in Redis, as environment variables."""
    redis_url, namespace = needs("redis"), a_namespace()
    with a_database("postgresql") as database_url:
        yield {
            "DRAMATURG_DATABASE_URL": database_url,
            "DRAMATURG_BROKER_URL": redis_url,
            "DRAMATURG_NAMESPACE": namespace,
        }
    with connect(redis_url) as client:
        delete_keys(client, namespace)


@pytest.mark.parametrize("document", FLEET_DOCUMENTS)
def test_a_reader_who_has_services_sees_a_fleet_as_it_is_shown(
    document: str, fleet_environment: Path, services: dict[str, str], tmp_path: Path
) -> None:
    blocks = blocks_of(ROOT / document)

    with reading(fleet_environment, tmp_path, services) as reader:
        for block in blocks:
            if block.needs_services or (block.language == "python" and block.file_name is not None):
                reader.follow(block)

    assert sum(block.needs_services for block in blocks) > 2
