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

from metering.access.actors import Actor
from metering.access.keys import InvalidKeyError, Key, parse_secret
from metering.access.scopes import OF_ONE_CUSTOMER, SCOPES_OF_ROLE, Role, Scope, roles_with
from metering.access.store.keys import authenticate, mark_used
from metering.access.store.sessions import begin_session, end_session, key_of_session
from metering.core.request_id import current_request_id
from metering.dashboard.errors import NotAllowedError, NotFoundError, SignedOutError
from metering.db.engine import transaction

COOKIE = "metering_session"
# Scopes that open a page.
READING = frozenset(Scope) - SCOPES_OF_ROLE[Role.INGEST]
_LINK_ENDED = "this link has expired or is incomplete: ask the sender for a new one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """The key of a session, the token of its forms, and the request: where it comes from, and its id."""

    key: Key
    token: str
    address: str | None
    request_id: str | None

    @property
    def customer_id(self) -> str | None:
        """The only customer that the key may see, None for all of them."""
        return self.key.customer_id

    @property
    def actor(self) -> Actor:
        """The viewer as the author of a change."""
        return Actor(
            name=f"key {self.key.key_id}", door="dashboard", address=self.address, request_id=self.request_id
        )

    def may(self, scope: str) -> bool:
        """Whether the key has a scope."""
        return scope in self.key.scopes

    def require(self, scope: Scope) -> None:
        """Refuse a viewer whose key does not have a scope.

        Raises:
            NotFoundError: the key is bound to a customer, and this is not about one customer.
            NotAllowedError: the key has not the scope; the message names it.
        """
        if self.may(scope):
            return
        if self.customer_id is not None and scope not in OF_ONE_CUSTOMER:
            raise NotFoundError("this page does not exist")
        raise NotAllowedError(f"this needs a key with scope {scope} (role {' or '.join(roles_with(scope))})")

    def customer(self, customer_id: str | None) -> str | None:
        """The requested customer, or the only one that this key may see; None for all.

        Raises:
            NotFoundError: the key may not see this customer, whether or not it exists.
        """
        if self.customer_id is not None and customer_id not in (None, self.customer_id):
            raise NotFoundError(f"there is no customer {customer_id!r}")
        return self.customer_id or customer_id


def viewer_of(request: Request, *, engine: Engine, now: datetime) -> Viewer:
    """The viewer of a request, whose key has the scopes that the route declares.

    Raises:
        SignedOutError: the request has no valid session.
        NotFoundError, NotAllowedError: the key has not the scopes; see `Viewer.require`.
    """
    session = request.cookies.get(COOKIE, "")
    if not session:
        raise SignedOutError("sign in with a key")
    with transaction(engine) as connection:
        key = key_of_session(connection, session=session, now=now)
    if key is None:
        raise SignedOutError("the session has ended: sign in again")
    token = hmac.new(session.encode(), b"form", sha256).hexdigest()
    viewer = Viewer(
        key=key,
        token=token,
        address=request.client.host if request.client else None,
        request_id=current_request_id(),
    )
    for scope in request.scope["endpoint"].scopes:
        viewer.require(scope)
    return viewer


def sign_in(*, engine: Engine, key: str, now: datetime, lifetime: timedelta, by_link: bool = False) -> str:
    """Begin a session with a key, and return the session. A link may only have the key of one customer.

    Raises:
        SignedOutError: the key is unknown, expired, revoked or malformed.
        NotAllowedError: the key can see no page, or too much for a link.
    """
    try:
        secret = parse_secret(key.strip())
    except InvalidKeyError as error:
        raise SignedOutError(_LINK_ENDED if by_link else str(error)) from error
    with transaction(engine) as connection:
        found = authenticate(connection, secret, now=now)
        if found is None:
            raise SignedOutError(_LINK_ENDED if by_link else "this key is unknown, expired or revoked")
        if by_link and found.key.customer_id is None:
            raise NotAllowedError("this link has a key of the service's staff: sign in with the key itself")
        if not found.key.scopes & READING:
            raise NotAllowedError(
                f"a key with role {found.key.role} reads nothing: sign in with role read or admin"
            )
        mark_used(connection, [found.key.key_id], now=now)
        ends_at = min(filter(None, (now + lifetime, found.ends_at)))
        return begin_session(connection, key_id=found.key.key_id, now=now, ends_at=ends_at)


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
