"""A link that opens one customer's page: made by staff, for a time, and withdrawn by revoking its key."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import httpx2
import pytest

from metering.access.scopes import Role
from tests.builders.seeded import Seeded
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.crawling import text_of
from tests.running_api import http_client


def make(admin: Browser, **changes: str) -> httpx2.Response:
    fields = {"token": admin.token(), "customer_id": "hooli", "days": "7", **changes}
    return admin.http.post("/dashboard/customer/link", data=fields)


def link_in(page: str) -> str:
    found = re.search(r'<code class="secret">([^<]+)</code>', page)
    assert found is not None
    return unescape(found[1])


def follow(seeded: Seeded, address: str) -> httpx2.Response:
    """What the sign-in page sends of a link."""
    key = address.partition("#key=")[2]
    client = http_client(seeded.api.url)
    answer = client.post("/dashboard/sign-in", data={"key": key, "by": "link", "next": "/dashboard/"})
    return client.get("/dashboard/") if answer.status_code == 303 else answer


def test_a_link_shows_one_customer_what_is_its_own(admin: Browser, seeded: Seeded) -> None:
    page = make(admin)
    assert page.status_code == 200
    address = link_in(page.text)
    assert address.startswith(f"{seeded.api.url}/dashboard/sign-in#key=mk_")
    shown = follow(seeded, address)
    assert shown.status_code == 200
    assert "Hooli" in shown.text
    assert "Backlog" not in shown.text
    assert "customer/link" not in shown.text
    keys = {key["key_id"]: key for key in seeded.api.client.get("/v1/keys").json()["data"]}
    key = keys[address.partition("#key=mk_")[2].partition("_")[0]]
    assert (key["role"], key["customer_id"], key["name"]) == ("read", "hooli", "link to the page of hooli")
    days = datetime.fromisoformat(key["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=6) < days <= timedelta(days=7)
    assert not re.search(r"\dT\d\d:", text_of(admin.get("audit-log").text))


def test_a_link_that_was_withdrawn_or_cut_off_says_so(admin: Browser, seeded: Seeded) -> None:
    address = link_in(make(admin, days="1").text)
    key_id = address.partition("#key=mk_")[2].partition("_")[0]
    assert seeded.api.client.delete(f"/v1/keys/{key_id}").status_code in (200, 204)
    for sent in (address, address[:-5], address.partition("#")[0] + "#key=half"):
        answer = follow(seeded, sent)
        assert answer.status_code == 401
        assert "this link has expired or is incomplete: ask the sender" in answer.text


def test_a_link_with_a_key_of_staff_opens_nothing(seeded: Seeded) -> None:
    with seeded.api.client_with(Role.READ) as client:
        key = client.headers["authorization"].removeprefix("Bearer ")
    answer = follow(seeded, f"{seeded.api.url}/dashboard/sign-in#key={key}")
    assert answer.status_code == 403
    assert "sign in with the key itself" in answer.text


@pytest.mark.parametrize(
    ("changes", "says"), [({"days": "365"}, "days: one of"), ({"customer_id": "nobody"}, "there is no customer")]
)
def test_what_is_wrong_with_the_form_is_said(admin: Browser, changes: dict[str, str], says: str) -> None:
    answer = make(admin, **changes)
    assert answer.status_code == 422
    assert says in unescape(answer.text)


def test_only_who_may_make_keys_makes_links(seeded: Seeded) -> None:
    reader = browse(seeded.api, Role.READ)
    assert "Make a link" not in reader.get("customer", customer_id="hooli").text
    assert make(reader).status_code == 403
