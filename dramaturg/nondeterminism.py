"""What workflow code must not call, and what it calls instead. Nothing here is imported that Python did not load."""

from __future__ import annotations

import os
import random
from typing import Final

_NOW = "use dramaturg.now()"
_MEASURE = "use dramaturg.now(), or measure in a step"
_RANDOM = "use dramaturg.random(), a random.Random that is the same on replay"
_DRAWN = "make it in a step, or in side_effect()"
_UUID = "use dramaturg.uuid4()"
_FILES = "do it in a step (@step, or @step(local=True) for a short one)"
_NETWORK = "do it in a step: a step may be tried again, and its result is recorded"
_THREADS = "run steps at once with asyncio.gather() or fan_out(); threads go into a step"
_PROCESS = "run it in a step"
ENVIRON: Final = "pass what changes as an argument to a step; another coordinator does not see it"

#: What is called by another name than the one under which people know it.
CALLS: Final[dict[int, str]] = {
    id(open): "builtins.open",
    id(os.environ): "os.environ",
    **{
        id(method): f"random.{name}"
        for name, method in vars(random).items()
        if getattr(method, "__self__", None) is not None and not name.startswith("_")
    },
}

_EXACT: Final[dict[str, str]] = {
    **dict.fromkeys((f"time.{name}" for name in ("time", "time_ns")), _NOW),
    **dict.fromkeys(
        (
            f"time.{name}"
            for name in ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "thread_time")
        ),
        _MEASURE,
    ),
    **dict.fromkeys((f"time.{name}" for name in ("localtime", "gmtime", "ctime")), _NOW),
    "time.sleep": "use dramaturg.sleep(), which is durable and holds no thread",
    **dict.fromkeys((f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")), _NOW),
    "datetime.date.today": "use dramaturg.now().date()",
    "random.SystemRandom": _RANDOM,
    **dict.fromkeys(("uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7"), _UUID),
    **dict.fromkeys(("os.urandom", "os.getrandom"), _DRAWN),
    "builtins.open": _FILES,
    "io.open": _FILES,
    "builtins.input": "wait for a person with wait_signal() or approval()",
    **dict.fromkeys(
        (
            f"os.{name}"
            for name in (
                *("listdir", "scandir", "walk", "stat", "mkdir", "makedirs", "remove", "unlink", "rename", "replace"),
                *("rmdir", "removedirs", "chdir", "getcwd", "open", "link", "symlink", "chmod", "utime"),
            )
        ),
        _FILES,
    ),
    **dict.fromkeys(
        (
            f"pathlib.Path.{name}"
            for name in (
                *("read_text", "write_text", "read_bytes", "write_bytes", "open", "unlink", "mkdir", "rmdir", "touch"),
                *(
                    "exists",
                    "is_file",
                    "is_dir",
                    "stat",
                    "iterdir",
                    "glob",
                    "rglob",
                    "rename",
                    "replace",
                    "cwd",
                    "home",
                ),
            )
        ),
        _FILES,
    ),
    **dict.fromkeys(("os.putenv", "os.unsetenv"), ENVIRON),
    **dict.fromkeys(("os.system", "os.popen", "os.fork", "os.kill", "os.abort", "os._exit"), _PROCESS),
    **dict.fromkeys(
        ("asyncio.to_thread", "asyncio.threads.to_thread", "asyncio.run", "asyncio.runners.run"),
        "do the work in a step, which runs on a worker's thread",
    ),
    **dict.fromkeys(("asyncio.open_connection", "asyncio.streams.open_connection", "asyncio.start_server"), _NETWORK),
    **dict.fromkeys(
        (f"asyncio.{part}create_subprocess_{kind}" for part in ("", "subprocess.") for kind in ("exec", "shell")),
        _PROCESS,
    ),
    **dict.fromkeys(
        ("asyncio.as_completed", "asyncio.tasks.as_completed"),
        "use dramaturg.as_completed(): the order of asyncio's own differs for plain coroutines",
    ),
}

# Whole modules; the longest name that fits decides, and an empty advice takes something out.
_MODULES: Final[dict[str, str]] = {
    "random": _RANDOM,
    "random.Random": "",
    "secrets": _DRAWN,
    "threading": _THREADS,
    "threading.local": "",
    "_thread": _THREADS,
    "concurrent.futures": _THREADS,
    "multiprocessing": _THREADS,
    "subprocess": _PROCESS,
    "shutil": _FILES,
    "tempfile": _FILES,
    "glob": _FILES,
    **dict.fromkeys(
        (
            *(
                "requests",
                "httpx",
                "aiohttp",
                "urllib.request",
                "urllib3",
                "http.client",
                "socket",
                "smtplib",
                "ftplib",
            ),
            *(
                "sqlite3",
                "psycopg",
                "psycopg2",
                "asyncpg",
                "pymysql",
                "MySQLdb",
                "redis",
                "pymongo",
                "boto3",
                "botocore",
            ),
            *("websockets", "grpc", "paramiko", "openai", "anthropic"),
        ),
        _NETWORK,
    ),
    "httpx.URL": "",
    "httpx.Timeout": "",
    "httpx.codes": "",
    "requests.codes": "",
}


def advice_on(name: str) -> str:
    """What to do instead of calling the function or class of a dotted name; empty where it may be called."""
    exact = _EXACT.get(name)
    if exact is not None:
        return exact
    part = name
    while part:
        if part in _MODULES:
            is_error = name.rpartition(".")[2].endswith(("Error", "Exception", "Warning"))
            return "" if is_error else _MODULES[part]
        part = part.rpartition(".")[0]
    return ""
