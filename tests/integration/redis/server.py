"""A Redis server of a test's own, on a free port."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import redis
from redis.backoff import ConstantBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry

from dramaturg_protocol.redis_client import connect


class RedisServer:
    """Started at once; keeps every write in a file, so that a restart finds all of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = int(taken.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self._folder,
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
        }
        command = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        patient: Any = self.patient_client()
        patient.ping()
        patient.close()

    def kill(self) -> None:
        """End it without a warning."""
        self._process.kill()
        self._process.wait(10)

    def client(self) -> redis.Redis:
        """A client as the engine makes it."""
        return connect(self.url)

    def patient_client(self) -> redis.Redis:
        """A client for a test, which goes on where a connection is refused or cut, or the server still loads."""
        patience: Any = Retry(ConstantBackoff(0.02), 500)
        return redis.Redis(port=self.port, retry=patience, retry_on_error=[redis.ConnectionError, BusyLoadingError])
