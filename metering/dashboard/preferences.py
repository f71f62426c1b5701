"""What a viewer prefers, kept in cookies: a light or dark page, and the zone of times of day."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.core.time_zones import UTC_ZONE, find_zone, shown_zone
from metering.customers.queries.time_zones import time_zones_of, zone_problems
from metering.dashboard.access import needs
from metering.dashboard.errors import InvalidFormError
from metering.dashboard.forms import own_page, read_signed_form
from metering.dashboard.rendering import THEME_COOKIE, Theme, see_other, theme_of
from metering.dashboard.times import Clock, ZoneChoice
from metering.server.bootstrap import Service

ZONE_COOKIE = "metering_zone"
# The script of the pages writes it: only the browser knows its zone.
BROWSER_ZONE_COOKIE = "metering_browser_zone"
_YEAR_SECONDS = 365 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """What the cookies say. `zone` is None if the viewer never chose; `browser_zone` is not checked yet."""

    theme: Theme
    zone: ZoneChoice | None
    browser_zone: str | None


NO_PREFERENCES = Preferences(theme=Theme.SYSTEM, zone=None, browser_zone=None)


def preferences_of(cookies: Mapping[str, str]) -> Preferences:
    """The preferences in the cookies of a request; values that mean nothing are as if they were not there."""
    zone = cookies.get(ZONE_COOKIE, "")
    return Preferences(
        theme=theme_of(cookies),
        zone=ZoneChoice(zone) if zone in set(ZoneChoice) else None,
        browser_zone=unquote(cookies.get(BROWSER_ZONE_COOKIE, "")) or None,
    )


def clock_of(
    connection: Connection,
    preferences: Preferences,
    *,
    viewer_customer: str | None,
    about: str | None,
    customers: Collection[str],
) -> Clock:
    """The clock of a page: `about` is the customer that it is about, `customers` are those in its lists.

    A customer sees its own zone until it chooses another one. A zone counts only if PostgreSQL knows it too.
    """
    default = ZoneChoice.UTC if viewer_customer is None else ZoneChoice.CUSTOMER
    choice, about = preferences.zone or default, about or viewer_customer
    is_customers = viewer_customer is not None
    if choice is ZoneChoice.CUSTOMER:
        wanted = {*customers, about} if about else customers
        names = time_zones_of(connection, wanted)
        problems = zone_problems(connection, set(names.values())) if names else {}
        zones = {each: UTC_ZONE if name in problems else shown_zone(name) for each, name in names.items()}
        return Clock(choice=choice, zone=UTC_ZONE, of_customers=zones, about=about, is_customers=is_customers)
    zone, problem = UTC_ZONE, ""
    if choice is ZoneChoice.MINE:
        name = preferences.browser_zone
        found = find_zone(name) if name is not None else None
        if name is None or found is None:
            problem = "the time zone of your browser is not known"
        elif problems := zone_problems(connection, [name]):
            problem = problems[name]
        else:
            zone = found
    return Clock(choice=choice, zone=zone, of_customers={}, is_customers=is_customers, problem=problem)


def preference_routes(service: Service) -> list[Route]:
    """The form of the frame that sets a preference and leads back to the page."""

    @needs()
    async def choose(request: Request) -> Response:
        _, form = await read_signed_form(request, engine=service.engine)
        response = see_other(own_page(form.get("back")))
        for field, cookie, allowed in (("theme", THEME_COOKIE, Theme), ("zone", ZONE_COOKIE, ZoneChoice)):
            value = form.get(field)
            if value is None:
                continue
            if value not in set(allowed):
                raise InvalidFormError(f"{field}: one of {', '.join(allowed)}")
            response.set_cookie(
                cookie,
                value,
                max_age=_YEAR_SECONDS,
                path="/dashboard",
                secure=request.url.scheme == "https",
                httponly=True,
                samesite="lax",
            )
        return response

    return [Route("/preferences", choose, methods=["POST"])]
