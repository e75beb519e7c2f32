"""The ready-made codec: Fernet of the package cryptography, with keys that can be changed."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from dramaturg_protocol.errors import ConfigurationError

_HOW = 'make one with: python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'


class FernetCodec:
    """Encrypts and authenticates with AES-128-CBC and HMAC-SHA256 under keys that can be changed.

    Parameters:
      keys: the first one encrypts, all of them decrypt.

    Raises:
      ConfigurationError: the package is missing, or a key is none.
    """

    encrypts = True

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ConfigurationError(f'DRAMATURG_CODEC is "fernet": set DRAMATURG_ENCRYPTION_KEYS too; {_HOW}')
        try:
            from cryptography.fernet import Fernet, MultiFernet
        except ImportError as error:
            raise ConfigurationError(
                'DRAMATURG_CODEC is "fernet", which needs the package cryptography: pip install "dramaturg[encryption]"'
            ) from error
        fernets: list[Fernet] = []
        for number, key in enumerate(keys, start=1):
            try:
                fernets.append(Fernet(key))
            except (ValueError, TypeError) as error:
                raise ConfigurationError(
                    f"DRAMATURG_ENCRYPTION_KEYS: key {number} of {len(keys)} is not 32 bytes in URL-safe base64; {_HOW}"
                ) from error
        self._fernet = MultiFernet(fernets)
        #: Keys of their own, so that what is made with them says nothing of what is encrypted.
        self.digest_keys = tuple(hmac.digest(key.encode(), b"dramaturg digest", "sha256") for key in keys)

    def encode(self, data: bytes, /) -> bytes:
        """Encrypt with the first key."""
        return self._fernet.encrypt(data)

    def decode(self, data: bytes, /) -> bytes:
        """Decrypt with whichever key fits."""
        return self._fernet.decrypt(data)
