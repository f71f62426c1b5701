"""The pages of keys and of the audit log: for admins, forms with a token, secrets shown once, a confirmed end."""

import re

import httpx2
import pytest

from metering.access.scopes import Role
from tests.dashboard.browsing import Browser, browse
from tests.running_api import Api

SECRET = re.compile(r'<code class="secret">(mk_(\w+?)_\w+)</code>')


@pytest.fixture
def admin(api: Api) -> Browser:
    return browse(api)


def send(browser: Browser, path: str, **fields: str) -> httpx2.Response:
    return browser.http.post(f"/dashboard/keys/{path}", data={"token": browser.token(), **fields})


def create(browser: Browser, **fields: str) -> tuple[str, str]:
    """A key as a whole, and its id."""
    answer = send(browser, "create", **{"name": "portal", "role": "read", **fields})
    assert answer.status_code == 200, answer.text
    found = SECRET.search(answer.text)
    assert found is not None
    return found[1], found[2]


def works(api: Api, key: str) -> bool:
    with api.client_of(key) as client:
        return client.get("/v1/customers").status_code == 200


def test_an_admin_creates_a_key_whose_secret_is_shown_once_and_cached_nowhere(api: Api, admin: Browser) -> None:
    answer = send(admin, "create", name="portal <b>", role="read", customer_id="acme", expires_on="2999-01-31")
    found = SECRET.search(answer.text)
    assert found is not None
    assert answer.headers["cache-control"] == "no-store"
    assert "portal &lt;b&gt;" in answer.text
    assert works(api, found[1])
    page = admin.get("keys").text
    assert found[2] in page
    assert found[1] not in page
    assert "2999-01-31" in page
    (row,) = [each for each in api.client.get("/v1/keys").json()["data"] if each["key_id"] == found[2]]
    assert (row["customer_id"], row["expires_at"]) == ("acme", "2999-01-31T00:00:00Z")


def test_a_custom_key_is_created_by_its_scopes(api: Api, admin: Browser) -> None:
    _, key_id = create(admin, role="custom", scopes="totals:read, rates:read")
    (row,) = [each for each in api.client.get("/v1/keys").json()["data"] if each["key_id"] == key_id]
    assert row["scopes"] == ["rates:read", "totals:read"]


def test_a_key_is_rotated_with_an_overlap(api: Api, admin: Browser) -> None:
    old, key_id = create(admin)
    page = admin.get("keys", key=key_id).text
    assert f'name="key_id" value="{key_id}"' in page
    answer = send(admin, "rotate", key_id=key_id, overlap_hours="2")
    found = SECRET.search(answer.text)
    assert found is not None
    assert found[2] == key_id
    assert works(api, old)
    assert works(api, found[1])


def test_a_key_is_limited_and_the_limits_are_shown(api: Api, admin: Browser) -> None:
    _, key_id = create(admin, role="ingest")
    answer = send(admin, "limit", key_id=key_id, events_per_second="20000", concurrent_requests="")
    assert answer.status_code == 303
    (row,) = [each for each in api.client.get("/v1/keys").json()["data"] if each["key_id"] == key_id]
    assert row["limits"] == {
        "events_per_second": 20_000,
        "requests_per_second": None,
        "concurrent_requests": None,
    }
    page = admin.get(f"keys?key={key_id}&limited={key_id}").text
    assert "20,000 events/s" in page
    assert 'name="events_per_second" type="number" min="1" max="999999999" value="20000"' in page
    assert "Limits of key" in page


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "many", "9" * 10])
def test_a_limit_that_is_no_number_is_refused_with_the_field(admin: Browser, given: str) -> None:
    _, key_id = create(admin, role="ingest")
    answer = send(admin, "limit", key_id=key_id, events_per_second=given)
    assert answer.status_code == 422
    assert "events_per_second: expected a whole number" in answer.text


def test_a_key_is_revoked_only_when_its_id_is_typed(api: Api, admin: Browser) -> None:
    key, key_id = create(admin)
    refused = send(admin, "revoke", key_id=key_id, confirm="yes")
    assert refused.status_code == 422
    assert f"type the id of the key, {key_id}" in refused.text
    assert works(api, key)
    done = send(admin, "revoke", key_id=key_id, confirm=key_id)
    assert done.status_code == 303
    assert f"Key <code>{key_id}</code> revoked" in admin.http.get(done.headers["location"]).text
    (row,) = [each for each in api.client.get("/v1/keys").json()["data"] if each["key_id"] == key_id]
    assert row["state"] == "revoked"


