"""Signing in: by a key that reads, once in a while, from our own form; and what a browser is told to keep to."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import psycopg
import pytest

from metering.access.manage_access import create_key, revoke_key
from metering.access.scopes import Role
from metering.dashboard.rendering import POLICY, STATIC
from tests.builders.seeded import Seeded
from tests.dashboard.browsing import Browser
from tests.database import Database
from tests.running_api import Api, http_client


@pytest.fixture
def browser(api: Api) -> Browser:
    return Browser(api)


def test_a_signed_out_visitor_sees_the_form_and_comes_back_afterwards(browser: Browser) -> None:
    answer = browser.http.get("/dashboard/streams?model=a%26b")
    assert answer.status_code == 303
    form = browser.http.get(answer.headers["location"])
    assert 'value="/dashboard/streams?model=a%26b"' in form.text
    done = browser.http.post(
        "/dashboard/sign-in", data={"key": browser.key, "next": "/dashboard/streams?model=a%26b"}
    )
    assert (done.status_code, done.headers["location"]) == (303, "/dashboard/streams?model=a%26b")
    assert "Streams" in browser.get("streams", model="a&b").text


@pytest.mark.parametrize("path", ["/", "/dashboard"])
def test_the_hosts_root_leads_to_the_dashboard(browser: Browser, path: str) -> None:
    assert "Sign in" in browser.http.get(path, follow_redirects=True).text


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example",
        "/dashboard/\\evil",
        "/dashboard.evil/",
        "javascript:alert(1)",
        "/v1",
    ],
)
def test_signing_in_leads_to_the_dashboard_and_nowhere_else(browser: Browser, elsewhere: str) -> None:
    done = browser.http.post("/dashboard/sign-in", data={"key": browser.key, "next": elsewhere})
    assert (done.status_code, done.headers["location"]) == (303, "/dashboard/")


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(browser: Browser) -> None:
    cookie = browser.sign_in().headers["set-cookie"]
    assert {"HttpOnly", "Path=/dashboard", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie  # this test speaks plain HTTP
    assert browser.key not in cookie


def test_only_a_hash_of_a_session_is_stored(browser: Browser, rated_database: Database) -> None:
    session = browser.sign_in().cookies["metering_session"]
    with psycopg.connect(rated_database.url) as connection:
        (stored,) = connection.execute("SELECT session_hash FROM dashboard_sessions").fetchall()
    assert session.encode() not in bytes(stored[0])


@pytest.mark.parametrize("key", ["", "nonsense", "mk_nobody_secret"])
def test_a_wrong_key_is_refused_and_the_form_says_so(browser: Browser, key: str) -> None:
    answer = browser.http.post("/dashboard/sign-in", data={"key": key})
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert "set-cookie" not in answer.headers


def test_a_key_that_only_posts_events_cannot_look(api: Api) -> None:
    answer = Browser(api, Role.INGEST).sign_in()
    assert answer.status_code == 403
    assert "sign in with role read or admin" in answer.text


def test_who_tries_keys_is_told_to_wait_and_a_right_key_passes(browser: Browser) -> None:
    for _ in range(10):
        assert browser.sign_in("mk_nobody_secret").status_code == 401
    answer = browser.sign_in("mk_nobody_secret")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert browser.sign_in().status_code == 303


def test_signing_out_ends_the_session_for_good(browser: Browser) -> None:
    browser.sign_in()
    session = browser.http.cookies["metering_session"]
    answer = browser.http.post("/dashboard/sign-out", data={"token": browser.token()})
    assert answer.status_code == 303
    browser.http.cookies.set("metering_session", session)
    assert browser.http.get("/dashboard/").status_code == 303


def test_a_session_ends_with_its_key(api: Api) -> None:
    key = create_key(engine=api.service.engine, role=Role.READ, name="x", customer_id=None, now=datetime.now(UTC))
    browser = Browser(api)
    browser.sign_in(str(key))
    assert browser.http.get("/dashboard/").status_code == 200
    revoke_key(engine=api.service.engine, key_id=key.key_id, by="test", now=datetime.now(UTC))
    assert browser.http.get("/dashboard/").status_code == 303


def test_a_session_expires_and_is_deleted(browser: Browser, rated_database: Database) -> None:
    browser.sign_in()
    with psycopg.connect(rated_database.url) as connection:
        past = timedelta(hours=13)
        connection.execute(
            "UPDATE dashboard_sessions SET created_at = created_at - %s, expires_at = expires_at - %s",
            (past, past),
        )
    assert browser.http.get("/dashboard/").status_code == 303
    browser.sign_in()
    with psycopg.connect(rated_database.url) as connection:
        assert connection.execute("SELECT count(*) FROM dashboard_sessions").fetchone() == (1,)


@pytest.mark.parametrize("path", ["sign-in", "sign-out", "backlog/settle"])
@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"},
     {"origin": "null"}],
    ids=str,
)  # fmt: skip
def test_a_form_that_another_site_sent_is_refused(browser: Browser, path: str, headers: dict[str, str]) -> None:
    browser.sign_in()
    fields = {"key": browser.key, "token": browser.token()}
    answer = browser.http.post(f"/dashboard/{path}", data=fields, headers=headers)
    assert answer.status_code == 403
    assert browser.http.get("/dashboard/").status_code == 200


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_a_form_without_the_sessions_token_is_refused(browser: Browser, token: str) -> None:
    browser.sign_in()
    for path in ("sign-out", "backlog/settle"):
        assert browser.http.post(f"/dashboard/{path}", data={"token": token}).status_code == 403


def test_a_form_is_read_within_bounds(browser: Browser) -> None:
    assert browser.http.post("/dashboard/sign-in", data={"key": "x" * 20_000}).status_code == 422
    assert browser.http.post("/dashboard/sign-in", json={"key": browser.key}).status_code == 422


def test_a_part_of_a_page_that_finds_the_session_over_sends_the_browser_to_the_form(browser: Browser) -> None:
    answer = browser.http.get("/dashboard/", headers={"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/dashboard/sign-in")


def test_every_answer_keeps_the_browser_to_itself(admin: Browser) -> None:
    assert "unsafe" not in POLICY
    for path in (
        "",
        "streams",
        "nowhere",
        "customer?customer_id=nobody",
        "static/app.js",
        "?csv=cost-by-day",
        "?csv=x",
    ):
        answer = admin.http.get(f"/dashboard/{path}")
        assert answer.headers["content-security-policy"] == POLICY, path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        kept = "public" if path.startswith("static") else "no-store"
        assert kept in answer.headers["cache-control"], path


def test_pages_name_nothing_from_elsewhere_and_have_no_inline_script(admin: Browser) -> None:
    text = admin.get("").text
    assert "<script>" not in text
    assert " style=" not in text
    assert " onclick" not in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_a_file_that_the_browser_has_is_not_sent_again(seeded: Seeded) -> None:
    with http_client(seeded.api.url) as anybody:
        path = "/dashboard/static/app.css"
        first = anybody.get(path)
        assert (first.status_code, first.headers["content-type"]) == (200, "text/css; charset=utf-8")
        again = anybody.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["cache-control"] == first.headers["cache-control"]
        head = anybody.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == len(first.content)
        assert anybody.post(path).status_code == 405
        for wrong in ("nothing.css", "%2e%2e/app.py", "vendor", ""):
            assert anybody.get(f"/dashboard/static/{wrong}").status_code == 404


def test_static_files_are_those_whose_checksums_are_beside_them(seeded: Seeded) -> None:
    with http_client(seeded.api.url) as anybody:
        sums = (STATIC / "vendor/SHA256SUMS").read_text().split()
        for digest, name in zip(sums[::2], sums[1::2], strict=True):
            body = anybody.get(f"/dashboard/static/vendor/{name}").content
            assert sha256(body).hexdigest() == digest
