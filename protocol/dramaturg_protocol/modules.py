"""The modules of an application: importing them registers its workflows, steps and lifespans."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from dramaturg_protocol.errors import ConfigurationError


def import_modules(names: Iterable[str]) -> None:
    """Import the modules that define workflows and steps; the current folder is on the path.

    Raises:
      ConfigurationError: one cannot be imported; the cause is the error.
    """
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and name.split(".")[0] == error.name.split(".")[0]:
                raise ConfigurationError(
                    f"there is no module {name!r} on the path or in {Path.cwd()}: give the name of a Python module, "
                    f"like 'orders' for orders.py"
                ) from error
            raise ConfigurationError(f"module {name!r} cannot be imported: {error}") from error
        except Exception as error:
            raise ConfigurationError(f"module {name!r} cannot be imported: {type(error).__name__}: {error}") from error
