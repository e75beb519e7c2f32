"""`Settings`: where values come from, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dramaturg import RetryPolicy
from dramaturg_protocol.config import DEFAULT_DATABASE_URL, TO_COME, load_settings
from dramaturg_protocol.errors import ConfigurationError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_anything_there_are_defaults() -> None:
    settings = load_settings()

    assert settings.database_url == DEFAULT_DATABASE_URL
    assert (settings.broker_url, settings.namespace) == ("memory://", "dramatiq")
    assert settings.modules == []
    assert settings.max_payload == 4 * 1024 * 1024
    assert settings.history_log_level == "WARNING"


def test_values_come_from_arguments_then_environment_then_the_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pyproject.toml").write_text(
        '[tool.dramaturg]\nnamespace = "project"\nmax_payload = "1MiB"\nmodules = ["a"]\n'
    )
    assert load_settings().namespace == "project"
    (folder / "dramaturg.toml").write_text('namespace = "file"\n[step]\nretries = 3\n[queue.gpu]\ntimeout = "1h"\n')
    assert load_settings().namespace == "file"
    monkeypatch.setenv("DRAMATURG_NAMESPACE", "environment")
    assert load_settings().namespace == "environment"

    settings = load_settings(namespace="argument", database_url=None)

    assert settings.namespace == "argument"
    assert settings.max_payload == 1024 * 1024
    assert settings.modules == ["a"]
    assert settings.step["retries"].max_attempts == 4
    assert settings.queue["gpu"]["timeout"] == timedelta(hours=1)


def test_a_retry_policy_stands_in_a_file(folder: Path) -> None:
    (folder / "dramaturg.toml").write_text('[step.retries]\nmax_attempts = 2\ninitial = "3s"\n')

    assert load_settings().step["retries"] == RetryPolicy(max_attempts=2, initial="3s")


@pytest.mark.parametrize("text", ["a,b", "a b", " a , b ", "a,,b"])
def test_modules_are_a_list_in_the_environment(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAMATURG_MODULES", text)

    assert load_settings().modules == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('databse_url = "x"', "there is no setting 'databse_url'"),
        ('max_payload = "plenty"', "MAX_PAYLOAD"),
        ('history_log_level = "LOUD"', "must be one of"),
        ('namespace = "white space"', "NAMESPACE"),
        ("partitions = 0", "PARTITIONS"),
        ("[step]\nretires = 1", "retires"),
        ('[step]\ntimeout = "soon"', "soon"),
        ("[step.retries]\nmax_attempt = 2", "max_attempt"),
        ("[queue.gpu]\nretires = 1", "tool.dramaturg.queue.gpu"),
    ],
)
def test_a_wrong_setting_is_named(folder: Path, text: str, words: str) -> None:
    (folder / "dramaturg.toml").write_text(text)

    with pytest.raises(ConfigurationError, match=words):
        load_settings()


def test_a_file_that_is_no_toml_is_named(folder: Path) -> None:
    (folder / "dramaturg.toml").write_text("this = is = no toml")

    with pytest.raises(ConfigurationError, match=r"dramaturg\.toml"):
        load_settings()


@pytest.mark.parametrize("name", TO_COME)
def test_a_setting_that_is_not_obeyed_yet_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"DRAMATURG_{name}", "1")

    with pytest.raises(ConfigurationError, match=name):
        load_settings()


@pytest.mark.parametrize("name", TO_COME)
def test_a_setting_that_is_not_obeyed_yet_is_an_error_in_a_file_too(folder: Path, name: str) -> None:
    (folder / "dramaturg.toml").write_text(f'{name.lower()} = "1"\n')

    with pytest.raises(ConfigurationError, match=name.lower()):
        load_settings()


def test_a_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAMATURG_DATABSE_URL", "sqlite://")

    with pytest.raises(ConfigurationError, match="DRAMATURG_DATABSE_URL; did you mean DRAMATURG_DATABASE_URL"):
        load_settings()


def test_a_variable_of_somebody_elses_under_our_prefix_is_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAMATURG_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("DRAMATURG_PORT", "tcp://10.0.0.1:80")

    load_settings()
