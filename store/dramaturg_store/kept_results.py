"""Results of steps that later calls with the same arguments may have."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, bindparam, select

from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import KeptResult
from dramaturg_protocol.sealing import CannotOpen, unseal
from dramaturg_store.schema import kept_results
from dramaturg_store.slices import slices

_KEPT = select(kept_results).where(kept_results.c.key.in_(bindparam("keys", expanding=True)))


def kept_results_of(connection: Connection, keys: Collection[str]) -> Mapping[str, KeptResult]:
    """Those that are there; one that a codec made which is not ours is as if it were not."""
    found: dict[str, KeptResult] = {}
    for part in slices(sorted(keys)):
        for key, result, stored_at, expires_at in connection.execute(_KEPT, {"keys": part}):
            try:
                found[key] = KeptResult(key, Payload(unseal(result)), stored_at, expires_at)
            except CannotOpen:
                continue
    return found
