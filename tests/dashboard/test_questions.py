"""Whatever is asked of a page: nothing is there yet, it makes no sense, or somebody else's is meant."""

from datetime import UTC, datetime

import pytest

from metering.access.scopes import Role
from metering.corrections.resolve_stream import resolve_stream
from metering.streams.resolutions import ResolutionAction
from tests.builders.posted import event
from tests.builders.seeded import OPEN, Seeded
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.reading import links_of
from tests.running_api import Api, http_client

EMPTY = {
    "": "Waiting for the first event",
    "?month=2025-11": "No final streams in this month yet",
    "customers": "No usage in this month",
    "customers?q=x": "No customer matches",
    "models": "No final streams in this month yet",
    "streams": "No final stream matches",
    "streams?state=open": "No streams in progress",
    "streams?q=x": "No stream has the ID",
    "invoices": "No invoice matches",
    "drift": "No reconciliation yet",
    "backlog": "The backlog is empty",
    "alerts": "No alerts yet. Create one here, with POST /v1/alerts",
    "alerts?kind=drift": "No alert has fired",
    "rates?q=no-such-model": "No model matches",
    "system": "run <code>metering reconcile</code>",
}


@pytest.mark.parametrize("path", EMPTY)
def test_an_empty_page_says_what_to_do_next(empty: Browser, path: str) -> None:
    assert EMPTY[path].replace("'", "&#39;").replace("&amp;#39;", "&#39;") in empty.get(path).text


WRONG = {
    "?month=2026-13": "period: expected a month such as 2026-10",
    "streams?from=yesterday": "from: expected a date",
    "streams?to=0001-01-01": "to: expected a date",
    "streams?outcome=exploded": "is not one of completed",
    "streams?state=gone": "state: ",
    "streams?retry=maybe": "retry: ",
    "streams?behind=x": "cursor: not a next_cursor of this service",
    "invoices?behind=p.a": "cursor: belongs to another query",
    "streams?model=" + "x" * 300: "model: at most 256 characters",
    "streams?q=a%00b": "q: at most 256 characters, none of them NUL",
    "invoices?month=October": "period: expected a month",
    "invoices?state=lost": "state: ",
    "backlog?state=lost": "state: ",
    "backlog?sort-backlog=price": "sort-backlog: one of since, customer_id",
    "settle?customer_id=acme": "stream_id: required",
    "alerts?kind=weather": "kind: ",
    "customer": "customer_id: required",
    "stream?customer_id=acme": "stream_id: required",
    "invoice": "invoice_id: required",
    "rate?provider=openai": "model: required",
}


@pytest.mark.parametrize("path", WRONG)
def test_a_question_without_sense_is_answered_with_what_is_wrong(admin: Browser, path: str) -> None:
    answer = admin.http.get(f"/dashboard/{path}")
    assert answer.status_code == 422
    assert WRONG[path] in answer.text.replace("&#39;", "'")
    assert "Go to the overview" in answer.text


MISSING = (
    "nowhere", "customer?customer_id=nobody", "stream?customer_id=hooli&stream_id=none", "invoice?invoice_id=none",
    "rate?provider=openai&model=none", "?csv=none", "invoice/entries?invoice_id=none&line=x",
    "receipt.json?customer_id=hooli&stream_id=none", "statement.pdf?invoice_id=none",
)  # fmt: skip


@pytest.mark.parametrize("path", MISSING)
def test_what_is_not_there_is_not_found(admin: Browser, path: str) -> None:
    assert admin.http.get(f"/dashboard/{path}").status_code == 404


@pytest.mark.parametrize("path", ["nowhere", "streams/nowhere/else", "customers/"])
def test_an_address_that_does_not_exist_is_told_within_the_frame(admin: Browser, path: str) -> None:
    answer = admin.http.get(f"/dashboard/{path}")
    assert answer.status_code == 404
    assert "this page does not exist" in answer.text
    assert {"/dashboard/customers", "/dashboard/streams"} <= {link.split("?")[0] for link in links_of(answer.text)}


def test_without_a_session_an_address_that_does_not_exist_leads_to_the_form(shared_api: Api) -> None:
    with http_client(shared_api.url) as anybody:
        answer = anybody.get("/dashboard/nowhere")
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/dashboard/sign-in?next=%2Fdashboard%2Fnowhere",
    )


