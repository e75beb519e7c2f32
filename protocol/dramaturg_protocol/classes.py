"""Classes by name: how a payload says which dataclass, model or enum a value is of.

A name is ``module:qualname``. It is looked up in the dictionaries of modules and classes alone, so that reading a
payload runs no property and no ``__getattr__``; what is found must be a class, and its user checks of which kind.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, cast

_MAIN = "__main__"


def class_name(cls: type[Any]) -> str:
    """Give the name under which a class can be found again.

    Raises:
      LookupError: it cannot: the class is local to a function, or another object has its name.
    """
    name = _class_name(cast("Hashable", cls))
    if name is None:
        raise LookupError(f"{cls.__module__}.{cls.__qualname__} cannot be imported by that name")
    return name


def class_named(name: str) -> type[Any]:
    """Find a class by the name that ``class_name`` gave.

    Raises:
      LookupError: there is no such module or class.
    """
    found = _find(name)
    if not isinstance(found, type):
        raise LookupError(f"{name!r} is not a class")
    return found


@lru_cache(maxsize=1024)
def _class_name(cls: Any) -> str | None:
    name = f"{_public_module(cls.__module__)}:{cls.__qualname__}"
    if "[" in name:  # a parametrised model: it exists only where it was asked for
        return None
    try:
        return name if _find(name) is cls else None
    except LookupError:
        return None


def _find(name: str) -> object:
    module_name, _, qualname = name.partition(":")
    found: object = _module(module_name)
    for part in qualname.split("."):
        try:
            found = vars(found)[part]
        except (KeyError, TypeError):
            raise LookupError(f"module {module_name!r} has no {qualname!r}") from None
    return found


def _module(name: str) -> object:
    main = sys.modules.get(_MAIN)
    if name == _public_module(_MAIN) and main is not None:
        return main
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the module's own code raises
        raise LookupError(f"module {name!r} cannot be imported: {type(error).__name__}: {error}") from error


def _public_module(name: str) -> str:
    """The name that other processes know a module by: ``python -m app`` runs ``app`` as ``__main__``."""
    if name != _MAIN:
        return name
    spec = getattr(sys.modules.get(_MAIN), "__spec__", None)
    return spec.name if spec is not None else _MAIN
