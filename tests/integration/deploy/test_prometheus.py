"""A real Prometheus scrapes a real `dramaturg dev`: every panel gets an answer, and no rule is refused.

Runs where DRAMATURG_TEST_PROMETHEUS=1 says so and Prometheus is installed.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dramaturg import Client
from dramaturg_protocol.config import Settings
from tests.integration.deploy.expressions import DEPLOY, Expression, alerts, panels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("DRAMATURG_TEST_PROMETHEUS") != "1", reason="set DRAMATURG_TEST_PROMETHEUS=1"),
    pytest.mark.timeout(180),
]

LOAD = 40


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Generator[str, None, None]:
    """The URL of a Prometheus that scrapes a `dramaturg dev` with some work behind it."""
    binary = shutil.which("prometheus")
    assert binary is not None, "install prometheus"
    folder = tmp_path_factory.mktemp("prometheus")
    metrics, port = free_port(), free_port()
    config = (DEPLOY / "prometheus.yml").read_text().replace("10s", "1s")
    (folder / "prometheus.yml").write_text(config)
    shutil.copyfile(DEPLOY / "rules.yml", folder / "rules.yml")
    (folder / "targets").mkdir()
    targets = [{"targets": [f"localhost:{metrics}"], "labels": {"role": "coordinator"}}]
    (folder / "targets" / "dev.yml").write_text(json.dumps(targets))
    environment = os.environ | {
        "DRAMATURG_DATABASE_URL": f"sqlite:///{folder}/d.db",
        "DRAMATURG_METRICS_PORT": str(metrics),
        "PYTHONPATH": str(DEPLOY),
    }
    dev = [sys.executable, "-m", "dramaturg", "dev", "parcels"]
    server = [
        binary,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with process(dev, folder, environment), process(server, folder, environment):
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: answer(url, 'up{job="dramaturg"} == 1'))
        with Client(Settings(database_url=environment["DRAMATURG_DATABASE_URL"])) as client:
            handles = [client.start("parcel", f"p{number}") for number in range(LOAD) if wait_a_little()]
            for handle in handles:
                handle.result(timeout=60)
        yield url


@pytest.mark.parametrize("panel", list(panels()), ids=lambda each: each.where)
def test_every_panel_gets_an_answer(panel: Expression, prometheus: str) -> None:
    wait_for(lambda: answer(prometheus, panel.over("1m")))


@pytest.mark.parametrize("alert", list(alerts()), ids=lambda each: each.where)
def test_every_alert_is_taken(alert: Expression, prometheus: str) -> None:
    answer(prometheus, alert.text)
    rules: Any = ask(prometheus, "/api/v1/rules")
    known = {rule["name"]: rule["health"] for group in rules["groups"] for rule in group["rules"]}
    wait_for(lambda: known[alert.where] in ("ok", "unknown"))


def wait_a_little() -> bool:
    """So that a counter is scraped between two steps of the same kind."""
    return not threading.Event().wait(0.2)


def answer(url: str, expression: str) -> list[float]:
    """The numbers that an expression gives, without those that are none."""
    found: Any = ask(url, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
    values = [float(each["value"][1]) for each in found["result"]]
    return [value for value in values if not math.isnan(value)]


def ask(url: str, path: str) -> Any:
    try:
        with urllib.request.urlopen(url + path, timeout=5) as response:
            return json.load(response)["data"]
    except urllib.error.HTTPError as error:
        if error.code == 503:  # not ready yet
            return {"result": []}
        raise
    except urllib.error.URLError:
        return {"result": []}


def wait_for(is_so: Callable[[], object], seconds: float = 30.0) -> None:
    due = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < due, "no answer in time"
        threading.Event().wait(0.25)


@contextmanager
def process(command: list[str], folder: Path, environment: dict[str, str]) -> Generator[None, None, None]:
    with (
        (folder / f"{Path(command[0]).name}.log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as running,
    ):
        try:
            yield
        finally:
            running.terminate()
            running.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
