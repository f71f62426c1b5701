"""Rendering: templates with autoescaping, and the security headers of every answer."""

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from functools import cache
from importlib.resources import files
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from metering.dashboard import values
from metering.dashboard.tables import exact, shown
from metering.months.line_rates import quantity_text

# Nothing from other origins, no inline script or style, no framing, forms only to us.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
STATIC = files("metering.dashboard").joinpath("static")


THEME_COOKIE = "metering_theme"


class Theme(StrEnum):
    """The colours of pages. SYSTEM is what the browser says."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


def theme_of(cookies: Mapping[str, str]) -> Theme:
    """The theme that a browser's cookies ask for."""
    found = cookies.get(THEME_COOKIE, "")
    return Theme(found) if found in set(Theme) else Theme.SYSTEM


def query_with(query: Mapping[str, str], **changes: str) -> str:
    """A page's query with changes, URL-encoded."""
    return urlencode({**query, **changes})


def static_url(name: str) -> str:
    """The address of a static file, with a hash of its content so that browsers may cache it forever."""
    return f"/dashboard/static/{name}?v={_VERSIONS[name]}"


def _versions() -> dict[str, str]:
    names = ("app.css", "app.js", "icon.svg", *(f"vendor/{name}" for name in _VENDORED))
    return {name: hashlib.sha256(STATIC.joinpath(name).read_bytes()).hexdigest()[:12] for name in names}


_VENDORED = ("tabler-1.6.1.min.css", "htmx-2.0.11.min.js", "chart-4.6.1.min.js")
_VERSIONS = _versions()
_ICONS = STATIC.joinpath("vendor", "icons-3.52.0")


@cache
def icon(name: str) -> Markup:
    """An icon by its name, as SVG that screen readers skip: it always stands beside a text."""
    drawing = _ICONS.joinpath(f"{name}.svg").read_text().partition(">")[2]
    return Markup(
        '<svg class="icon" viewBox="0 0 24 24" width="20" height="20" fill="none" stroke="currentColor"'
        f' stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{drawing}'
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("metering.dashboard", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "static_url": static_url,
        "query_with": query_with,
        "icon": icon,
        "shown_value": shown,
        "percent_of": values.percent_of,
        "exact": exact,
        "shown_exact": values.exact_money,
        "exact_dollars": values.dollars_text,
    }
    environment.filters |= {
        "money": values.money,
        "exact_money": values.exact_money,
        "count": values.count,
        "counted": values.counted,
        "cents": lambda cents: values.money(Decimal(cents)),
        "age": values.age,
        "ago": values.ago,
        "plain_times": values.plain_times,
        "quantity": quantity_text,
    }
    return environment


_templates = _environment()


def render(
    template: str, context: Mapping[str, object], *, status: int = 200, theme: Theme = Theme.SYSTEM
) -> Response:
    """A page, never cached by browsers or proxies: it contains what only its viewer may see."""
    # Macros see the context and would find these names in place of the functions.
    assert not context.keys() & _templates.globals.keys()
    html = _templates.get_template(template).render(context, theme=theme.value)
    headers = {**HEADERS, "cache-control": "no-store"}
    return Response(html, status, headers, media_type="text/html")


def see_other(address: str) -> RedirectResponse:
    """The answer to a form that was sent: the browser reads this page, and reloading it sends nothing again."""
    return RedirectResponse(address, status_code=303, headers=HEADERS)
