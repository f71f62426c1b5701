"""API keys: their form, what they are bound to, and how long they and their secrets last."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from metering.access.scopes import Role, Scope, scopes_of
from metering.core.errors import MeteringError


class InvalidKeyError(MeteringError):
    """The text does not have the form of a key: mk_<id>_<secret>."""


class UnknownKeyError(MeteringError):
    """No key has this id."""


class KeyState(StrEnum):
    """Whether a key is accepted."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """What the requests of a key may do; None: the limit of the deployment, if it has one."""

    events_per_second: int | None = None
    requests_per_second: int | None = None
    concurrent_requests: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key without its secret.

    `customer_id` and `source` bind it to one customer and to the events of one source. `listed` are the scopes of
    a custom key. Until `old_secret_ends_at`, the secret before the last rotation is accepted as well.
    """

    key_id: str
    role: Role
    listed: tuple[str, ...] | None
    customer_id: str | None
    source: str | None
    name: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    old_secret_ends_at: datetime | None
    limits: KeyLimits = KeyLimits()

    @property
    def scopes(self) -> frozenset[Scope]:
        """What the key may do."""
        return scopes_of(role=self.role, listed=self.listed, customer_id=self.customer_id)

    def state(self, now: datetime) -> KeyState:
        """Whether it is accepted at a time."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        expired = self.expires_at is not None and self.expires_at <= now
        return KeyState.EXPIRED if expired else KeyState.ACTIVE


@dataclass(frozen=True, slots=True)
class KeySecret:
    """A key with its secret, as its holder sends it."""

    key_id: str
    secret: str

    def __str__(self) -> str:
        return f"mk_{self.key_id}_{self.secret}"


def parse_secret(written: str) -> KeySecret:
    """The parts of `mk_<id>_<secret>`.

    Raises:
        InvalidKeyError: the text does not have this form.
    """
    prefix, _, rest = written.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != "mk" or not key_id or not secret or "\0" in written:
        raise InvalidKeyError("a key has the form mk_<id>_<secret>")
    return KeySecret(key_id, secret)
