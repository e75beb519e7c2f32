"""Lifespans and the end of processes of isolated steps."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

WAIT = 120.0

STEPS = """
    import os
    from pathlib import Path
    from dramaturg import current_step, lifespan, step

    @lifespan
    def mine():
        yield {"opened_in": os.getpid()}
        Path("left").write_text(str(os.getpid()))

    @step(isolation="process")
    def where() -> tuple[int, int]:
        return os.getpid(), current_step().state["opened_in"]

    @step(isolation="process")
    def for_ever() -> None:
        Path("running.part").write_text(str(os.getpid()))
        os.rename("running.part", "running")
        while True:
            pass
"""


def run_script(folder: Path, script: str) -> subprocess.Popen[str]:
    (folder / "steps_of_it.py").write_text(textwrap.dedent(STEPS))
    (folder / "script.py").write_text(textwrap.dedent(script))
    env = {**os.environ, "DRAMATURG_DATABASE_URL": "sqlite://", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, "script.py"], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_each_process_enters_the_lifespans_and_leaves_them_with_its_worker(tmp_path: Path) -> None:
    script = run_script(
        tmp_path,
        """
        import os
        import dramaturg
        from dramaturg import workflow
        from steps_of_it import where

        @workflow
        async def flow() -> tuple[int, int]:
            return await where()

        if __name__ == "__main__":
            here, opened_in = dramaturg.run(flow)
            print(here == opened_in, here != os.getpid(), here)
        """,
    )
    said, errors = script.communicate(timeout=WAIT)

    same, elsewhere, pid = said.split() or ("", "", errors)
    assert (same, elsewhere) == ("True", "True"), errors
    assert not is_alive(int(pid))


def test_a_step_of_the_script_itself_is_found(tmp_path: Path) -> None:
    script = run_script(
        tmp_path,
        """
        import os
        import dramaturg
        from dramaturg import step, workflow

        @step(isolation="process")
        def where() -> int:
            return os.getpid()

        @workflow
        async def flow() -> int:
            return await where()

        if __name__ == "__main__":
            print(dramaturg.run(flow) != os.getpid())
        """,
    )
    said, errors = script.communicate(timeout=WAIT)

    assert said.strip() == "True", errors


def test_the_process_of_a_busy_step_is_gone_when_its_worker_is_killed(tmp_path: Path) -> None:
    script = run_script(
        tmp_path,
        """
        import dramaturg
        from dramaturg import workflow
        from steps_of_it import for_ever

        @workflow
        async def flow() -> None:
            await for_ever()

        if __name__ == "__main__":
            dramaturg.run(flow)
        """,
    )
    running = tmp_path / "running"
    for _ in range(int(WAIT / 0.05)):
        if running.exists() or script.poll() is not None:
            break
        threading.Event().wait(0.05)
    pid = int(running.read_text())
    assert is_alive(pid)

    script.kill()
    script.communicate(timeout=WAIT)

    for _ in range(int(WAIT / 0.05)):
        if not is_alive(pid):
            break
        threading.Event().wait(0.05)
    assert not is_alive(pid)
