"""The audit finds nothing in correct books, and names every row that was changed manually."""

from datetime import timedelta
from decimal import Decimal

import pytest

from metering.audit.queries import total_checks
from metering.audit.run import audit
from metering.core.period import BillingPeriod
from metering.events.usage import UsageKind
from metering.prices.rates import Rate
from metering.prices.set_rate import set_rate
from tests.audit.planting import LATER, Planting
from tests.builders import T0
from tests.command_line import CommandLine


def test_books_with_something_of_everything_agree(planting: Planting) -> None:
    report = audit(engine=planting.books.service.engine, now=LATER)
    assert report.differences == []
    assert (report.streams, report.events, report.pending, report.before_journal) == (14, 29, 0, 0)
    bookings = planting.books.check_totals()
    assert bookings > 0


PLANTED = [
    ("journal", "SET event_count = event_count + 1", "journal", "event_count"),
    ("journal", "SET rejected = '{0}'", "journal", "event_count"),
    ("journal", "SET body = '\\x00'", "journal", "cannot be read"),
    ("journal", "SET stream_hashes = '{}'", "journal", "stream_hashes"),
    ("streams", "SET started_at = started_at + interval '1 s'", "streams", "start.event.time"),
    ("streams", "SET start_fingerprint = 1", "streams", "start.fingerprint"),
    ("streams", "SET start_conflicting = true", "streams", "start.conflicting"),
    ("streams", """SET end_data = replace(end_data::text, '5000', '5001')::json""", "streams", "input_tokens"),
    ("streams", """SET end_data = '{"outcome": 5}'""", "streams", "values are invalid"),
    ("streams", "SET last_event_at = last_event_at + interval '1 s'", "streams", "last_event_at"),
    ("streams", "SET delivered_seq = 9, delivered_output_tokens = 9", "streams", "delivered"),
    ("streams", "SET first_received_at = first_received_at - interval '1 day'", "streams", "first_received_at"),
    ("streams", "SET last_received_at = last_received_at + interval '1 day'", "streams", "last_received_at"),
    ("streams", "SET state = 'open'", "streams", "state"),
    ("streams", "SET state_reason = 'no reason'", "streams", "state_reason"),
    ("streams", "SET revision = 1", "streams", "revision"),
    ("charges", "SET usd_cents = usd_cents + 0.0001", "charges", "usd_cents"),
    ("charges", "SET input_tokens = 5001", "charges", "usage.input_tokens"),
    ("charges", "SET lines = replace(lines::text, '300', '301')::json", "charges", "its quantity times its rate"),
    ("charges", "SET rate_card_id = (SELECT max(rate_card_id) FROM rate_cards)", "charges", "rate_card_id"),
    ("charges", "SET markup_percent = 0", "charges", "markup_percent"),
    ("charges", "SET period = '2026-08'", "charges", "period"),
    ("charges", "SET booked_at = '2026-01-01Z'", "charges", "no bill"),
    ("charges", "SET charge_id = 'ch_other'", "charges", "charge_id"),
    ("charges", "SET outcome = 'cancelled'", "charges", "outcome"),
    ("charges", "SET request_key = 1", "charges", "request_key"),
    ("charges", "SET usage_source = 'estimate'", "charges", "usage_source"),
    ("streams", "SET start_received_at = started_at", "streams", "start.received_at"),
    ("streams", "SET end_received_at = ended_at", "streams", "end.received_at"),
    ("streams", "SET clock_ahead_seconds = 3600", "streams", "clock_ahead_seconds"),
    ("charges", "SET flags = '{parent_rate}'", "charges", "flags"),
    ("charges", "SET flags = '{clock_skew}'", "charges", "flags"),
    ("charges", "SET web_searches = 3", "charges", "usage.web_searches"),
    ("charges", "SET audio_seconds = 1.5", "charges", "usage.audio_seconds"),
    ("charges", "SET upstream_usd_cents = 2", "charges", "upstream_usd_cents"),
    ("charges", "SET response_provider = 'openai'", "charges", "response_provider"),
    ("charges", "SET price_source = 'upstream'", "charges", "price_source"),
]


@pytest.mark.parametrize(("table", "change", "found_in", "says"), PLANTED, ids=lambda value: value[:50])
def test_a_change_by_hand_is_found(planting: Planting, table: str, change: str, found_in: str, says: str) -> None:
    where = (
        "stream_id = 'completed'" if table != "journal" else "journal_id = (SELECT min(journal_id) FROM journal)"
    )
    planting.plant(f"UPDATE {table} {change} WHERE {where}")
    assert [what for what in planting.audit() if what[0] == found_in and says in what[2]]


