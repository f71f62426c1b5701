"""Viewers: who looks, by the cookie of a session; and that a form was sent from our own page.

A session's cookie is out of reach for scripts and is not sent along when another site posts a form. Forms carry a
token that follows from the session, besides.
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
from metering.dashboard.errors import NoSuchThingError, NotAllowedError, SignedOutError
from metering.db.engine import transaction

COOKIE = "metering_session"
TOKEN_FIELD = "token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """A session's key. `customer_id` is the only customer that it may see, None for all of them."""

    key_id: str
    name: str
    role: Role
    customer_id: str | None
    token: str

    @property
    def is_admin(self) -> bool:
        """Whether it may decide things."""
        return self.role is Role.ADMIN

    def customer(self, customer_id: str | None) -> str | None:
        """The customer that is looked at: the one asked for, or the viewer's only one.

        Raises:
            NoSuchThingError: the viewer may not see it. It is not told whether there is one.
        """
        if self.customer_id is not None and customer_id not in (None, self.customer_id):
            raise NoSuchThingError(f"there is no customer {customer_id!r}")
        return self.customer_id or customer_id


def viewer_of(request: Request, *, engine: Engine, now: datetime) -> Viewer:
    """Who is signed in.

    Raises:
        SignedOutError: nobody is.
    """
    session = request.cookies.get(COOKIE, "")
    if not session:
        raise SignedOutError("sign in with a key")
    with transaction(engine) as connection:
        key = key_of_session(connection, session=session, now=now)
    if key is None:
        raise SignedOutError("the session is over: sign in again")
    return Viewer(
        key_id=key.key_id, name=key.name, role=key.role, customer_id=key.customer_id, token=_token_of(session)
    )


def sign_in(*, engine: Engine, key: str, now: datetime, lifetime: timedelta) -> str:
    """Begin a session for whoever has this key, and return it.

    Raises:
        SignedOutError: the key is unknown, revoked or not written as keys are.
        NotAllowedError: it may only post events.
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
            raise NotAllowedError(f"a key with role {found.role} posts events; sign in with one that reads")
        return begin_session(connection, key_id=found.key_id, now=now, lifetime=lifetime)


def sign_out(request: Request, *, engine: Engine) -> None:
    """End the session of a request, if it has one."""
    if session := request.cookies.get(COOKIE):
        with transaction(engine) as connection:
            end_session(connection, session=session)


def set_cookie(response: Response, session: str, *, secure: bool, lifetime: timedelta) -> None:
    """Have the browser keep a session. Lax, so that links into the dashboard work; forms have their token."""
    response.set_cookie(
        COOKIE,
        session,
        max_age=int(lifetime.total_seconds()),
        path="/dashboard",
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def drop_cookie(response: Response) -> None:
    """Have the browser forget its session."""
    response.delete_cookie(COOKIE, path="/dashboard", httponly=True, samesite="lax")


def check_origin(request: Request) -> None:
    """Refuse a form that another site's page sent.

    Browsers say where a form comes from (https://www.w3.org/TR/fetch-metadata/, and Origin before that).

    Raises:
        NotAllowedError: it does not come from here.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    ours = origin is None or origin.partition("://")[2] == request.headers.get("host")
    if site not in ("same-origin", "none") or not ours:
        raise NotAllowedError("the form was sent from another site: open the dashboard itself and try again")


def check_token(viewer: Viewer, given: str) -> None:
    """Refuse a form without the session's token.

    Raises:
        NotAllowedError: it is another's, or missing.
    """
    if not hmac.compare_digest(viewer.token.encode(), given.encode()):
        raise NotAllowedError("the form is of another session: load the page again")


def _token_of(session: str) -> str:
    return hmac.new(session.encode(), b"form", sha256).hexdigest()
