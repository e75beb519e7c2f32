"""Settings: from the environment (``DRAMATURG_…``), ``dramaturg.toml``, or ``[tool.dramaturg]`` in ``pyproject.toml``."""

from __future__ import annotations

import difflib
import logging
import os
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ByteSize, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from dramaturg_protocol.codec_choice import choose_codec
from dramaturg_protocol.durations import parse_duration
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.options import check_call_options
from dramaturg_protocol.retries import RetryPolicy

DEFAULT_DATABASE_URL = "sqlite:///.dramaturg/dramaturg.db"
DEFAULT_MAX_PAYLOAD = 4 * 1024 * 1024
DEFAULT_MAX_HISTORY = 50_000
DEFAULT_LEASE_TIME = timedelta(seconds=15)
SHORTEST_LEASE, LONGEST_LEASE = timedelta(seconds=1), timedelta(minutes=10)

#: Known to the contract, not obeyed by this version: set, they are an error, never ignored.
TO_COME = (
    "SECRET_KEYS",
    "API_TOKENS",
    "WEBHOOKS",
)


def _split(value: Any) -> Any:
    return [part for part in value.replace(",", " ").split() if part] if isinstance(value, str) else value


def _level(value: Any) -> Any:
    name = value.upper() if isinstance(value, str) else value
    if name not in logging.getLevelNamesMapping():
        raise ValueError(f"must be one of {', '.join(logging.getLevelNamesMapping())}")
    return name


def _public_url(value: Any) -> str | None:
    if value is None or value == "":
        return None
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be a URL like https://flows.example.com, with a path if need be")
    return str(value).rstrip("/")


def _lease_time(value: Any) -> timedelta:
    try:
        duration = parse_duration(value)
    except TypeError as error:
        raise ValueError(str(error)) from None
    if not SHORTEST_LEASE <= duration <= LONGEST_LEASE:
        raise ValueError("must be from 1s to 10m")
    return duration


def _retention(value: Any) -> timedelta | None:
    if value is None or value == "":
        return None
    try:
        duration = parse_duration(value)
    except TypeError as error:
        raise ValueError(str(error)) from None
    if not duration:
        raise ValueError("must be longer than zero; leave it out to keep all runs")
    return duration


