"""What ``dramaturg worker`` refuses before it starts a process."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from dramaturg.cli.app import app
from dramaturg.cli.exits import USAGE

REDIS = {"DRAMATURG_BROKER_URL": "redis://127.0.0.1:1/0"}


def test_the_doctor_says_that_a_broker_does_not_answer(folder: object) -> None:
    result = CliRunner().invoke(app, ["doctor"], env={"DRAMATURG_BROKER_URL": "amqp://guest:guest@127.0.0.1:1/"})

    assert "RabbitMQ at 127.0.0.1:1 does not answer" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        (["orders"], {}, "use dramaturg dev"),
        ([], REDIS, "name a module to serve"),
        (["orders", "-Q", "a,b", "-Q", "c", "-X", "c,b,a"], REDIS, "nothing to serve"),
        (["orders", "-Q", "a b"], REDIS, "-Q: option queue"),
        (["orders", "--shutdown-timeout", "soon"], REDIS, "--shutdown-timeout"),
        (["orders"], {"DRAMATURG_BROKER_URL": "sqs://localhost"}, "any other Dramatiq broker is named by"),
    ],
)
def test_what_cannot_be_served_is_refused_with_advice(
    folder: object, arguments: list[str], environment: dict[str, str], text: str
) -> None:
    result = CliRunner().invoke(app, ["worker", *arguments], env=environment)

    assert result.exit_code == USAGE
    assert text in result.stderr
    assert len(result.stderr.splitlines()) == 1
