"""Sessions: the viewer that a session cookie identifies; sign-in and sign-out.

Scripts cannot read the cookie, and browsers do not send it with another site's form. Forms also carry a token that
is derived from the session.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import Response

from metering.access.store.keys import (
    InvalidKeyError,
    Role,
    authenticate,
    begin_session,
    end_session,
    key_of_session,
    parse_secret,
)
from metering.dashboard.errors import NotAllowedError, NotFoundError, SignedOutError
from metering.db.engine import transaction

COOKIE = "metering_session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """The key of a session. `customer_id` is the only customer that it may see, None for all of them."""

    key_id: str
    name: str
    role: Role
    customer_id: str | None
    token: str

    @property
    def is_admin(self) -> bool:
        """Whether the key has role admin."""
        return self.role is Role.ADMIN

    def customer(self, customer_id: str | None) -> str | None:
        """The requested customer, or the only one that this key may see; None for all.

        Raises:
            NotFoundError: the key may not see this customer, whether or not it exists.
        """
        if self.customer_id is not None and customer_id not in (None, self.customer_id):
            raise NotFoundError(f"there is no customer {customer_id!r}")
        return self.customer_id or customer_id


def viewer_of(request: Request, *, engine: Engine, now: datetime) -> Viewer:
    """The viewer of a request.

    Raises:
        SignedOutError: the request has no valid session.
    """
    session = request.cookies.get(COOKIE, "")
    if not session:
        raise SignedOutError("sign in with a key")
    with transaction(engine) as connection:
        key = key_of_session(connection, session=session, now=now)
    if key is None:
        raise SignedOutError("the session has ended: sign in again")
    token = hmac.new(session.encode(), b"form", sha256).hexdigest()
    return Viewer(key_id=key.key_id, name=key.name, role=key.role, customer_id=key.customer_id, token=token)


def sign_in(*, engine: Engine, key: str, now: datetime, lifetime: timedelta) -> str:
    """Begin a session with a key, and return the session.

    Raises:
        SignedOutError: the key is unknown, revoked or malformed.
        NotAllowedError: the key may only post events.
    """
    try:
        secret = parse_secret(key.strip())
    except InvalidKeyError as error:
        raise SignedOutError(str(error)) from error
    with transaction(engine) as connection:
        found = authenticate(connection, secret)
        if found is None:
            raise SignedOutError("this key is unknown or revoked")
        if found.role not in (Role.READ, Role.ADMIN):
            raise NotAllowedError(f"a key with role {found.role} posts events: sign in with role read or admin")
        return begin_session(connection, key_id=found.key_id, now=now, lifetime=lifetime)


def sign_out(request: Request, *, engine: Engine) -> None:
    """End the session of a request, if it has one."""
    if session := request.cookies.get(COOKIE):
        with transaction(engine) as connection:
            end_session(connection, session=session)


def set_cookie(response: Response, session: str, *, secure: bool, lifetime: timedelta) -> None:
    """Store a session in the browser. SameSite is lax so that links into the dashboard work."""
    response.set_cookie(
        COOKIE,
        session,
        max_age=int(lifetime.total_seconds()),
        path="/dashboard",
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def delete_cookie(response: Response) -> None:
    """Remove the session from the browser."""
    response.delete_cookie(COOKIE, path="/dashboard", httponly=True, samesite="lax")
