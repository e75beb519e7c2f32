"""Tokens of hooks and of approvals: whoever has one may answer, and nobody else.

A token names a position of a run, for an approval also who decides and how, and bears a seal: a keyed hash of all that
under the namespace's secret. So it is the same after a crash, cannot be changed, and nothing of it is stored.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from dramaturg_protocol.errors import InvalidToken

_HOOK, _APPROVAL = "hook", "approval"


class Place(NamedTuple):
    """A position of a run."""

    run_id: str
    generation: int
    seq: int


class Answer(NamedTuple):
    """What the token of an approval says."""

    place: Place
    approved: bool
    by: str


def hook_token(secret: str, place: Place) -> str:
    """The token of a hook."""
    return _sealed(secret, _HOOK, [*place])


def approval_token(secret: str, place: Place, *, approved: bool, by: str) -> str:
    """The token with which somebody decides an approval."""
    return _sealed(secret, _APPROVAL, [*place, approved, by])


def read_hook_token(secret: str, token: str) -> Place:
    """The hook that a token is for.

    Raises:
      InvalidToken: it is none, or not one of this namespace.
    """
    match _opened(secret, _HOOK, token):
        case [str() as run_id, int() as generation, int() as seq]:
            return Place(run_id, generation, seq)
        case _:
            raise _no_token(_HOOK)


def read_approval_token(secret: str, token: str) -> Answer:
    """What the token of an approval says.

    Raises:
      InvalidToken: it is none, or not one of this namespace.
    """
    match _opened(secret, _APPROVAL, token):
        case [str() as run_id, int() as generation, int() as seq, bool() as approved, str() as by]:
            return Answer(Place(run_id, generation, seq), approved, by)
        case _:
            raise _no_token(_APPROVAL)


def _sealed(secret: str, kind: str, parts: list[str | int | bool]) -> str:
    body = to_json(parts)
    return f"{_text(body)}.{_text(_seal(secret, kind, body))}"


def _opened(secret: str, kind: str, token: str) -> Any:
    try:
        body, seal = (_bytes(part) for part in token.split("."))
    except (ValueError, AttributeError):
        raise _no_token(kind) from None
    if not hmac.compare_digest(_seal(secret, kind, body), seal):
        raise _no_token(kind)
    return from_json(body)


def _seal(secret: str, kind: str, body: bytes) -> bytes:
    key = blake2b(secret.encode(), digest_size=32).digest()
    return blake2b(kind.encode() + b"\0" + body, key=key, digest_size=18).digest()


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _text(data) != text:  # one spelling only
        raise ValueError(text)
    return data


def _no_token(kind: str) -> InvalidToken:
    return InvalidToken(
        f"this is no token of {'a hook' if kind == _HOOK else 'an approval'}, or it was cut short or changed, or is "
        f"another namespace's: pass it on as the workflow gave it"
    )
