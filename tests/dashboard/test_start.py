"""The start page: a new deployment says what to do first, and shows that it has worked."""

import html
import re
import shlex
import subprocess
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from metering.access.scopes import Role
from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE
from metering.dashboard.deployment import bills_with_stripe
from tests.dashboard.browsing import Browser, browse
from tests.running_api import Api
from tests.tools import need


@pytest.fixture
def new(api: Api) -> Browser:
    """Signed in where nothing has happened yet."""
    return browse(api)


def steps(page: str) -> dict[str, str]:
    """Whether each step is to do or done, by its title."""
    found = re.findall(r'<span class="unseen">(Done|To do):</span> ([^<]+)</h2>', page)
    return {html.unescape(title).strip(): state for state, title in found}


def posting(page: str) -> str:
    """The command of the page that posts events."""
    return next(each for each in re.findall(r"<pre[^>]*>([^<]+)</pre>", page) if each.startswith("curl"))


def test_a_new_deployment_says_what_to_do_and_waits_for_the_first_event(new: Browser) -> None:
    page = new.get("").text
    assert steps(page) == {
        "Make a key for your gateway": "To do",
        "Post the first events": "To do",
        "Waiting for the first event…": "To do",
        "Connect Stripe": "To do",
    }
    assert 'hx-get="/dashboard/start?' in page
    assert "metering keys create --role ingest" in page


@pytest.mark.parametrize(
    ("key", "base", "connected"),
    [
        ("sk_test_1", "http://127.0.0.1:8420", False),
        ("sk_test_1", None, True),
        ("rk_live_1", None, True),
        (None, None, False),
    ],
)
def test_the_local_stand_in_is_not_a_connection_to_stripe(
    api: Api, key: str | None, base: str | None, connected: bool
) -> None:
    stripe = {"stripe_api_key": key and SecretStr(key), "stripe_api_base": base}
    assert bills_with_stripe(api.service.settings.model_copy(update=stripe)) is connected


def test_the_command_of_the_page_leads_to_the_first_final_stream(new: Browser, api: Api) -> None:
    need("curl")
    command = html.unescape(posting(new.get("").text))
    with api.client_with(Role.INGEST) as gateway:
        key = gateway.headers["authorization"].removeprefix("Bearer ")
    words = [word.replace("$KEY", key) for word in shlex.split(command)]
    posted = subprocess.run([*words, "--fail-with-body", "--silent"], capture_output=True, text=True, check=False)
    assert posted.returncode == 0, posted.stdout
    page = new.get("").text
    assert steps(page)["The first events have arrived"] == "To do"
    api.finalize()
    assert steps(new.get("start").text)["The first stream is final"] == "Done"
    assert "hx-get" not in new.get("start").text.partition("<main")[2]
    assert "Get started" not in new.get("").text


def test_what_cannot_be_billed_leads_to_the_backlog(new: Browser, api: Api) -> None:
    command = html.unescape(posting(new.get("").text))
    body = shlex.split(command)[-1].replace("claude-opus-4.7", "nobody-prices-it")
    assert api.client.post("/v1/events", content=body).status_code == 200
    api.finalize()
    page = new.get("").text
    assert steps(page)["1 ended stream cannot be billed yet"] == "To do"
    assert '<a href="/dashboard/backlog">Open the backlog</a>' in page


def test_months_end_with_the_current_one(new: Browser) -> None:
    current = BillingPeriod.containing(at=datetime.now(UTC), time_zone=UTC_ZONE)
    # In the last hours of a month, the next one has begun east of UTC.
    last, later = current.previous, current.next.next
    for path in ("", "models", "customers"):
        assert 'rel="next"' not in new.get(path, month=str(current)).text
        assert 'rel="next"' in new.get(path, month=str(last)).text
        refused = new.http.get(f"/dashboard/{path}", params={"month": str(later)})
        assert (refused.status_code, f"month: {later} has not begun" in refused.text) == (422, True)


def test_a_month_that_is_asked_for_is_shown_also_while_it_is_empty(new: Browser) -> None:
    assert "Overview of November 2025" in new.get("", month="2025-11").text
    assert new.get("", csv="models").headers["content-type"].startswith("text/csv")