WRONG = {
    "a role that does not exist": ("create", {"name": "x", "role": "owner"}, "role: one of"),
    "a scope that does not exist": ("create", {"name": "x", "role": "custom", "scopes": "all"}, "scopes: exp"),
    "a date that is none": ("create", {"name": "x", "role": "read", "expires_on": "soon"}, "expires_on: expected"),
    "the last year of the calendar": (
        "create", {"name": "x", "role": "read", "expires_on": "9999-12-31"}, "before the year"
    ),
    "a date that is over": (
        "create", {"name": "x", "role": "read", "expires_on": "2020-01-01"}, "expires_at: expected"
    ),
    "a name with NUL": ("create", {"name": "a\0b", "role": "read"}, "name: contains NUL"),
    "no number of hours": ("rotate", {"key_id": "x", "overlap_hours": "-1"}, "overlap_hours: expected"),
    "too many hours": ("rotate", {"key_id": "x", "overlap_hours": "721"}, "overlap_hours: expected 0 to 720"),
    "a key that does not exist": ("rotate", {"key_id": "nobody", "overlap_hours": "1"}, "no key has the id"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_form_is_refused_with_the_field(admin: Browser, case: str) -> None:
    path, fields, says = WRONG[case]
    answer = send(admin, path, **fields)
    assert answer.status_code == 422
    assert says in answer.text.replace("&#39;", "'")


_FORMS = [
    "sign-in",
    "keys/create",
    "keys/rotate",
    "keys/limit",
    "keys/revoke",
    "backlog/settle",
    "alert/create",
    "alert/change",
    "alert/mute",
    "alert/delete",
    "webhook/create",
    "webhook/change",
    "webhook/pause",
    "webhook/rotate",
    "webhook/test",
    "webhook/replay",
    "webhook/delete",
    "month-end/close",
    "month-end/push",
    "adjust/book",
]


@pytest.mark.parametrize("path", _FORMS)
def test_text_with_nul_is_refused_in_every_field_of_every_form(admin: Browser, path: str) -> None:
    fields = {
        "token": admin.token(),
        "action": "write_off",
        "customer_id": "acme",
        "stream_id": "s",
        "reason": "x",
    }
    for field in (*fields, "name", "key_id", "key", "overlap_hours", "unknown"):
        answer = admin.http.post(f"/dashboard/{path}", data={**fields, field: "a\0b"})
        assert (answer.status_code, f"{field}: contains NUL" in answer.text) == (422, True), (field, answer.text)


@pytest.mark.parametrize("path", ["create", "rotate", "limit", "revoke"])
def test_the_forms_need_the_token_of_the_session_and_our_own_origin(admin: Browser, path: str) -> None:
    fields = {"name": "x", "role": "admin", "key_id": "x", "overlap_hours": "1", "confirm": "x"}
    assert admin.http.post(f"/dashboard/keys/{path}", data=fields).status_code == 403
    foreign = {"origin": "https://evil.example.com"}
    signed = {**fields, "token": admin.token()}
    assert admin.http.post(f"/dashboard/keys/{path}", data=signed, headers=foreign).status_code == 403


def test_the_key_of_the_session_is_rotated_with_an_overlap_only(admin: Browser) -> None:
    mine = admin.key.split("_")[1]
    refused = send(admin, "rotate", key_id=mine, overlap_hours="0")
    assert refused.status_code == 422
    assert "its sessions would end" in refused.text
    assert SECRET.search(send(admin, "rotate", key_id=mine, overlap_hours="1").text)
    assert admin.get("keys")


def test_a_reader_sees_neither_page_and_changes_nothing(api: Api) -> None:
    reader = browse(api, Role.READ)
    for path in ("keys", "audit-log"):
        assert reader.http.get(f"/dashboard/{path}").status_code == 403
        assert f'href="/dashboard/{path}"' not in reader.get("").text
    assert send(reader, "create", name="x", role="admin").status_code == 403


def test_the_audit_log_shows_what_was_done_here_and_over_the_api_newest_first(api: Api, admin: Browser) -> None:
    _, key_id = create(admin)
    api.client.put("/v1/customers/acme", json={"name": "<script>"})
    page = admin.get("audit-log").text
    assert page.index("customer create") < page.index(key_id)
    assert "<script>&" not in page
    assert "&lt;script&gt;" in page
    (row,) = api.client.get("/v1/audit-log", params={"subject": key_id}).json()["data"]
    assert (row["door"], row["address"]) == ("dashboard", "127.0.0.1")
    assert row["request_id"].startswith("req_")
    mine = admin.key.split("_")[1]
    only = admin.get("audit-log", kind="key", actor=f"key {mine}").text
    assert key_id in only
    assert "dashboard" in only
    assert "customer create" not in only
    csv = admin.get("audit-log", csv="audit-log", kind="customer").text
    assert csv.splitlines()[0].removeprefix("\ufeff").startswith("audit_id,at,actor,door,address,what")
    assert "acme" in csv
