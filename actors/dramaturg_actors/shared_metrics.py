"""Metrics of a process tree, shown by its parent: a folder of files that every child writes and the parent adds up.

This is prometheus_client's multiprocess mode, with what it leaves open settled here:

- the folder is new and private for each tree, so that no files of a tree before or beside it are added in;
- it is where Dramatiq's own ``Prometheus`` middleware writes too, and whatever else a step's code counts with
  prometheus_client: the parent shows all of it;
- a gauge of what runs now is the sum over the children that live; a child that died is taken out of it. Counters and
  histograms keep what a dead child counted, so that they never fall.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_DRAMATIQS_FOLDER: Final = "dramatiq_prom_db"


class SharedMetrics:
    """The metrics of this process's children. Make it before the first child, and before anything counts.

    It sets the environment of this process and so of its children, whether they come by fork or by spawn; in a child
    every metric of prometheus_client is shared then.

    Attributes:
      folder: where the children write.
    """

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix=f"dramaturg-metrics-{os.getpid()}-")
        self._before = {name: os.environ.get(name) for name in (_FOLDER, _DRAMATIQS_FOLDER)}
        os.environ[_FOLDER] = os.environ[_DRAMATIQS_FOLDER] = self.folder
        _choose_again()

    def registry(self) -> CollectorRegistry:
        """What the parent shows."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=self.folder)  # type: ignore[no-untyped-call]
        return registry

    def forget_process(self, pid: int) -> None:
        """A child ended: what it had running runs no more."""
        from prometheus_client.multiprocess import mark_process_dead  # pyright: ignore[reportUnknownVariableType]

        mark_process_dead(pid, path=self.folder)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Delete the folder and restore the environment, once no child lives."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _choose_again()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _choose_again() -> None:
    """Let prometheus_client choose how it keeps values from now on; it does so once, when it is imported."""
    from prometheus_client import values

    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
