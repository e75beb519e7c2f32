"""What tells code from other code: short hashes, the same in every process that serves the same."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType
from typing import Any, cast

# Ours is the same wherever the version is, and what is loaded of it differs between commands.
_NOT_THEIRS = ("dramaturg", "builtins")


def fingerprint_of(fn: Callable[..., Any], document: str = "") -> str:
    """A short hash of a function's code, names and constants, and of what else says what it does."""
    digest = hashlib.sha256(document.encode())
    code = getattr(inspect.unwrap(fn), "__code__", None)
    if code is not None:
        _digest_code(code, digest.update)
    return digest.hexdigest()[:16]


def fingerprint_of_modules(functions: Iterable[Callable[..., Any]]) -> str:
    """A short hash of the loaded files of the packages that functions are from: what they call is a part of their code."""
    packages = {str(getattr(fn, "__module__", "")).partition(".")[0] for fn in functions}
    digest = hashlib.sha256()
    for name, module in sorted(sys.modules.items()):
        package = name.partition(".")[0]
        file = getattr(module, "__file__", None)
        if package in packages and package not in _NOT_THEIRS and isinstance(file, str) and file.endswith(".py"):
            digest.update(f"{name}\0".encode())
            digest.update(_content(Path(file)))
    return digest.hexdigest()[:16]


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # in an archive, or gone since
        return b""


def _digest_code(code: CodeType, update: Callable[[bytes], None]) -> None:
    update(code.co_code)
    update(repr(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _digest_code(constant, update)
        elif isinstance(constant, frozenset):
            # In an order of their own in each process, since text hashes differently in each.
            update(repr(sorted(map(repr, cast("frozenset[object]", constant)))).encode())
        else:
            update(repr(constant).encode())
