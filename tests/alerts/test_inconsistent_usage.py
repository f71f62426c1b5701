"""Counters that contradict each other: an alert by the day of booking, and the list of the streams."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from metering.alerts.alerts import AlertKind, AlertScope
from metering.alerts.evaluate_alerts import evaluate_alerts
from metering.events.events import UsageSource
from metering.events.usage import Usage
from metering.streams.bill import Flag
from tests.alerts.watched import NOW, Watched
from tests.builders.posted import stream
from tests.dashboard.browsing import browse
from tests.dashboard.reading import links_of, rows_of
from tests.running_api import Api

KIND = AlertKind.INCONSISTENT_USAGE
DAY = timedelta(days=1)
WRONG = Usage(input_tokens=0, output_tokens=20, reasoning_output_tokens=50)


def contradict(watched: Watched, customer_id: str, *names: str, days_ago: int = 0) -> None:
    for name in names:
        watched.use(customer_id, 0, NOW - days_ago * DAY, name=name, usage=WRONG)


def test_it_fires_once_a_day_at_the_number_of_streams_booked_for_a_customer_and_for_all(watched: Watched) -> None:
    watched.alert(KIND, 2)
    watched.alert(KIND, 3, scope=AlertScope.DEPLOYMENT)
    watched.use("acme", 5, NOW)
    contradict(watched, "acme", "one")
    assert watched.occurred(KIND) == set()
    contradict(watched, "acme", "two", days_ago=9)
    contradict(watched, "bolt", "three")
    assert watched.occurred(KIND) == {("acme", "2026-11-23", "2"), ("", "2026-11-23", "3")}
    told = next(one.data for one in watched.occurrences() if one.customer_id == "acme")
    expected = {"value": "2", "unit": "streams", "stream_count": 2, "first_ended_at": "2026-11-14T15:30:00Z"}
    assert {name: told[name] for name in expected} == expected
    contradict(watched, "acme", "four")
    assert watched.evaluate(KIND).occurrences == 0
    assert watched.evaluate(KIND, NOW + 2 * DAY).occurrences == 0


def test_a_stream_counts_once_though_its_bill_and_an_adjustment_both_contradict_themselves(
    watched: Watched,
) -> None:
    watched.alert(KIND, 1, 2)
    watched.use("acme", 0, NOW, name="s", usage=WRONG, usage_source=UsageSource.GATEWAY_COUNT)
    more = Usage(input_tokens=0, output_tokens=30, reasoning_output_tokens=70)
    watched.use("acme", 0, NOW, name="s", usage=more)
    assert watched.rows("SELECT count(*) FROM adjustments WHERE flags = '{inconsistent_usage}'") == [(1,)]
    assert watched.occurred(KIND) == {("acme", "2026-11-23", "1")}


def test_a_contradiction_that_only_a_later_usage_brings_counts_on_the_day_of_its_booking(watched: Watched) -> None:
    watched.alert(KIND, 1)
    fine = Usage(input_tokens=0, output_tokens=20)
    watched.use("acme", 0, NOW - 3 * DAY, name="s", usage=fine, usage_source=UsageSource.GATEWAY_COUNT)
    assert watched.occurred(KIND) == set()
    contradict(watched, "acme", "s", days_ago=3)
    assert watched.occurred(KIND) == {("acme", "2026-11-23", "1")}


def post_flagged(api: Api) -> Sequence[str]:
    """Two streams whose counters contradict each other and one whose counters fit; the ids of the two."""
    wrong = {"input_tokens": 100, "output_tokens": 20, "reasoning_output_tokens": 50}
    posted = [stream(stream_id) for stream_id in ("a", "b", "fine")]
    for begun, end in posted[:2]:
        begun["data"].pop("input_tokens", None)
        end["data"]["usage"] = wrong
    api.post([event for each in posted for event in each])
    api.finalize()
    return ["a", "b"]


def test_charges_are_listed_by_flag(api: Api) -> None:
    flagged = post_flagged(api)
    first = api.client.get("/v1/charges", params={"flag": "inconsistent_usage", "limit": 1}).json()
    rest = api.client.get(
        "/v1/charges", params={"flag": "inconsistent_usage", "cursor": first["next_cursor"]}
    ).json()
    assert [each["stream_id"] for each in (*first["data"], *rest["data"])] == flagged
    assert api.client.get("/v1/charges", params={"flag": "clock_skew"}).json()["data"] == []
    wrong = api.client.get("/v1/charges", params={"flag": "odd"})
    assert wrong.status_code == 422
    assert "inconsistent_usage" in wrong.text


def test_the_dashboard_lists_and_sums_the_streams_with_a_flag_and_the_alert_leads_there(api: Api) -> None:
    flagged = post_flagged(api)
    browser = browse(api)
    ends = {"from": "2026-11-01", "to": "2026-12-01"}
    page = browser.get("streams", flag=Flag.INCONSISTENT_USAGE, **ends)
    rows = rows_of(browser.get("streams", flag=Flag.INCONSISTENT_USAGE, csv="streams", **ends).text)
    assert sorted(row["stream_id"] for row in rows) == flagged
    assert {row["note"] for row in rows} == {"inconsistent usage"}
    assert "2 streams" in page.text
    assert "without credits" in page.text
    dollars = sum(Decimal(row["cost_usd"]) for row in rows)
    assert f'<data value="{dollars.normalize():f}"' in page.text
    terms = {"name": "Counters", "kind": KIND.value, "scope": "deployment", "thresholds": ["2"]}
    made = api.client.post("/v1/alerts", json=terms)
    assert made.status_code == 201, made.text
    assert evaluate_alerts(engine=api.service.engine, kind=KIND, every=DAY, now=datetime.now(UTC)) is not None
    explained = next(link for link in links_of(browser.get("alerts").text) if "flag=inconsistent_usage" in link)
    listed = rows_of(browser.http.get(f"{explained}&csv=streams").text)
    assert sorted(row["stream_id"] for row in listed) == flagged
