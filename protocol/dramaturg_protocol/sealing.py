"""The codec of a process: what turns values into what Redis and the database hold, and back.

There is one codec in a process, or none. It works where messages, events and rows become text (``encode_message``,
``encode_body``, ...): in memory values are as their code gave them, so that replay compares values and not what a
cipher made of them. What is sealed is JSON that says so, ``{"$type": "sealed", "text": "..."}``; whatever reads it
finds out by itself, so that values from before a codec was set stay readable.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic_core import from_json, to_json

from dramaturg_protocol.errors import ConfigurationError

_HEAD: Final = '{"$type":"sealed","'
#: What people are shown of a value that cannot be opened here.
ENCRYPTED: Final = "[encrypted]"
_PLAIN_DIGEST: Final = "sha256"


class Codec(Protocol):
    """What a ``CODEC`` has to have.

    Two attributes are optional. ``encrypts = True`` says that nobody reads what it made without its key: then values
    may hold ``SecretStr``. Such a codec has ``digest_keys`` too, a non-empty sequence of bytes: what identifies
    arguments under an idempotency key is made with them, so that it tells nothing of the arguments.
    """

    def encode(self, data: bytes, /) -> bytes:
        """Turn the text of a value into what is kept."""
        ...

    def decode(self, data: bytes, /) -> bytes:
        """Turn it back; any exception where it is not this codec's."""
        ...


class CannotOpen(ConfigurationError):
    """A value that was encoded by a codec which this process does not have, or with a key that it does not have."""


@dataclass(frozen=True, slots=True)
class _Active:
    """The codec in use.

    Attributes:
      identity: tells it from another one.
      digest_keys: as bytes, with a short name for each.
    """

    codec: Codec
    identity: object
    encrypts: bool
    digest_keys: tuple[tuple[str, bytes], ...]


_active: _Active | None = None


def use_codec(codec: Codec, identity: object) -> None:
    """Encode with this codec from now on, in the whole process.

    Parameters:
      identity: of the codec and its keys; setting the same one again changes nothing.

    Raises:
      ConfigurationError: another one is in use, or it lacks something.
    """
    global _active  # noqa: PLW0603 - one for the process, since steps and workflows are the process's too
    if _active is not None and _active.identity == identity:
        return
    if _active is not None:
        raise ConfigurationError("this process has another CODEC or other ENCRYPTION_KEYS already: it can have one")
    _active = _checked(codec, identity)


@contextmanager
def own_codec() -> Generator[None]:
    """Inside there is no codec but one that is set inside; for tests."""
    global _active  # noqa: PLW0603
    before, _active = _active, None
    try:
        yield
    finally:
        _active = before


def is_sealing() -> bool:
    """Whether there is a codec."""
    return _active is not None


def codec_identity() -> object:
    """What the codec in use was set with; ``None`` where there is none."""
    return _active.identity if _active is not None else None


def may_hold_secrets() -> bool:
    """Whether values may hold ``SecretStr`` and ``SecretBytes``: there is a codec, and it encrypts."""
    return _active is not None and _active.encrypts


def is_sealed(text: str) -> bool:
    """Whether a JSON text is something sealed."""
    return text.startswith(_HEAD)


def seal(text: str) -> str:
    """The sealed form of a JSON text, as JSON text; the same text where there is no codec."""
    if _active is None or is_sealed(text):
        return text
    data = _active.codec.encode(text.encode())
    try:
        words = data.decode("ascii")
        is_plain = words.isprintable() and '"' not in words and "\\" not in words
    except UnicodeDecodeError:
        words, is_plain = "", False
    if is_plain:
        return f'{_HEAD}text":"{words}"}}'
    return f'{_HEAD}base64":"{base64.b64encode(data).decode()}"}}'


def unseal(text: str) -> str:
    """What was sealed; a text that is not sealed is given back.

    Raises:
      CannotOpen: there is no codec here, or it is another one's.
    """
    if not is_sealed(text):
        return text
    if _active is None:
        raise CannotOpen("it is encoded by a CODEC, and none is set here: set DRAMATURG_CODEC (and its keys)")
    try:
        inside: dict[str, Any] = from_json(text)
        data = inside["text"].encode() if "text" in inside else base64.b64decode(inside["base64"])
        return _active.codec.decode(data).decode()
    except Exception as error:  # whatever a codec of somebody else's raises
        raise CannotOpen(
            f"the CODEC that is set here cannot decode it ({type(error).__name__}): is a key missing in "
            f"DRAMATURG_ENCRYPTION_KEYS?"
        ) from error


def seal_words(words: str) -> str:
    """The sealed form of a text that is not JSON, such as an error's message; empty stays empty."""
    return seal(to_json(words).decode()) if words and _active is not None and not is_sealed(words) else words


def open_words(words: str) -> str:
    """What `seal_words` sealed; a placeholder where that cannot be opened here."""
    if not is_sealed(words):
        return words
    try:
        return str(from_json(unseal(words)))
    except (CannotOpen, ValueError):
        return ENCRYPTED


def digest_of(text: str) -> str:
    """What identifies a text, and tells nothing of it where a codec encrypts.

    It has a part for each key, so that `same_digest` finds two equal that have one key in common.
    """
    if _active is None or not _active.digest_keys:
        return hashlib.sha256(text.encode()).hexdigest()
    parts = [f"{name}:{hmac.digest(key, text.encode(), 'sha256').hex()[:32]}" for name, key in _active.digest_keys]
    return " ".join(parts)


def same_digest(one: str, other: str) -> bool:
    """Whether two digests are of the same text, as far as they can be compared.

    Where they have no key in common (it was taken out of use meanwhile), nobody can say that they differ.
    """
    mine, theirs = _digest_parts(one), _digest_parts(other)
    common = mine.keys() & theirs.keys()
    return not common or any(hmac.compare_digest(mine[key], theirs[key]) for key in common)


def _digest_parts(digest: str) -> dict[str, str]:
    parts = (part.rpartition(":") for part in digest.split())
    return {name or _PLAIN_DIGEST: value for name, _, value in parts}


def _checked(codec: Codec, identity: object) -> _Active:
    given: Any = codec
    if not callable(getattr(given, "encode", None)) or not callable(getattr(given, "decode", None)):
        raise ConfigurationError(f"DRAMATURG_CODEC: {codec!r} needs encode(bytes) and decode(bytes)")
    encrypts = bool(getattr(given, "encrypts", False))
    keys: tuple[Any, ...] = tuple(getattr(given, "digest_keys", ()))
    if encrypts and not (keys and all(isinstance(key, bytes) and key for key in keys)):
        raise ConfigurationError(
            f"DRAMATURG_CODEC: {codec!r} says that it encrypts: give it digest_keys too, a sequence of secret bytes "
            f"that stay the same, for what identifies arguments without telling them"
        )
    # As many as fit into the column that keeps a digest.
    return _Active(codec, identity, encrypts, tuple((hashlib.sha256(key).hexdigest()[:8], key) for key in keys[:5]))