ELSEWHERE = [
    ("UPDATE streams SET due_at = NULL WHERE stream_id = 'open'", "streams", "acme/open"),
    ("UPDATE streams SET state = 'orphaned' WHERE stream_id = 'unpriced'", "streams", "acme/unpriced"),
    ("UPDATE charges SET retry_of = 'completed' WHERE stream_id = 'again'", "charges", "acme/again"),
    ("UPDATE charges SET retry_of = NULL WHERE stream_id = 'again'", "totals_hourly", "acme"),
    ("UPDATE charges SET resolution = NULL WHERE stream_id = 'as-is'", "charges", "acme/as-is"),
    ("UPDATE charges SET cancel_policy = 'drain' WHERE stream_id = 'gone'", "charges", "acme/gone"),
    (
        "UPDATE adjustments SET usd_cents = usd_cents + 1 WHERE stream_id = 'late'",
        "adjustments",
        "acme/late revision 1",
    ),
    ("UPDATE adjustments SET period = '2027-03' WHERE stream_id = 'late'", "adjustments", "acme/late revision 1"),
    (
        "UPDATE adjustments SET charged_ended_at = charged_ended_at - interval '1 day' WHERE stream_id = 'late'",
        "adjustments",
        "acme/late revision 1",
    ),
    (
        "UPDATE adjustments SET bill_usd_cents = bill_usd_cents + 1 WHERE stream_id = 'late'",
        "adjustments",
        "acme/late revision 1",
    ),
    (
        "UPDATE adjustments SET lines = jsonb_set(lines::jsonb, '{0,quantity}', '7') WHERE stream_id = 'late'",
        "adjustments",
        "acme/late revision 1",
    ),
    (
        "UPDATE adjustments SET outcome = 'failed' WHERE stream_id = 'late'",
        "adjustments",
        "acme/late revision 1",
    ),
    (
        "UPDATE adjustments SET reason = 'late_facts' WHERE reason = 'rerate'",
        "adjustments",
        "acme/rerated revision 1",
    ),
    ("UPDATE manual_adjustments SET usd_cents = -2 WHERE stream_id IS NULL", "totals_hourly", "acme"),
    ("UPDATE resolutions SET action = 'write_off' WHERE stream_id = 'as-is'", "charges", "acme/as-is"),
    ("UPDATE interrupted_streams SET interrupted = false", "interrupted_streams", "acme/gone"),
    ("UPDATE interrupted_streams SET ended_at = ended_at - interval '1 s'", "interrupted_streams", "acme/gone"),
    ("UPDATE rates SET usd_per_million = 5.5 WHERE usd_per_million = 5", "rates", "rc_"),
    ("UPDATE markups SET percent = 11", "charges", "acme/completed"),
    ("UPDATE cancel_policies SET policy = 'delivered'", "charges", "acme/waived"),
    ("UPDATE cancel_policies SET version = 2", "cancel_policies", "openai version 2"),
    ("UPDATE totals_pending SET usd_cents = usd_cents + 0.01", "totals_hourly", "acme"),
    ("UPDATE totals_hourly SET usd_cents = usd_cents + 0.01", "totals_hourly", "acme"),
    ("UPDATE totals_hourly SET output_tokens = output_tokens + 1", "totals_hourly", "acme"),
    ("UPDATE totals_hourly SET web_searches = 4", "totals_hourly", "acme"),
    ("UPDATE totals_hourly SET upstream_usd_cents = 1", "totals_hourly", "acme"),
    ("UPDATE totals_daily SET audio_seconds = 2.5", "totals_daily", "acme"),
    ("UPDATE totals_daily SET usd_cents = usd_cents + 0.01", "totals_daily", "acme"),
    ("UPDATE totals_daily_by_customer SET stream_count = 0", "totals_daily_by_customer", "acme"),
    ("UPDATE totals_daily_by_model SET usd_cents = 0", "totals_daily_by_model", "2026-11-23"),
    ("UPDATE totals_daily_by_key SET output_tokens = 7", "totals_daily_by_key", "2026-11-23"),
    ("UPDATE totals_monthly SET usd_cents = usd_cents - 1", "totals_monthly", "acme"),
    ("UPDATE totals_monthly_by_customer SET stream_count = 1000", "totals_monthly_by_customer", "acme"),
    ("DELETE FROM journal WHERE journal_id = (SELECT min(journal_id) FROM journal)", "streams", "acme/completed"),
    ("DELETE FROM streams WHERE stream_id = 'completed'", "charges", "acme/completed"),
    ("DELETE FROM streams WHERE stream_id = 'open'", "streams", "acme/open"),
    ("DELETE FROM charges WHERE stream_id = 'gone'", "streams", "acme/gone"),
    ("DELETE FROM adjustments WHERE stream_id = 'late'", "streams", "acme/late"),
    ("DELETE FROM manual_adjustments WHERE stream_id IS NULL", "totals_hourly", "acme"),
    ("DELETE FROM interrupted_streams", "interrupted_streams", "acme/gone"),
    ("DELETE FROM totals_hourly WHERE outcome = 'cancelled'", "totals_hourly", "acme"),
]


