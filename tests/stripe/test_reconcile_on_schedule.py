"""Reconciling by itself: once in a while, when nothing is under way, and without touching anything."""

import logging
from datetime import timedelta

import pytest

from metering.core.period import BillingPeriod
from metering.lab.stripe_local.faults import Fault
from metering.stripe.reconcile import reconcile, reconcile_newest_month
from metering.stripe.repair_drift import NO_REPAIRS
from tests.builders import Months

DAY = timedelta(days=1)


def due(months: Months) -> bool:
    return reconcile_newest_month(pusher=months.pusher(), every=DAY) is not None


def test_without_an_invoice_there_is_nothing_to_compare(months: Months) -> None:
    assert not due(months)


def test_it_waits_for_pushes_is_done_once_a_day_and_again_the_next(months: Months) -> None:
    months.month("acme")
    assert not due(months)
    months.push_all()
    assert due(months)
    assert not due(months)
    months.ahead += DAY
    assert due(months)
    rows = months.rows("SELECT period, requested_by, compared, repair FROM reconciliations")
    assert rows == [("2026-11", "the schedule", 1, False)] * 2


def test_one_that_failed_is_done_again(months: Months) -> None:
    months.month("acme")
    months.push_all()
    months.stripe.control.fail_next("GET /v1/invoices", Fault.ERROR_BEFORE)
    with pytest.raises(Exception, match="unknown error"):
        due(months)
    assert due(months)


def test_drift_is_logged_for_a_person_and_left_as_it_is(months: Months, caplog: pytest.LogCaptureFixture) -> None:
    months.month("acme")
    months.push_all()
    (invoice,) = months.stripe.client.v1.invoices.list().data
    months.stripe.control.edit(invoice.lines.data[0].id, {"amount": 90}, recompute=True)
    months.stripe.control.clear_requests()
    with caplog.at_level(logging.ERROR, logger="metering"):
        assert due(months)
    assert "metering reconcile" in caplog.text
    assert months.rows("SELECT drift_cents, repaired_at FROM drift_findings") == [(-10, None)]
    assert months.stripe.requests("POST") == []


def test_two_at_once_do_not_disturb_each_other_and_leave_no_snapshots(months: Months) -> None:
    months.month("acme", "other")
    months.push_all()
    inner = []

    def meanwhile(what: str, *_: int) -> None:
        if what == "reading Stripe's invoices" and not inner:
            inner.append(reconcile_newest_month(pusher=months.pusher(), every=timedelta(microseconds=1)))

    outer = reconcile(
        pusher=months.pusher(),
        period=BillingPeriod.parse("2026-11"),
        repair=False,
        caps=NO_REPAIRS,
        requested_by="test",
        progress=meanwhile,
    )
    assert [each.found for each in (outer, *inner)] == [[], []]
    assert [each.compared for each in (outer, *inner)] == [2, 2]
    assert months.rows("SELECT count(*) FROM stripe_snapshots") == [(0,)]


def test_snapshots_of_a_dead_reconciliation_are_deleted_a_day_later(months: Months) -> None:
    months.month("acme")
    months.push_all()
    months.execute(
        "INSERT INTO reconciliations (reconciliation_id, repair, requested_by, started_at)"
        " VALUES ('rec_dead', false, 'test', now());"
        "INSERT INTO stripe_snapshots VALUES ('rec_dead', 'in_1', 'inv_1', '{}')"
    )
    assert due(months)
    assert months.rows("SELECT reconciliation_id FROM stripe_snapshots") == [("rec_dead",)]
    months.ahead += DAY
    assert due(months)
    assert months.rows("SELECT count(*) FROM stripe_snapshots") == [(0,)]
