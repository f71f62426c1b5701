"""Names and encryption of kept answers: only a request with the client's two keys can find one and read it.

The name and the AES key are derived from the client's API key, the customer, and the `X-Resume-Key`. The gateway's
configuration has only a hash of the API key: reading Valkey and the configuration is not enough to read an answer.
"""

import hashlib
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from metering.core.errors import MeteringError

OWNER_BYTES = 16
_NONCE_BYTES = 12
_INFO = b"metering gateway resume 1"


class SealError(MeteringError):
    """What Valkey gave was not sealed for this place with this secret."""


@dataclass(frozen=True, slots=True)
class Place:
    """The name under which an answer is kept, and the one of all that is kept for its customer."""

    name: str
    customer: str


@dataclass(frozen=True, slots=True)
class Secret:
    """Where an answer is kept, and the cipher of its pieces."""

    place: Place
    _cipher: AESGCM

    def seal(self, owner: bytes, number: int, content: bytes) -> bytes:
        """Encrypt piece `number` of the copy that `owner` made. It can be opened as that piece only."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, _bound_to(owner, number))

    def unseal(self, owner: bytes, number: int, sealed: bytes) -> bytes:
        """The content of piece `number`.

        Raises:
            SealError: it is another piece, of another copy, or was changed.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(owner, number))
        except (InvalidTag, ValueError) as error:
            raise SealError("a kept piece cannot be decrypted") from error


def secret_of(*, resume_key: str, client_key: str, customer_id: str) -> Secret:
    """The secret that belongs to a client's two keys and its customer."""
    parts = (resume_key, client_key, customer_id)
    material = b"".join(hashlib.sha256(part.encode(errors="surrogatepass")).digest() for part in parts)
    derived = HKDF(algorithm=SHA256(), length=64, salt=None, info=_INFO).derive(material)
    customer = hashlib.sha256(_INFO + customer_id.encode(errors="surrogatepass")).hexdigest()[:32]
    return Secret(Place(derived[:32].hex(), customer), AESGCM(derived[32:]))


def new_owner() -> bytes:
    """The mark of a new copy. It is no secret."""
    return os.urandom(OWNER_BYTES)


def _bound_to(owner: bytes, number: int) -> bytes:
    return owner + number.to_bytes(8, "big")
