"""Tokens of steps that are left open: whoever has one may say what came of the step, and nobody else.

A token names the step and bears a seal: a keyed hash under the namespace's secret. It is the same over attempts and
crashes, and says where it belongs without a look-up. A worker gets the seal with the step's message: it knows no secret.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from dramaturg_protocol.errors import InvalidToken


class StepPlace(NamedTuple):
    """The step that a token is for."""

    run_id: str
    generation: int
    seq: int


def seal_of(secret: str, place: StepPlace) -> str:
    """What only somebody with the secret can tell of a step."""
    text = f"step\0{place.run_id}\0{place.generation}\0{place.seq}"
    return urlsafe_b64encode(blake2b(text.encode(), key=_key_of(secret), digest_size=18).digest()).decode()


@lru_cache(maxsize=16)
def _key_of(secret: str) -> bytes:
    return blake2b(secret.encode(), digest_size=32).digest()


def token_of(place: StepPlace, seal: str) -> str:
    """The token of a step."""
    return f"{place.run_id}.{place.generation}.{place.seq}.{seal}"


def read_token(secret: str, token: str) -> StepPlace:
    """The step that a token is for.

    Raises:
      InvalidToken: it is none, or not one of this namespace.
    """
    run_id, *rest = token.rsplit(".", 3)
    if len(rest) == 3 and rest[0].isdecimal() and rest[1].isdecimal():
        place = StepPlace(run_id, int(rest[0]), int(rest[1]))
        if hmac.compare_digest(seal_of(secret, place).encode(), rest[2].encode()):
            return place
    raise InvalidToken(
        "this is no token of a step that was left open, or it was cut short, or is another namespace's: pass on what "
        "current_step().complete_later() gave, as it is"
    )