def test_an_id_may_have_any_characters(api: Api) -> None:
    customer, stream = " a/b?c&d=é%2F ", "../x y#z"
    data = {"stream_id": stream, "provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 812}
    end = {"stream_id": stream, "outcome": "completed", "usage": {"input_tokens": 1, "output_tokens": 9}}
    kinds = (("stream-start", data), ("stream-end", end))
    assert api.post([event(kind, each, subject=customer) for kind, each in kinds]).json()["rejected"] == []
    api.finalize()
    browser = browse(api)
    for path in ("streams?month=2026-11", "customers?month=2026-11"):
        for link in links_of(browser.get(path).text):
            if "/customer?" in link or "/stream?" in link:
                assert browser.http.get(link).status_code == 200, link
    page = browser.get("stream", customer_id=customer, stream_id=stream)
    assert "claude-opus-4.7" in page.text


THEIRS = (
    "customer?customer_id=wonka", "streams?customer_id=wonka", "backlog?customer_id=wonka",
    "invoices?customer_id=wonka", "drift?customer_id=wonka", "alerts?customer_id=wonka", "customers", "system",
    "stream?customer_id=wonka&stream_id=wonka-1101-000", "receipt.json?customer_id=wonka&stream_id=wonka-1101-000",
)  # fmt: skip


@pytest.mark.parametrize("path", THEIRS)
def test_a_key_of_one_customer_finds_no_other(bound: Browser, path: str) -> None:
    assert bound.http.get(f"/dashboard/{path}").status_code == 404


def test_a_key_of_one_customer_sees_that_one_on_every_page(bound: Browser, admin: Browser, seeded: Seeded) -> None:
    others = ("wonka", "tyrell", "umbrella", "soylent", "Umbrella Robotics")
    paths = ("", f"?month={seeded.period}", "models", "streams", "streams?state=open", f"streams?q={OPEN}",
             "invoices", "drift", "alerts", "backlog", "rates", "customer?customer_id=hooli")  # fmt: skip
    for path in paths:
        text = bound.get(path).text
        assert not [name for name in others if name in text], path
    for path in (f"?month={seeded.period}", f"streams?month={seeded.period}", "invoices"):
        assert "umbrella" in admin.get(path).text
    for name in ("models", "keys", "outcomes", "cost-by-day"):
        assert "umbrella" not in bound.get("", csv=name).text
    number = next(
        each["number"]
        for each in seeded.api.client.get("/v1/invoices", params={"customer_id": "wonka"}).json()["data"]
    )
    for path in ("invoice", "invoice/entries", "statement.pdf", "statement.html"):
        assert bound.http.get(f"/dashboard/{path}", params={"invoice_id": number}).status_code == 404


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'{{7*7}}"


def test_what_names_hold_is_text_on_every_page(api: Api) -> None:
    names = {"provider": "anthropic", "model": HOSTILE, "api_key_id": HOSTILE, "tags": {HOSTILE: HOSTILE}}
    start = {"stream_id": HOSTILE, "input_tokens": 812, **names}
    priced = {**start, "stream_id": f"{HOSTILE}2", "model": "claude-opus-4.7"}
    end = {"outcome": "completed", "usage": {"input_tokens": 1, "output_tokens": 9}, "response_id": HOSTILE,
           "error_type": HOSTILE, "finish_reasons": [HOSTILE]}  # fmt: skip
    events = [event("stream-start", each, subject=HOSTILE) for each in (start, priced)]
    events += [
        event("stream-end", {**end, "stream_id": each["stream_id"]}, subject=HOSTILE) for each in (start, priced)
    ]
    assert api.post(events).json()["rejected"] == []
    api.client.put("/v1/customers/x", json={"name": HOSTILE})
    alert = {"name": HOSTILE, "kind": "backlog_age", "scope": "deployment", "thresholds": ["1"]}
    assert api.client.post("/v1/alerts", json=alert).status_code == 201
    api.finalize()
    api.client.post(
        "/v1/adjustments",
        json={"customer_id": HOSTILE, "reason": "credit", "usd_cents": "-1", "note": HOSTILE, "kind": "credit"},
        headers={"idempotency-key": "x"},
    )
    browser = browse(api)
    assert "&lt;script&gt;alert(1)" in browser.get("backlog").text
    settled = {"action": ResolutionAction.WRITE_OFF, "reason": HOSTILE, "resolved_by": HOSTILE}
    resolve_stream(
        engine=api.service.engine, customer_id=HOSTILE, stream_id=HOSTILE, now=datetime.now(UTC), **settled
    )
    api.finalize()
    pages = {
        "": {"month": "2026-11"},
        "customers": {"month": "2026-11"},
        "customer": {"customer_id": HOSTILE},
        "models": {"month": "2026-11"},
        "streams": {"month": "2026-11", "model": HOSTILE},
        "stream": {"customer_id": HOSTILE, "stream_id": HOSTILE},
        "rates": {"q": HOSTILE},
        "alerts": {},
    }
    shown = 0
    for path, query in pages.items():
        text = browser.get(path, **query).text
        assert "<script>alert" not in text, path
        assert "<img src=x" not in text, path
        assert "49" not in text.split("{{7*7}}")[0][-3:]
        shown += "&lt;script&gt;alert(1)" in text or "\\u003cscript>alert(1)" in text
    assert shown == len(pages)
    for path, query in (("", {"csv": "top", "month": "2026-11"}), ("models", {"csv": "models"})):
        assert browser.get(path, **query).headers["content-type"].startswith("text/csv")


def test_a_file_holds_no_formula(api: Api) -> None:
    for number, name in enumerate(("=1+1", "+1", "-1", "@x", "\u00a0=x")):
        end = {"stream_id": name, "outcome": "completed", "usage": {"input_tokens": 1, "output_tokens": 9}}
        data = {"stream_id": name, "provider": "anthropic", "model": "claude-opus-4.7"}
        kinds = (("stream-start", data), ("stream-end", end))
        events = [event(kind, each, subject=name, id=f"{number}{kind}") for kind, each in kinds]
        assert api.post(events).json()["rejected"] == []
    api.finalize()
    browser = browse(api)
    lines = browser.get("streams", month="2026-11", csv="streams").text.splitlines()[1:]
    assert len(lines) == 5
    for line in lines:
        assert line.split(",")[1].strip('"').startswith("'")


@pytest.mark.parametrize("path", ["models", "streams", "rates", "invoices", "alerts"])
def test_a_customer_of_which_nothing_has_arrived_yet_sees_empty_pages(api: Api, path: str) -> None:
    early = browse(api, Role.READ, customer_id="not-here-yet")
    assert early.http.get(f"/dashboard/{path}").status_code == 200
