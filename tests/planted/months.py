"""Faults in booking, totals, closing, invoices, pushing and reconciling."""

from tests.planted.fault import Fault

MONTHS = (
    Fault(
        "an adjustment books the whole new bill",
        "metering/ledger/entries.py",
        "usd_cents=difference(before=before, after=after),",
        "usd_cents=difference(before=None, after=after),",
        ("tests/ledger/test_finalize_due.py::test_late_facts_book_the_difference_and_leave_the_charge_as_it_was",),
    ),
    Fault(
        "totals keep the bill that was replaced",
        "metering/ledger/store/rollups.py",
        "for bill, sign in ((change.before, -1), (change.after, 1)):",
        "for bill, sign in ((change.after, 1),):",
        ("tests/ledger/test_finalize_due.py::test_late_facts_book_the_difference_and_leave_the_charge_as_it_was",),
    ),
    Fault(
        "a roll-up replaces the sum that it should add to",
        "metering/ledger/store/rollups.py",
        'return f"{name} = t.{name} + excluded.{name}"',
        'return f"{name} = excluded.{name}"',
        ("tests/ledger/test_rollups.py::test_rolled_up_tables_agree_with_each_other_and_nothing_is_left",),
    ),
    Fault(
        "hours beyond the end of UTC's month are taken from it",
        "metering/totals/queries/moved_months.py",
        '        "sign(", "-sign("\n',
        '        "sign(", "sign("\n',
        (
            "tests/months/test_one_figure_for_a_month.py"
            "::test_a_month_of_all_customers_sums_the_months_of_their_invoices",
        ),
    ),
    Fault(
        "a month of all customers forgets where the month before was closed",
        "metering/customers/queries/month_bounds.py",
        "THEN before.ends_at ELSE z.starts_at END",
        "THEN z.starts_at ELSE z.starts_at END",
        (
            "tests/months/test_one_figure_for_a_month.py"
            "::test_a_month_that_begins_where_one_of_another_zone_ended_has_one_figure",
        ),
    ),
    Fault(
        "a retry stays linked to a stream whose request was corrected",
        "metering/streams/store/retries.py",
        "c.request_key = ANY (t.retry_keys || t.request_key)",
        "c.request_key = t.request_key",
        ("tests/ledger/test_retries.py::test_a_start_that_wins_and_names_another_request_takes_the_link_back",),
    ),
    Fault(
        "a range of totals contains its end",
        "metering/totals/queries/edges.py",
        "AND {column} < :{prefix}tail_end))",
        "AND {column} <= :{prefix}tail_end))",
        (
            "tests/totals/test_parts_of_hours.py"
            "::test_a_stream_is_in_the_range_that_begins_at_its_end_and_not_in_the_one_that_ends_there",
        ),
    ),
    Fault(
        "bookings do not hold their months open",
        "metering/ledger/store/open_periods.py",
        "    share(connection, Lock.BOOKING)\n",
        "",
        (
            "tests/months/test_closing_and_booking.py"
            "::test_closing_waits_for_bookings_that_began_before_it_and_they_are_on_its_invoice",
        ),
    ),
    Fault(
        "a month is that of UTC",
        "metering/ledger/store/open_periods.py",
        "month = BillingPeriod.containing(at=at, time_zone=zone)",
        'month = BillingPeriod.containing(at=at, time_zone=ZoneInfo("UTC") if zone else zone)',
        ("tests/ledger/test_finalize_due.py::test_the_period_is_the_month_of_the_end_in_the_customers_zone",),
    ),
    Fault(
        "late usage is booked to its closed month",
        "metering/ledger/store/open_periods.py",
        "return month if self.first_open is None or month >= self.first_open else self.first_open",
        "return month",
        (
            "tests/months/test_close_months.py"
            "::test_what_settles_after_the_close_is_late_usage_of_the_next_month_with_its_own_dates",
        ),
    ),
    Fault(
        "closing does not wait for bookings",
        "metering/months/close_months.py",
        "        wait_for_bookings(engine)\n",
        "        pass\n",
        (
            "tests/months/test_closing_under_way.py::test_a_booking_that_is_under_way_when_its_month_closes_is_on_its_invoice",
        ),
    ),
    Fault(
        "a month closes while its streams may still settle",
        "metering/months/close_months.py",
        "unsettled = {} if forced else unsettled_streams(connection, ends)",
        "unsettled = {} if ends else unsettled_streams(connection, ends)",
        (
            "tests/months/test_close_months.py::test_a_month_with_streams_that_may_still_settle_stays_open_and_says_which",
        ),
    ),
    Fault(
        "a month has no grace",
        "metering/months/close_months.py",
        "until = at if run.force_reason else at - terms.grace",
        "until = at",
        (
            "tests/months/test_close_months.py::test_a_month_is_not_closed_before_its_grace_is_over_in_the_customers_zone",
        ),
    ),
    Fault(
        "an adjustment's rates forget the bill before it",
        "metering/months/queries/line_rates.py",
        "CROSS JOIN (VALUES (1), (-1)) AS bill (sign)",
        "CROSS JOIN (VALUES (1)) AS bill (sign)",
        ("tests/months/test_line_rates.py::test_an_adjustment_of_an_earlier_month_shows_what_it_changed",),
    ),
    Fault(
        "an invoice is open although its due date is over",
        "metering/stripe/invoice_status.py",
        "payment_due_at is not None and payment_due_at < now",
        "payment_due_at is not None and payment_due_at > now",
        ("tests/stripe/test_invoice_status.py::test_an_invoice_is_past_due_only_while_it_is_open",),
    ),
    Fault(
        "two runs invoice the same customer at once",
        "metering/months/store/closing.py",
        "ORDER BY c.customer_id FOR UPDATE SKIP LOCKED",
        "ORDER BY c.customer_id",
        ("tests/months/test_closing_under_way.py::test_a_customer_that_another_worker_invoices_is_let_be",),
    ),
    Fault(
        "an invoice rounds half up",
        "metering/months/invoice.py",
        "rounding=ROUND_FLOOR",
        'rounding="ROUND_HALF_UP"',
        ("tests/months/test_invoice.py::test_each_invoice_ties",),
    ),
    Fault(
        "a deferred month is not carried over",
        "metering/months/invoice.py",
        "carried_in = previous.remainder_usd_cents if previous else ZERO",
        "carried_in = previous.remainder_usd_cents if previous and previous.remainder_usd_cents < 1 else ZERO",
        (
            "tests/months/test_invoice.py"
            "::test_over_any_run_of_months_what_is_billed_and_what_remains_is_exactly_what_was_used",
        ),
    ),
    Fault(
        "the cents of lines go to the first lines",
        "metering/months/invoice.py",
        "return EXACT.subtract(amount, Decimal(floor_cents(amount)))",
        "return EXACT.subtract(amount, amount)",
        (
            "tests/months/test_invoice.py"
            "::test_the_cents_that_are_left_go_to_the_lines_that_lost_most_ties_to_the_lesser_key",
        ),
    ),
    Fault(
        "exactly the minimum is not billed",
        "metering/months/invoice.py",
        "billed = whole if whole >= max(minimum_cents, 1) else 0",
        "billed = whole if whole > max(minimum_cents, 1) else 0",
        ("tests/months/test_invoice.py::test_below_the_minimum_nothing_is_billed_and_all_of_it_is_carried_over",),
    ),
    Fault(
        "each attempt of a write has an idempotency key of its own",
        "metering/stripe/store/operations.py",
        "if newest is not None and newest.outcome is None:",
        "if newest is not None and newest.outcome is None and now < newest.sent_at:",
        (
            "tests/stripe/test_push_due.py::test_a_write_of_which_nobody_knows_whether_it_was_done_is_sent_again_under_its_key",
        ),
    ),
    Fault(
        "a push does not look for its invoice's mark",
        "metering/stripe/client/port.py",
        "found = {each.stripe_invoice_id: each for each in listed if mark_of(each) == wanted.mark}",
        "found = {each.stripe_invoice_id: each for each in listed if each.stripe_invoice_id == stripe_invoice_id}",
        ("tests/stripe/test_restored.py::test_an_invoice_that_was_pushed_after_the_backup_is_adopted",),
    ),
    Fault(
        "a worker that lost its lease writes on",
        "metering/stripe/store/pushes.py",
        "AND invoice_id = :push_invoice_id AND fence = :push_fence",
        "AND invoice_id = :push_invoice_id AND fence >= :push_fence",
        ("tests/stripe/test_push_due.py::test_a_worker_that_lost_its_lease_writes_no_more",),
    ),
    Fault(
        "a later invoice overtakes the one before",
        "metering/stripe/store/pushes.py",
        "AND e.period < s.period AND e.state = ANY(:under_way))",
        "AND e.period > s.period AND e.state = ANY(:under_way))",
        ("tests/stripe/test_push_due.py::test_a_later_invoice_waits_for_the_one_before",),
    ),
    Fault(
        "a webhook that comes again is taken again",
        "metering/stripe/store/pushes.py",
        '{**asdict(event), "now": now}).rowcount == 1',
        '{**asdict(event), "now": now}).rowcount <= 1',
        ("tests/stripe/test_webhook.py::test_a_webhook_that_comes_twice_is_kept_once",),
    ),
    Fault(
        "credits and bills of a repair cancel out under its cap",
        "metering/stripe/repair_drift.py",
        "cents = sum(abs(each.finding.cents) for",
        "cents = sum(each.finding.cents for",
        ("tests/stripe/test_reconcile.py::test_what_is_credited_and_what_is_billed_count_both_for_the_cap",),
    ),
    Fault(
        "a repair touches any number of customers",
        "metering/stripe/repair_drift.py",
        "if touched > allowed:",
        "if touched > customers:",
        ("tests/stripe/test_reconcile.py::test_repairs_over_the_caps_are_not_done",),
    ),
    Fault(
        "the audit compares terms with the log, and not what they say",
        "metering/audit/queries/log_checks.py",
        "AND (l.at, 'set by ' || l.actor, {from_}, {said})",
        "AND (l.at, 'set by ' || l.actor, {from_}, {stored})",
        ("tests/audit/test_audit_log.py::test_what_is_changed_beside_the_log_is_named",),
    ),
)
