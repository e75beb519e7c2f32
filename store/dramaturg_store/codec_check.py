"""Whether a process has the codec that the values of a namespace are encoded by: a word of ours, sealed, says it.

Without this a coordinator with a missing key would take every run for damaged.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.sealing import CannotOpen, is_sealing, seal, unseal
from dramaturg_store.dialects import upsert
from dramaturg_store.schema import settings
from dramaturg_store.transactions import Transactions

_WORD = '"dramaturg"'


def check_codec(transactions: Transactions, namespace: str) -> None:
    """Refuse to go on where the namespace has a codec that is not here; note the one that is.

    Raises:
      ConfigurationError: values there cannot be opened here.
    """
    name = f"codec {namespace}"
    with transactions.reading() as connection:
        known = connection.scalars(select(settings.c.value).where(settings.c.name == name)).one_or_none()
    if known is not None:
        try:
            unseal(known)
        except CannotOpen as error:
            raise ConfigurationError(f"values of namespace {namespace!r} cannot be read here: {error}") from error
    if is_sealing():
        # Anew each time, by the key that encrypts now: the one before it may be taken out of use.
        row = {"name": name, "value": seal(_WORD)}

        def write(connection: Connection) -> None:
            connection.execute(upsert(connection.dialect.name, settings), [row])

        transactions.written(write)
