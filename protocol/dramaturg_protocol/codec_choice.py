"""From the settings ``CODEC`` and ``ENCRYPTION_KEYS`` to the codec of this process."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any, Final

from dramaturg_protocol.encryption import FernetCodec
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.modules import import_modules
from dramaturg_protocol.sealing import Codec, codec_identity, use_codec

FERNET: Final = "fernet"


def choose_codec(name: str | None, keys: Sequence[str] = ()) -> None:
    """Encode with the codec that the settings name from now on; nothing where they name none.

    Parameters:
      name: ``fernet``, or ``module:object``.

    Raises:
      ConfigurationError: there is none of that name, it lacks something, or this process has another one.
    """
    if name is None:
        if keys:
            raise ConfigurationError(
                'DRAMATURG_ENCRYPTION_KEYS is set, and nothing is encrypted: set DRAMATURG_CODEC="fernet" too'
            )
        return
    identity = (name, *keys)
    if codec_identity() != identity:
        use_codec(FernetCodec(keys) if name == FERNET else _imported(name, keys), identity)


def _imported(path: str, keys: Sequence[str]) -> Codec:
    module, separator, name = path.partition(":")
    if not separator or not module or not name:
        raise ConfigurationError(f'DRAMATURG_CODEC = {path!r}: it is "fernet", or MODULE:NAME like myapp.codec:codec')
    if keys:
        raise ConfigurationError(
            f'DRAMATURG_ENCRYPTION_KEYS are for DRAMATURG_CODEC="fernet"; {path!r} has its keys from elsewhere'
        )
    import_modules([module])
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise ConfigurationError(f"DRAMATURG_CODEC = {path!r}: module {module!r} has no {name!r}")
    if inspect.isclass(found) or inspect.isfunction(found):
        found = found()
    codec: Codec = found
    return codec