class Settings(BaseSettings):
    """Everything that can be set.

    Attributes:
      database_url: where runs are kept; ``sqlite://`` is a private file that goes with the process.
      broker_url: how steps reach workers: ``redis://…`` or ``amqp://…``; ``memory://`` stays inside one process.
      broker: ``module:name`` of a Dramatiq broker that the application has already, or of a callable that gives one;
        it comes before `broker_url`, and its namespace before `namespace` in the keys of Redis.
      namespace: prefix of keys and tag of rows, so that several systems can share a database.
      partitions: how many an empty database gets; read by ``db upgrade`` only.
      modules: Python modules that define workflows and steps.
      max_payload: bytes that one argument list or result may take, encoded.
      max_history: events of one run: there it is paused, to be resumed for as many again; at a fifth a warning is logged
        and stands in its history.
      codec: what values are encoded by before Redis or the database sees them: ``fernet`` encrypts with
        `encryption_keys`, ``module:object`` is one of your own; one in a process.
      encryption_keys: Fernet keys, as a list or with commas between them: the first encrypts, all of them decrypt.
      lease_time: how soon another coordinator takes over from one that is gone, on a database server; the same for all
        coordinators of a namespace.
      retention: closed runs that ended longer ago than that are deleted with their histories, by the coordinator; ``None``
        keeps them, but for what ``dramaturg db prune`` is told.
      history_log_level: records of a workflow's logger from this level on are events of its history.
      log_format: of the records that the commands write to stderr: ``text`` for people, ``json`` for machines.
      metrics_port: where a process that serves answers ``/metrics``, ``/healthz`` and ``/readyz``; 0 for nowhere,
        ``None`` for the default of its role.
      public_url: where people reach the web page, like ``https://flows.example.com``: links to approvals and hooks begin
        with it.
      step: defaults of step options for the project.
      queue: defaults of step options by queue.
    """

    model_config = SettingsConfigDict(
        env_prefix="DRAMATURG_",
        toml_file="dramaturg.toml",
        pyproject_toml_table_header=("tool", "dramaturg"),
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    database_url: str = DEFAULT_DATABASE_URL
    broker_url: str = "memory://"
    broker: str | None = None
    namespace: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")] = "dramatiq"
    partitions: Annotated[int | None, Field(ge=1, le=4096)] = None
    modules: Annotated[list[str], NoDecode, BeforeValidator(_split)] = Field(default_factory=list)
    max_payload: ByteSize = ByteSize(DEFAULT_MAX_PAYLOAD)
    max_history: Annotated[int, Field(ge=100)] = DEFAULT_MAX_HISTORY
    codec: str | None = None
    encryption_keys: Annotated[list[SecretStr], NoDecode, BeforeValidator(_split)] = Field(
        default_factory=list[SecretStr]
    )
    lease_time: Annotated[timedelta, BeforeValidator(_lease_time)] = DEFAULT_LEASE_TIME
    retention: Annotated[timedelta | None, BeforeValidator(_retention)] = None
    history_log_level: Annotated[str, BeforeValidator(_level)] = "WARNING"
    log_format: Literal["text", "json"] = "text"
    metrics_port: Annotated[int | None, Field(ge=0, le=65535)] = None
    public_url: Annotated[str | None, BeforeValidator(_public_url)] = None
    step: dict[str, Any] = Field(default_factory=dict)
    queue: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("step")
    @classmethod
    def _check_step(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _defaults(value, "[tool.dramaturg.step]")

    @field_validator("queue")
    @classmethod
    def _check_queue(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: _defaults(options, f"[tool.dramaturg.queue.{name}]") for name, options in value.items()}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments before the environment before ``dramaturg.toml`` before ``pyproject.toml``."""
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls),
            PyprojectTomlConfigSettingsSource(settings_cls),
        )


def _defaults(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    retries = options.get("retries")
    if "exactly_once" in options:
        raise ValueError(f"{where}: option exactly_once is set at @step, where workers find the engine")
    try:
        if isinstance(retries, dict):
            options = {**options, "retries": RetryPolicy(**cast("dict[str, Any]", retries))}
        return check_call_options(options, where)
    except TypeError as error:
        raise ValueError(str(error)) from None


def load_settings(**overrides: Any) -> Settings:
    """Read the settings of this process.

    Parameters:
      overrides: values that come before all sources; ``None`` means not given.

    Raises:
      ConfigurationError: a setting has a wrong value, is unknown, or is not obeyed by this version; or the codec that
        they name cannot be used.
    """
    for name in TO_COME:
        if os.environ.get(f"DRAMATURG_{name}"):
            raise ConfigurationError(f"DRAMATURG_{name} is set, and this version does not obey it yet: unset it")
    _refuse_misspelt(os.environ)
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"dramaturg.toml or pyproject.toml cannot be read: {error}") from error
    except ValidationError as error:
        raise ConfigurationError("; ".join(_setting_error(detail) for detail in error.errors())) from None
    use_codec_of(settings)
    return settings


def use_codec_of(settings: Settings) -> None:
    """Encode values as the settings say, from now on, in the whole process; nothing where they name no codec.

    Raises:
      ConfigurationError: the codec is not there, lacks something, or this process has another one.
    """
    choose_codec(settings.codec, [key.get_secret_value() for key in settings.encryption_keys])


def _refuse_misspelt(environ: Mapping[str, str]) -> None:
    # Others may have variables under our prefix: Kubernetes makes some for a service of our name.
    known = {f"DRAMATURG_{name.upper()}" for name in Settings.model_fields}
    for name in environ:
        if name.startswith("DRAMATURG_") and name not in known:
            meant = difflib.get_close_matches(name, known, 1, 0.9)
            if meant:
                raise ConfigurationError(f"there is no setting {name}; did you mean {meant[0]}?")


def _setting_error(detail: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"there is no setting {name!r}"
    value = "(not shown)" if name.startswith("encryption_keys") else repr(detail["input"])
    return f"DRAMATURG_{name.upper()} = {value}: {detail['msg']}"
