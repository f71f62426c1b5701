"""Access: each route times each kind of key times own and other customer, as written down in `declared_access`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from metering.access.manage_access import NewKey, issue_key, revoke_key, rotate_key
from metering.access.scopes import Role, Scope
from metering.api.app import create_app
from metering.api.gate import HOLDS_PATH
from metering.api.holds import HoldsEndpoint
from metering.api.ingest import Door, IngestEndpoint
from tests.api.declared_access import API, BOUND, DASHBOARD, FRAMEWORK, REFUSED, SCOPES
from tests.builders.seeded import CONFLICTING, Seeded
from tests.running_api import Api, http_client

OWN, OTHER = "hooli", "umbrella"


@pytest.fixture(scope="module")
def app(seeded: Seeded) -> Starlette:
    return create_app(seeded.service)


def test_every_route_of_the_api_declares_the_scope_that_is_written_down(app: Starlette) -> None:
    doors: dict[str, Door] = app.state.doors
    declared: dict[tuple[str, str], str | None] = {("POST", path): IngestEndpoint.scope for path in doors}
    declared["POST", HOLDS_PATH] = HoldsEndpoint.scope
    others = set()
    for route in app.routes:
        assert isinstance(route, Route | Mount)
        if isinstance(route, APIRoute) and route.path not in FRAMEWORK:
            for method in route.methods:
                declared[method, route.path_format] = route.endpoint.scope
        elif route.path != "/dashboard":
            others.add(route.path)
    assert declared == API
    assert others <= FRAMEWORK


def test_every_route_of_the_dashboard_declares_the_scopes_that_are_written_down(app: Starlette) -> None:
    (mount,) = [route for route in app.routes if isinstance(route, Mount) and route.path == "/dashboard"]
    declared: dict[tuple[str, str], set[Scope] | None] = {}
    for route in mount.routes or ():
        if isinstance(route, Route):
            scopes = route.endpoint.scopes
            for method in (route.methods or set()) - {"HEAD"}:
                declared[method, route.path] = None if scopes is None else set(scopes)
    assert declared == DASHBOARD


@dataclass(frozen=True)
class World:
    """A running API, a key of each kind, and ids of things of two customers."""

    seeded: Seeded
    keys: dict[str, str]
    ids: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def world(seeded: Seeded) -> World:
    return World(seeded, _keys(seeded.service.engine), {each: _ids(seeded, each) for each in (OWN, OTHER)})


def _keys(engine: Engine) -> dict[str, str]:
    now = datetime.now(UTC)

    def make(role: Role, at: datetime = now, **terms: object) -> str:
        new = NewKey(role=role, name="test", **terms)  # type: ignore[arg-type]
        return str(issue_key(engine=engine, new=new, by="test", now=at)[1])

    keys = {
        "ingest": make(Role.INGEST),
        "read": make(Role.READ),
        "admin": make(Role.ADMIN),
        "totals only": make(Role.CUSTOM, scopes=["totals:read"]),
        "read of one": make(Role.READ, customer_id=OWN),
        "ingest of one": make(Role.INGEST, customer_id=OWN),
        "ingest of a source": make(Role.INGEST, source="/gateways/eu-1"),
        "no key": "",
        "malformed": "letmein",
        "unknown": "mk_nobody_secret",
        "expired": make(Role.ADMIN, at=now - timedelta(days=2), expires_at=now - timedelta(days=1)),
        "revoked": make(Role.ADMIN),
        "rotated away": make(Role.ADMIN),
    }
    keys["wrong secret"] = keys["admin"][:-1] + ("0" if keys["admin"][-1] != "0" else "1")
    revoke_key(engine=engine, key_id=keys["revoked"].split("_")[1], by="test", now=now)
    rotate_key(engine=engine, key_id=keys["rotated away"].split("_")[1], overlap=timedelta(0), by="test", now=now)
    return keys


def _ids(seeded: Seeded, customer_id: str) -> dict[str, str]:
    client = seeded.api.client
    charge = client.get("/v1/charges", params={"customer_id": customer_id, "limit": 1}).json()["data"][0]
    invoice = client.get("/v1/invoices", params={"customer_id": customer_id}).json()["data"][0]
    alert = {"name": "Budget", "kind": "spend", "scope": "customer", "customer_id": customer_id}
    made = client.post("/v1/alerts", json={**alert, "thresholds": ["9000"], "budget_usd_cents": "9000000"})
    budget = {"scope": {"customer_id": customer_id}, "window": "month", "limit_usd_cents": "9000000"}
    client.put(f"/v1/budgets/of-{customer_id}", json=budget)
    grant = {"customer_id": customer_id, "amount_usd_cents": "1", "paid_usd_cents": "0", "funding": "none"}
    key = {"idempotency-key": f"grant of {customer_id}"}
    granted = client.post("/v1/grants", json={**grant, "reason": "test"}, headers=key).json()
    client.post(f"/v1/grants/{granted['grant_id']}/void", json={"reason": "test"})
    top_up = {"when_below_usd_cents": "1", "buy_usd_cents": "50", "at_most_a_day": 0}
    client.put(f"/v1/customers/{customer_id}/top-up", json=top_up)
    return {
        "customer_id": customer_id,
        "grant_id": granted["grant_id"],
        "stream_id": charge["stream_id"],
        "invoice_id": invoice["invoice_id"],
        "alert_id": made.json()["alert_id"],
        "budget_id": f"of-{customer_id}",
        "period": seeded.period,
    }


# What a route is asked with, so that a key that may do it is not stopped by a missing parameter.
_FIXED = {"provider": "anthropic", "model": "claude-opus-4-7", "kind": "charges", "format": "csv"}
_QUERIES = {
    "/v1/generations": {"id": "{stream_id}"},
    "/v1/totals": {"from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"},
    "/v1/exports/{kind}.{format}": {"period": "{period}"},
    "/v1/deferred-revenue": {"period": "{period}"},
}
# Answers of their own rows, or of nobody's: they name no customer.
_OF_NO_CUSTOMER = {"/v1/customers", "/v1/rates", "/v1/cancel-policies", "/v1/upstream-prices"}
# Changes by keys of gateways: tests/api/test_holds.py has them.
_HOLDS = {("POST", "/v1/holds"), ("DELETE", "/v1/holds/{customer_id}/{stream_id}")}


def _send(client: httpx2.Client, app: Starlette, world: World, method: str, path: str, whose: str) -> int:
    """The status of a request about a customer; a change has no body, or is about nothing that exists."""
    ids = {**_FIXED, **world.ids[whose]}
    changes_it = method in ("PATCH", "DELETE")
    for name in ("endpoint_id", "delivery_id", "key_id", *(("alert_id", "budget_id") if changes_it else ())):
        ids[name] = "nothing"
    if path.startswith("/v1/backlog/"):
        ids["stream_id"] = CONFLICTING
    if path.endswith("statement.{format}"):
        ids["format"] = "html"
    query = {name: value.format(**ids) for name, value in _QUERIES.get(path, {}).items()}
    route = next((each for each in app.routes if isinstance(each, APIRoute) and each.path_format == path), None)
    if "customer_id" in getattr(route, "query_names", ()):
        query["customer_id"] = whose
    url = path.format(**ids)
    return client.request(method, url, params=query).status_code


# Unknown keys are looked up together, ten times a second: requests in parallel wait for the same lookups.
_PARALLEL = 32


@pytest.mark.parametrize("who", SCOPES)
def test_each_key_gets_what_its_scopes_allow_and_nothing_else(app: Starlette, world: World, who: str) -> None:
    headers = {"authorization": f"Bearer {world.keys[who]}"} if world.keys[who] else {}
    wrong = []
    with http_client(world.seeded.api.url, headers=headers) as client, ThreadPoolExecutor(_PARALLEL) as pool:
        asked = [pool.submit(_send, client, app, world, method, path, OWN) for method, path in API]
        for (place, scope), answer in zip(API.items(), asked, strict=True):
            status = answer.result()
            if scope is None or scope in SCOPES[who]:
                right = status not in (401, 403) or (scope is None and place == ("POST", "/v1/stripe/webhook"))
            else:
                right = status == (401 if who in REFUSED else 403)
            if not right:
                wrong.append((*place, status))
    assert wrong == []


@pytest.mark.parametrize("who", sorted(BOUND))
def test_a_bound_key_gets_nothing_of_another_customer(app: Starlette, world: World, who: str) -> None:
    headers = {"authorization": f"Bearer {world.keys[who]}"}
    wrong = []
    with http_client(world.seeded.api.url, headers=headers) as client:
        for (method, path), scope in API.items():
            if scope is None or scope not in SCOPES[who] or path in (*_OF_NO_CUSTOMER, *app.state.doors):
                continue
            if (method, path) in _HOLDS:
                continue
            own = _send(client, app, world, method, path, OWN)
            other = _send(client, app, world, method, path, OTHER)
            if own != 200 or other not in (403, 404):
                wrong.append((method, path, own, other))
        if who == "read of one":
            rows = [client.get(path).json()["data"] for path in ("/v1/customers", "/v1/rates")]
            assert [row["customer_id"] for row in rows[0]] == [OWN]
            assert {row["customer_id"] for row in rows[1]} <= {None, OWN}
    assert wrong == []


@pytest.fixture
def browser(world: World) -> Iterator[httpx2.Client]:
    with http_client(world.seeded.api.url) as client:
        yield client


_PARAMETERS = ("customer_id", "stream_id", "invoice_id", "grant_id")


def _open(client: httpx2.Client, world: World, method: str, path: str, whose: str) -> int:
    ids = world.ids[whose]
    url = f"/dashboard{path.format(name='charges.csv')}"
    if method == "POST":
        return client.post(url, data={"token": _token(client)}).status_code
    more = {"provider": "anthropic", "model": "claude-opus-4-7", "line": "nothing"}
    named = {name: ids[name] for name in _PARAMETERS if path not in ("/", "/customers", "/models")}
    return client.get(url, params={**named, **more, "period": world.seeded.period}).status_code


def _token(client: httpx2.Client) -> str:
    """The token of the session, as any page has it."""
    page = client.get("/dashboard/models").text
    return page.partition('name="token" value="')[2].partition('"')[0]


@pytest.mark.parametrize("who", ["read", "admin", "totals only", "read of one"])
def test_the_dashboard_shows_what_the_scopes_allow(world: World, browser: httpx2.Client, who: str) -> None:
    assert browser.post("/dashboard/sign-in", data={"key": world.keys[who]}).status_code == 303
    wrong = []
    for (method, path), scopes in DASHBOARD.items():
        if not scopes:
            continue
        status = _open(browser, world, method, path, OWN)
        right = status not in (401, 403, 303) if scopes <= SCOPES[who] else status in (403, 404)
        if not right:
            wrong.append((method, path, status))
    assert wrong == []


@pytest.mark.parametrize("path", [path for method, path in DASHBOARD if method == "GET"])
def test_the_dashboard_of_a_bound_key_shows_nothing_of_another_customer(
    world: World, browser: httpx2.Client, path: str
) -> None:
    browser.post("/dashboard/sign-in", data={"key": world.keys["read of one"]})
    of_one = ("/customer", "/stream", "/receipt.json", "/invoice", "/invoice/entries", "/statement.pdf",
              "/statement.html", "/exports/{name}", "/streams", "/stream/sheet")  # fmt: skip
    if path in of_one:
        assert _open(browser, world, "GET", path, OTHER) == 404
    else:
        page = browser.get(f"/dashboard{path}", follow_redirects=True).text
        assert OTHER not in page.replace(f"customer_id={OTHER}", "")


def test_without_a_session_the_dashboard_shows_the_sign_in_form_only(api: Api) -> None:
    keys = _keys(api.service.engine)
    refused = ("ingest", "ingest of one", *sorted(REFUSED))
    with http_client(api.url) as browser, ThreadPoolExecutor(_PARALLEL) as pool:
        asked = {who: pool.submit(browser.post, "/dashboard/sign-in", data={"key": keys[who]}) for who in refused}
        for who, signing_in in asked.items():
            assert signing_in.result().status_code in (401, 403), who
        for (method, path), scopes in DASHBOARD.items():
            if scopes is not None:
                form = {"token": "guessed"} if method == "POST" else None
                asked_for = path.replace("{name}", "charges.csv").replace("{path:path}", "nowhere")
                answer = browser.request(method, f"/dashboard{asked_for}", data=form)
                assert answer.status_code == 303, path
                assert answer.headers["location"].startswith("/dashboard/sign-in")
