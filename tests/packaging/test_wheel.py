"""What users install: the wheel, in an environment that holds nothing else."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.environments import environment_of, install, pip, run, wheel_of

pytestmark = [pytest.mark.wheel, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = [ROOT / package for package in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]

# Imports each module of each package, where the checkout cannot lend a hand.
IMPORT_EVERYTHING = """
import importlib, pathlib, pkgutil, sys
for room in sys.argv[1:]:
    package = importlib.import_module(room)
    assert pathlib.Path(package.__file__).is_relative_to(sys.prefix), package.__file__
    assert pathlib.Path(package.__file__).with_name("py.typed").is_file(), room
    for module in pkgutil.walk_packages(package.__path__, room + "."):
        if module.name.rpartition(".")[2] != "__main__" and ".migrations" not in module.name:
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                # A broker of an extra: nobody imports it before the extra was asked for, with a clear error. Its plugin
                # only pytest itself imports.
                missing = {"pika": ".rabbitmq_", "pytest": ".pytest_plugin"}
                assert missing.get(error.name, "?") in module.name, (module.name, error)
print("imported")
"""

# Asks for a database whose driver is an extra that is not installed, and prints the error.
ASK_FOR_DATABASE = """
import sys
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_store.engines import make_engine
try:
    make_engine(sys.argv[1])
except ConfigurationError as error:
    print(error)
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(tmp_path_factory)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment_of(tmp_path_factory)


def test_wheel_holds_every_file_of_every_room(wheel: Path) -> None:
    expected = {
        file.relative_to(room.parent).as_posix()
        for room in ROOMS
        for file in room.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }

    packed = set(zipfile.ZipFile(wheel).namelist())

    assert expected <= packed
    assert {name for name in packed if ".dist-info/" not in name} == expected


def test_wheel_is_marked_as_typed_in_every_room(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())

    assert {f"{room.name}/py.typed" for room in ROOMS} <= packed


def test_wheel_holds_the_migrations(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if "/migrations/" in name}

    assert any(name.endswith("/migrations/env.py") for name in packed)
    assert any("/migrations/versions/" in name and name.endswith(".py") for name in packed)


def test_wheel_carries_the_licence(wheel: Path) -> None:
    licences = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("licenses/LICENSE")]

    assert licences


def test_every_module_imports_without_a_word_in_an_empty_environment(environment: Path) -> None:
    printed = run(
        environment / "bin/python", "-I", "-W", "error", "-c", IMPORT_EVERYTHING, *[room.name for room in ROOMS], cwd=environment
    )  # fmt: skip

    assert printed == "imported\n"


def test_dependencies_of_the_wheel_agree_with_each_other(environment: Path) -> None:
    pip(environment, "check")


@pytest.mark.parametrize(
    ("url", "extra"),
    [
        ("postgresql://localhost/x", "dramaturg[postgres]"),
        ("mysql://localhost/x", "dramaturg[mysql]"),
        ("mariadb://localhost/x", "dramaturg[mysql]"),
    ],
)
def test_database_whose_driver_is_missing_names_the_extra(environment: Path, url: str, extra: str) -> None:
    printed = run(environment / "bin/python", "-I", "-c", ASK_FOR_DATABASE, url, cwd=environment)

    assert extra in printed
    assert "pip install" in printed


def test_pytest_finds_the_plugin_by_itself(environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(environment, "--target", tmp_path / "beside", "pytest")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "beside"))

    assert "workflow_env -- " in run(environment / "bin/python", "-m", "pytest", "--fixtures", "-q", cwd=tmp_path)


def test_command_line_answers_in_an_empty_environment(environment: Path) -> None:
    assert "Usage" in run(environment / "bin/dramaturg", "--help", cwd=environment)