@pytest.mark.parametrize(("change", "table", "key"), ELSEWHERE, ids=lambda value: value[:60])
def test_a_change_elsewhere_is_found(planting: Planting, change: str, table: str, key: str) -> None:
    planting.plant(change)
    assert [what for what in planting.audit() if what[0] == table and what[1].startswith(key)]


FAULTS = [
    ("1 AS stream_count", "2 AS stream_count"),
    ("b.bill_usd_cents AS", "b.charged_usd_cents AS"),
    ("FROM newest_bills b", "FROM entries b"),
    ("coalesce(b.input_tokens, 0)", "0"),
    ("m.usd_cents", "0"),
]


@pytest.mark.parametrize(("right", "wrong"), FAULTS, ids=lambda value: value[:30])
def test_a_fault_in_the_bills_that_totals_read_one_by_one_is_found(
    planting: Planting, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str
) -> None:
    query = total_checks.edge_bills(within=lambda column: f"{column} >= :begin AND {column} < :end")
    assert right in query
    monkeypatch.setattr(total_checks, "edge_bills", lambda **_: query.replace(right, wrong))
    assert {table for table, _, _ in planting.audit()} == {"edge bills"}


def test_an_unpriced_stream_has_time_to_be_seen_after_a_price_was_set(planting: Planting) -> None:
    """In books that are right, a price set a moment ago is no difference: a worker looks soon."""
    set_at = LATER + timedelta(hours=1)
    set_rate(
        engine=planting.books.service.engine,
        provider="anthropic",
        model="nobody-knows-it",
        rates=[Rate(kind=kind, usd_per_million=Decimal(2)) for kind in (UsageKind.INPUT, UsageKind.OUTPUT)],
        effective_from=T0 - timedelta(days=1),
        set_by="test",
        now=set_at,
    )
    in_time, too_late = set_at + timedelta(minutes=4), set_at + timedelta(minutes=6)
    assert planting.books.audit(now=in_time) == []
    assert [what[:2] for what in planting.books.audit(now=too_late)] == [("streams", "acme/unpriced")]
    planting.books.finalize(now=too_late)
    assert planting.books.audit(now=too_late) == []


def test_a_reason_that_no_price_gives_is_found_at_once(planting: Planting) -> None:
    planting.plant("UPDATE streams SET state_reason = 'so' WHERE stream_id = 'unpriced'")
    assert [what[:2] for what in planting.audit()] == [("streams", "acme/unpriced")]


def test_a_month_is_audited_apart(planting: Planting) -> None:
    engine = planting.books.service.engine
    november, october = BillingPeriod(2026, 11), BillingPeriod(2026, 10)
    planting.plant("UPDATE charges SET usd_cents = usd_cents + 1 WHERE stream_id = 'completed'")
    assert audit(engine=engine, now=LATER, period=november).difference_count > 0
    report = audit(engine=engine, now=LATER, period=october)
    assert (report.streams, report.differences) == (0, [])


def test_the_command_exits_with_2_and_names_the_row(planting: Planting) -> None:
    metering = CommandLine(planting.books.database)
    right = metering.run_apart("audit")
    assert (right.returncode, right.stdout) == (0, "nothing differs\n")
    assert "14 streams of 29 journaled events compared" in right.stderr
    planting.plant("UPDATE charges SET usd_cents = usd_cents + 1 WHERE stream_id = 'completed'")
    report = metering.json("audit", "--period", "2026-11", exits=2)
    assert {"table": "charges", "key": "acme/completed"}.items() <= report["differences"][0].items()
